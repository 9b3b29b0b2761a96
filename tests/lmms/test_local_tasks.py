"""This project's benchmark tasks, offline, on a few questions of every official schema, answered from a script."""

import json
import random
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import lmms_eval.tasks
import pytest
import yaml
from benchmark_fixtures import GOOD, MVBENCH_FOLDERS, make_benchmarks
from lmms_eval.api.instance import GenerationResult, TokenCounts
from lmms_eval.api.model import lmms
from lmms_eval.tasks import get_task_dict

from st_simdiff.lmms import local_videos
from st_simdiff.lmms.local_videos import coverage_percent, describe, settled_guess, sort_out
from st_simdiff.lmms.subtitles import SUBTITLE_FRAMES
from st_simdiff.lmms.task_manager import ModelTasks, tasks_of
from st_simdiff.lmms.wrappers.requests import with_videos_told
from st_simdiff.runs.coverage import LeftOut
from st_simdiff.videos import VideoError, sample_frames
from st_simdiff.vocabulary import LOCAL, MVBENCH, MVBENCH_PARTS, TASKS, UNREADABLE_ANSWER

TASK_NAMED = {task.name: task for task in TASKS}
RUN = [task.name for task in TASKS if not task.name.startswith("mvbench")]
RUN += [f"mvbench_{part}_local" for part in MVBENCH_FOLDERS]
TASKS_FOLDER = Path(__file__).parents[2] / "lmms_eval" / "tasks"
STOCK_FOLDER = Path(lmms_eval.tasks.__file__).parent


class Scripted(lmms):
    """Says B, which is right, but A about the video `two`; reads a frame of every video, as a model would."""

    is_simple = True

    def loglikelihood(self, requests):
        raise NotImplementedError

    def generate_until_multi_round(self, requests):
        raise NotImplementedError

    def generate_until(self, requests):
        return [GenerationResult(self._answer(*request.args[2:]), TokenCounts()) for request in requests]

    def _answer(self, doc_to_visual, doc_id, task, split):
        (video,) = doc_to_visual(self.task_dict[task][split][doc_id])
        try:
            sample_frames(video, 1)
        except VideoError:
            return UNREADABLE_ANSWER
        return "A" if Path(video).stem == "two" else "B"


@pytest.fixture(scope="module")
def evaluate(tmp_path_factory):
    """evaluate(tasks): what lmms-eval gives for the scripted model, where the fixtures are."""
    from lmms_eval.api.task import _resolve_hf_datasets_cache_dir
    from lmms_eval.evaluator import simple_evaluate
    from lmms_eval.tasks import TaskManager

    folder = tmp_path_factory.mktemp("benchmarks")
    make_benchmarks(folder)
    manager = TaskManager(include_path=str(TASKS_FOLDER))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("HF_HOME", str(folder / "hf"))
        patch.setenv("LMMS_EVAL_DATASETS_CACHE", str(folder / "cache"))
        _resolve_hf_datasets_cache_dir.cache_clear()
        yield lambda tasks: simple_evaluate(Scripted(), tasks=tasks, task_manager=manager, bootstrap_iters=0)
    _resolve_hf_datasets_cache_dir.cache_clear()


@pytest.fixture(scope="module")
def evaluated(evaluate):
    return evaluate(RUN)


SHARES = ("lvb_acc", "relation", "perception", "score")
"""Metrics that lmms-eval writes as a share; the others are in percent."""
SCORES = {
    "videomme_local": {"videomme_perception_score": 200 / 3, "short": 100, "medium": 0, "long": 100},
    "videomme_w_subtitle_local": {"videomme_perception_score": 200 / 3, "short": 100, "medium": 0, "long": 100},
    "longvideobench_val_v_local": {"lvb_acc": 0.66667, "relation": 1, "perception": 0},
    "longvideobench_val_i_local": {"lvb_acc": 0.66667, "relation": 1, "perception": 0},
    "egoschema_subset_local": {"score": 2 / 3},
    "mlvu_dev_local": {"mlvu_percetion_score": (100 + 0) / 2},
    **{f"mvbench_{part}_local": {"mvbench_accuracy": 200 / 3} for part in MVBENCH_FOLDERS},
}


@pytest.mark.parametrize("task", SCORES)
def test_scores_are_those_of_the_readable_videos(evaluated, task):
    """Two of the three are answered rightly, the one about the video `two` is not. MLVU averages over two kinds."""
    found = evaluated["results"][task]
    assert {metric: found[f"{metric},none"] for metric in SCORES[task]} == pytest.approx(SCORES[task])
    assert set(SCORES[task]) == {TASK_NAMED[task].metric, *TASK_NAMED[task].splits}


