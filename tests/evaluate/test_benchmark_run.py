"""One command over every benchmark and a task of the user's own, with videos that are missing, empty and corrupt."""

import json
from pathlib import Path

import pytest
from benchmark_fixtures import MVBENCH_FOLDERS, make_benchmarks
from made_videos import write_video

from st_simdiff.report.comparison import Comparer
from st_simdiff.report.reading import read_logs
from st_simdiff.runs.journal import Journal
from st_simdiff.runs.unreadable import unreadable_videos
from st_simdiff.vocabulary import LOCAL, MVBENCH, TASKS, UNREADABLE_ANSWER

BENCHMARKS = [task for task in TASKS if "mvbench" not in task.name]
OWN_VIDEOS = {
    "good.mp4": None,
    "corrupt.mp4": "no video can be read from this file: it is no video of a kind that is read",
    "frameless.mp4": "no video can be read from this file: it has no picture",
    "missing.mp4": "there is no such video file",
    "other.mp4": None,
}
"""What the questions of the task `own` are about, and why it cannot be read."""


def write_own_task(folder: Path) -> None:
    """A task that knows nothing of missing videos, as most of lmms-eval's own."""
    folder.mkdir()
    write_video(folder / "good.mp4", frames=3)
    write_video(folder / "other.mp4", frames=2)
    write_video(folder / "frameless.mp4", frames=0)
    (folder / "corrupt.mp4").write_bytes(bytes(range(256)) * 64)
    rows = [{"video": str(folder / name), "question": "What is seen?", "answer": "A"} for name in OWN_VIDEOS]
    (folder / "questions.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "utils.py").write_text('def video_of(doc):\n    return [doc["video"]]\n')
    (folder / "own.yaml").write_text(
        "task: own\ndataset_path: json\ndataset_kwargs:\n  data_files:\n    test: questions.jsonl\ntest_split: test\n"
        "output_type: generate_until\ndoc_to_visual: !function utils.video_of\ndoc_to_text: question\n"
        "doc_to_target: answer\ngeneration_kwargs:\n  max_new_tokens: 2\nmetric_list:\n  - metric: exact_match\n"
    )


@pytest.fixture(scope="module")
def run(checkpoint, start, tmp_path_factory):
    folder = tmp_path_factory.mktemp("all")
    make_benchmarks(folder)
    write_own_task(folder / "tasks")
    tasks = ",".join(["own", *(task.name for task in BENCHMARKS), MVBENCH + LOCAL])
    options = ["--tasks", tasks, "--model_path", checkpoint, "--model_args", "max_frames_num=2"]
    return start(["st_simdiff", "eval", *options, "--", "--include_path", folder / "tasks"], folder=folder).result()


@pytest.fixture(scope="module")
def read(run):
    """What the report reads of the run, by task."""
    assert run.code == 0, run.output
    logs = read_logs(run.folder / "logs")
    assert logs.problems == ()
    return {task_run.asked_as: task_run for task_run in logs.runs}


@pytest.mark.parametrize("task", BENCHMARKS, ids=lambda task: task.name)
def test_every_benchmark_is_scored_on_its_readable_videos(read, task):
    found = read[task.name]
    in_all = 7 if task.name == "egoschema_local" else 6
    assert (found.task, found.metric) == (task.stock, task.metric)
    assert (found.coverage.scored, found.coverage.in_all) == (3, in_all)
    assert [Path(video).stem for video in found.coverage.unreadable] == ["corrupt"]
    assert {Path(one.video).stem: one.reason for one in found.coverage.left_out}.items() >= {
        ("missing", "missing"),
        ("empty", "empty"),
    }
    estimate = Comparer().estimate(found)
    if task.answers:
        assert estimate.questions == 3
        assert found.reported is not None
    else:
        assert estimate is None
    assert found.mean_count("visual_tokens_kept") == 6
    budgets = {"videomme_w_subtitle": "32", "longvideobench_val_i": "16"}
    assert found.condition.protocol.get("subtitle_frames") == budgets.get(task.stock)


def test_mvbench_is_one_benchmark(read):
    found = read[MVBENCH + LOCAL]
    assert set(MVBENCH_FOLDERS) <= set(found.group_values("part"))
    assert [Path(video).stem for video in found.coverage.unreadable].count("corrupt") == len(MVBENCH_FOLDERS)
    assert not any("corrupt" in document.video for document in found.documents)


def test_lmms_evals_own_task_scores_an_unreadable_video_and_the_report_does_not(run, read):
    found = read["own"]
    assert len(found.documents) == 2
    assert len(found.coverage.unreadable) == 3
    assert found.coverage.counted_wrong
    rows = run.samples("own")
    unreadable = [rows[number]["filtered_resps"] == UNREADABLE_ANSWER for number in range(5)]
    assert unreadable == [False, True, True, True, False]


def test_every_video_that_was_not_seen_is_listed(run):
    for name, reason in OWN_VIDEOS.items():
        assert (f"Not read: {run.folder / 'tasks' / name}: {reason}." in run.output) == (reason is not None)
    for task in (*BENCHMARKS, MVBENCH + LOCAL):
        assert f"{getattr(task, 'name', task)}, ST-SimDiff at 0.3: " in run.output
    assert "3 of 6 questions scored; 2 questions left out: data/missing.mp4 (missing)" in run.output
    assert "Traceback" not in run.output


def test_the_submission_lies_with_its_run(run):
    (path,) = run.folder.rglob("submissions/*.json")
    assert path.is_relative_to(run.folder / "logs")
    assert json.loads(path.read_text()).keys() == {"one", "two", "three"}


def test_a_video_that_could_be_read_after_all_is_not_listed(tmp_path):
    first, second = Journal(tmp_path, 0), Journal(tmp_path, 1)
    for number, video in enumerate(("a", "b", "b")):
        place = {"task": "t", "doc_id": number, "index": 0, "asked": "x"}
        first.write({**place, "video": video, "unreadable": f"{video}: gone"})
    second.write(
        {
            "task": "t",
            "doc_id": 0,
            "index": 0,
            "asked": "x",
            "answer": "A",
            "counts": {"input_tokens": 1, "output_tokens": 1},
        }
    )
    assert unreadable_videos(tmp_path) == [("b", "b: gone")]
    assert unreadable_videos(tmp_path / "nothing") == []