@pytest.mark.parametrize("task", RUN)
def test_a_missing_an_empty_and_a_corrupt_video_cost_one_question_each_and_are_recorded(evaluated, task):
    samples = evaluated["samples"][task]
    rows = [sample["coverage"] for sample in samples]
    in_all = 7 if task == "egoschema_local" else 6
    assert evaluated["results"][task]["coverage,none"] == pytest.approx(100 * len(GOOD) / in_all)
    assert {row["in_all"] for row in rows} == {in_all}
    assert [Path(row["video"]).stem for row in rows if not row["readable"]] == ["corrupt"]
    left_out = {Path(video).stem: reason for row in rows for _, video, reason in row["left_out"]}
    assert {"missing": "missing", "empty": "empty"}.items() <= left_out.items()
    assert len(left_out) == in_all - len(samples)
    (unreadable,) = [sample for sample in samples if not sample["coverage"]["readable"]]
    assert TASK_NAMED[task].metric not in unreadable
    assert unreadable["filtered_resps"] == [UNREADABLE_ANSWER]


def test_the_submission_has_the_answers_and_is_sent_nowhere(evaluated):
    path = Path(evaluated["results"]["egoschema_local"]["submission,none"])
    assert json.loads(path.read_text()) == {"one": 1, "two": 0, "three": 1}


def test_rows_tell_question_and_video(evaluated):
    """What the stock rows of MLVU and MVBench lack, for intervals over videos and for pairing runs."""
    for task in ("mlvu_dev_local", "mvbench_action_sequence_local"):
        samples = [sample for sample in evaluated["samples"][task] if sample["coverage"]["readable"]]
        rows = [sample[TASK_NAMED[task].metric] for sample in samples]
        folder = "star/Charades_segment/" if "mvbench" in task else ""
        assert [row["video"] for row in rows] == [f"{folder}{name}.mp4" for name in GOOD]
        assert [row["question_id"].partition(":")[0] for row in rows] == [f"{name}.mp4" for name in GOOD]
        assert [row["score"] for row in rows] == [1, 0, 1]


def test_a_benchmark_without_a_video_ends_with_one_sentence(evaluate, monkeypatch, tmp_path):
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    with pytest.raises(SystemExit, match=r"^mlvu: no video of its 6 questions is in .*, where <video_name>"):
        evaluate(["mlvu_dev_local"])


def test_a_part_of_mvbench_without_a_video_file_does_not_end_the_others(evaluate):
    """The one question of `episodic_reasoning` has a folder of frames, that of `state_change` nothing."""
    parts = [f"mvbench_{part}_local" for part in ("episodic_reasoning", "state_change", "moving_count")]
    found = evaluate(parts)
    assert found["results"][parts[2]]["mvbench_accuracy,none"] == pytest.approx(200 / 3)
    for part in parts[:2]:
        (sample,) = found["samples"][part]
        assert not sample["coverage"]["readable"]
        assert found["results"][part]["coverage,none"] == 0
        assert "mvbench_accuracy,none" not in found["results"][part]


@pytest.mark.parametrize("task", [*RUN, "clips", f"{TASKS_FOLDER.resolve()}/videomme_local/videomme_local.yaml"])
@pytest.mark.usefixtures("evaluate")
def test_a_chat_class_gets_what_a_simple_class_gets(task):
    """As `st-simdiff eval` names the task to lmms-eval: the messages have the same videos, and then the same text."""
    manager = ModelTasks(include_path=str(TASKS_FOLDER), include_defaults=False)
    run = SimpleNamespace(task=task, protocol={SUBTITLE_FRAMES: 4})
    asked = {}
    for simple in (True, False):
        manager.serve(SimpleNamespace(is_simple=simple))
        (loaded,) = get_task_dict(tasks_of(run, manager), manager, manager.kind).values()
        loaded.build_all_requests(rank=0, world_size=1)
        asked[simple] = [with_videos_told(request, str) for request in loaded.instances]
    documents = loaded.eval_docs
    assert len(asked[True]) == len(asked[False]) == len(documents) > 1
    for by_simple, by_chat in zip(asked[True], asked[False], strict=True):
        text, settings, doc_to_visual, number, *_ = by_simple.args
        _, doc_to_messages, *others = by_chat.args
        videos = [{"type": "video", "url": video} for video in doc_to_visual(documents[number])]
        content = [*videos, {"type": "text", "text": text}]
        assert doc_to_messages(documents[number]) == [{"role": "user", "content": content}]
        assert others[:2] == [settings, number]
        assert len(videos) == 1


@pytest.mark.parametrize("task", [task for task in TASKS if "mvbench" not in task.name or "state" in task.name])
def test_questions_are_asked_and_scored_as_by_the_stock_task(task):
    """The same data, prompts, functions and generation settings as in lmms-eval's own yaml."""
    ours, stock = (_yaml(folder, name) for folder, name in ((TASKS_FOLDER, task.name), (STOCK_FOLDER, task.stock)))
    same = ["dataset_path", "dataset_name", "test_split", "generation_kwargs"]
    for key in same if task.subtitles else [*same, "lmms_eval_specific_kwargs"]:
        assert ours.get(key) == stock.get(key), key
    for key in ("doc_to_target",) if task.subtitles else ("doc_to_text", "doc_to_target"):
        assert str(ours[key]).rpartition(".")[2] == str(stock[key]).rpartition(".")[2], key
    assert ours["metric_list"][0]["metric"] == stock["metric_list"][0]["metric"]


def _yaml(folder: Path, task: str) -> dict:
    class Loader(yaml.SafeLoader):
        pass

    Loader.add_constructor("!function", lambda loader, node: loader.construct_scalar(node))
    (path,) = folder.resolve().rglob(f"{task}.yaml")
    config = yaml.load(path.read_text(), Loader)
    if "include" in config:
        config = {**yaml.load((path.parent / config["include"]).read_text(), Loader), **config}
    return config


def test_every_part_of_mvbench_has_its_task_in_the_group():
    from lmms_eval.tasks.mvbench.utils import DATA_LIST

    assert set(MVBENCH_PARTS) == set(DATA_LIST)
    assert _yaml(TASKS_FOLDER, MVBENCH + LOCAL)["task"] == [f"mvbench_{part}_local" for part in MVBENCH_PARTS]
    for part in MVBENCH_PARTS:
        ours, stock = _yaml(TASKS_FOLDER, f"mvbench_{part}_local"), _yaml(STOCK_FOLDER, f"mvbench_{part}")
        assert ours["lmms_eval_specific_kwargs"] == stock["lmms_eval_specific_kwargs"]
        assert ours["dataset_name"] == stock["dataset_name"] == part


def test_mlvu_takes_the_mean_over_the_kinds_asked(monkeypatch):
    monkeypatch.syspath_prepend(str(TASKS_FOLDER.resolve() / "mlvu_local"))
    from lmms_eval.tasks.mlvu.utils import mlvu_aggregate_results_dev
    from utils import KINDS, mean_over_kinds

    kinds = ("anomaly_reco", "count", "ego", "needle", "order", "plotQA", "topic_reasoning")
    rows = [{"task_type": kind, "pred_answer": "A", "answer": "AB"[i % 2]} for i, kind in enumerate(kinds)]
    assert len(kinds) == KINDS
    assert mean_over_kinds(rows) == pytest.approx(mlvu_aggregate_results_dev(rows))
    assert mean_over_kinds(rows[:2]) == pytest.approx(50)
    assert mlvu_aggregate_results_dev(rows[:2]) == pytest.approx(100 / 7)


def guess(question):
    with settled_guess(question):
        return random.choice("ABCDE")


def test_a_guess_depends_on_the_question_alone():
    questions = [f"v{number}_0" for number in range(200)]
    alone = [guess(question) for question in questions]
    assert len(Counter(alone)) == 5
    state = random.getstate()
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(guess, questions)) == alone
    assert random.getstate() == state


def test_what_is_left_out_is_named(tmp_path):
    (tmp_path / "a.mp4").write_text("x")
    (tmp_path / "b.mp4").touch()
    (tmp_path / "c.mp4").mkdir()
    documents = [{"id": f"{name}{number}", "v": f"{name}.mp4"} for name in "abcd" for number in (1, 2)]
    kept, left_out = sort_out(documents, lambda doc: [doc["v"]], lambda doc: doc["id"], tmp_path)
    assert kept == [0, 1]
    assert left_out[0] == LeftOut("b1", "b.mp4", "empty")
    assert [one.reason for one in left_out[::2]] == ["empty", "a folder, not a video file", "missing"]
    assert describe("x", len(kept), left_out) == (
        "x: 2 of 8 questions are asked; left out are those about 3 videos: b.mp4 (empty), "
        "c.mp4 (a folder, not a video file), d.mp4 (missing)."
    )
    many = [LeftOut(str(number), f"{number}.mp4", "missing") for number in range(1200)]
    assert describe("x", 0, many).endswith("9.mp4 (missing) and 1,190 more.")


def test_coverage_counts_what_could_be_read():
    rows = [{"in_all": 8, "readable": readable} for readable in (True, True, False)]
    assert coverage_percent(rows) == 25


def test_a_long_list_of_places_is_cut(monkeypatch):
    said = []
    monkeypatch.setattr(local_videos, "logger", SimpleNamespace(warning=said.append))
    local_videos.warn("x", "odd", [])
    local_videos.warn("x", "odd", list(map(str, range(1200))))
    assert len(said) == 1
    assert said[0].endswith(", 199 and 1,000 more.")
