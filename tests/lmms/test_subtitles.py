"""The subtitled tasks: prompts equal to those of lmms-eval's own tasks, the budget, and what subtitle files lack."""

import importlib.util
import json
from functools import cache
from pathlib import Path
from types import SimpleNamespace

import lmms_eval.tasks.longvideobench.utils as stock_longvideobench
import lmms_eval.tasks.videomme.utils as stock_videomme
import pytest
from benchmark_fixtures import make_benchmarks, put_videos, srt
from lmms_eval.tasks import TaskManager
from made_videos import write_video

from st_simdiff.answering.interleaving import place_frames
from st_simdiff.cli import build_parser
from st_simdiff.errors import InputError
from st_simdiff.evaluate import embedded
from st_simdiff.evaluate.evaluations import read_evaluation
from st_simdiff.evaluate.grid import Combination
from st_simdiff.evaluate.planning import make_plan
from st_simdiff.lmms.subtitles import (
    budget_of,
    check_has_effect,
    read_budget,
    refuse_without_subtitles,
    task_with_budget,
)
from st_simdiff.vocabulary import WRAPPER

MODELS = ("llava_video", "nvila", "llava_vid", "qwen3_vl")


def functions_of(folder):
    path = embedded.TASKS_FOLDER.resolve() / folder / "utils.py"
    spec = importlib.util.spec_from_file_location(folder, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


videomme, longvideobench = functions_of("videomme_local"), functions_of("longvideobench_local")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The benchmarks, and of VideoMME a video with a subtitle in each of its 400 frames."""
    folder = tmp_path_factory.mktemp("subtitled")
    make_benchmarks(folder)
    home = folder / "hf/videomme"
    write_video(home / "data/long.mp4", frames=400)
    lines = [(number / 5 + 0.01, number / 5 + 0.21, f"Line {number}.") for number in range(400)]
    (home / "subtitle/long.srt").write_text(srt(lines))
    (home / "subtitle/three.srt").write_text("")
    return folder


@pytest.fixture(autouse=True)
def here(folder, monkeypatch):
    from lmms_eval.api.task import _resolve_hf_datasets_cache_dir

    monkeypatch.chdir(folder)
    monkeypatch.setenv("HF_HOME", str(folder / "hf"))
    monkeypatch.setattr(stock_videomme, "base_cache_dir", str(folder / "hf"))
    monkeypatch.setenv("LMMS_EVAL_DATASETS_CACHE", str(folder / "cache"))
    _resolve_hf_datasets_cache_dir.cache_clear()
    yield
    _resolve_hf_datasets_cache_dir.cache_clear()


@cache
def manager():
    """Knows the tasks of this project and those that they follow."""
    stock = [str(Path(one.__file__).parent) for one in (stock_videomme, stock_longvideobench)]
    return TaskManager(include_path=[str(embedded.TASKS_FOLDER), *stock], include_defaults=False)


def both(model, task, frames=None):
    """This project's task and lmms-eval's, as they are loaded for `model`."""
    manager().model_name = model
    tasks = (task_with_budget(task, budget_of(task, model, frames)), task.removesuffix("_local"))
    return [next(iter(manager().load_task_or_group([one]).values())) for one in tasks]


@pytest.mark.parametrize("model", MODELS)
def test_prompts_are_those_of_the_stock_tasks(model):
    ours, stock = both(model, "videomme_w_subtitle_local")
    rows = {row["videoID"]: row for row in stock.dataset["test"]}
    rows["long"] = {**rows["one"], "videoID": "long"}
    for name in ("one", "two", "missing", "long"):
        assert ours.doc_to_text(rows[name]) == stock.doc_to_text(rows[name]), name
    assert "Here is one.\nIt has wheels.\n" in ours.doc_to_text(rows["one"])
    assert "below: \nNo subtitles available\n" in ours.doc_to_text(rows["missing"])
    ours, stock = both(model, "longvideobench_val_i_local")
    for row in stock.dataset["validation"]:
        expected = stock.doc_to_text(row)
        assert expected.count("<image>") == 12
        marked = model in ("llava_video", "nvila")
        assert ours.doc_to_text(row) == (expected if marked else expected.replace("<image>", ""))
        assert f"\nThe door of {row['video_id']}\n" in expected
        assert "Much later" not in expected


@pytest.mark.parametrize("frames", [1, 7, 60, "all"])
def test_a_budget_is_the_number_of_frames_with_their_subtitles(frames):
    ours, stock = both("llava_video", "videomme_w_subtitle_local", frames)
    row = {**stock.dataset["test"][0], "videoID": "long"}
    number = -1 if frames == "all" else frames
    prompt = ours.doc_to_text(row)
    assert prompt == stock_videomme.videomme_doc_to_text_subtitle(row, {"frame_num": number})
    shown = [int(line[5:-1]) for line in prompt.splitlines() if line.startswith("Line ")]
    assert len(shown) == (400 if frames == "all" else frames)
    assert (frames == 60) == (shown != sorted(shown))  # the order of lmms-eval's set


def test_the_budget_of_interleaved_subtitles_is_the_number_of_frames():
    ours, _ = both("llava_video", "longvideobench_val_i_local", 4)
    prompt = ours.doc_to_text(ours.dataset["validation"][0])
    assert prompt.startswith("<image>\n<image>\n<image>\nopens.\n<image>\nWhat happens")


def test_a_swept_budget_gives_runs_of_their_own_with_one_model(folder, checkpoint):
    tasks = ["--tasks", "videomme_local,videomme_w_subtitle_local", "--sweep", "subtitle_frames=4,all"]
    options = build_parser().parse_args(["eval", "--model_path", str(checkpoint), "--retention", "0.5", *tasks])
    plan = make_plan(options, [], {"HF_HOME": str(folder / "hf")})
    assert [(run.task, run.label, run.protocol.get("subtitle_frames")) for run in plan.runs] == [
        ("videomme_local", "st_simdiff, retention 0.5", None),
        ("videomme_w_subtitle_local", "st_simdiff, retention 0.5, subtitle_frames 4", 4),
        ("videomme_w_subtitle_local", "st_simdiff, retention 0.5, subtitle_frames all", "all"),
    ]
    assert len(plan.batches) == 1
    assert "subtitle_frames" not in str([run.settings for run in plan.runs])


@pytest.mark.parametrize("model", ["llava_video", "nvila", *(WRAPPER + name for name in ("qwen2_5_vl", "internvl_hf"))])
@pytest.mark.parametrize(("own", "common"), [("4", None), (4, None), (None, 4)])
def test_a_budget_is_that_of_the_evaluation_with_any_model(model, own, common):
    settings = {"method": "full"} if own is None else {"method": "full", "subtitle_frames": own}
    for task, expected in (("videomme_w_subtitle_local", 4), ("videomme_local", None)):
        evaluation, _ = read_evaluation(Combination(model, task, settings), "x", common)
        assert evaluation.subtitle_frames == expected
        assert "subtitle_frames" not in evaluation.settings


def test_budgets_are_checked():
    assert [budget_of("videomme_w_subtitle_local", f"st_simdiff_{name}", None) for name in ("qwen3_vl", "x")] == [
        768,
        32,
    ]
    assert budget_of("videomme_local", "llava_video", None) is None
    with pytest.raises(InputError, match="subtitle_frames is for the subtitled tasks, which are videomme_w"):
        check_has_effect(8, ["videomme_local"])
    with pytest.raises(InputError, match="subtitle_frames is their number, got all"):
        read_budget("longvideobench_val_i_local", None, "all")


def test_subtitles_are_found_whatever_the_video_is_called(folder):
    put_videos(folder / "other/videomme/data", {"one": "one.mkv"})
    row = {"videoID": "one", "question": "What?", "options": ["A. None."]}
    given = {"frame_num": 32}
    expected = videomme.question_with_subtitles(row, given)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HF_HOME", str(folder / "other"))
        (folder / "other/videomme/subtitle").symlink_to(folder / "hf/videomme/subtitle")
        assert videomme.question_with_subtitles(row, given) == expected
    assert "Here is one." in expected


def test_what_subtitles_lack_is_told(folder, tmp_path, monkeypatch):
    import datasets

    home = tmp_path / "hf"
    put_videos(home / "videomme/data")
    put_videos(home / "datasets/longvideobench/videos")
    monkeypatch.setenv("HF_HOME", str(home))
    with pytest.raises(
        InputError, match=r"No subtitles of task videomme_w_subtitle_local are present: .*<videoID>\.srt"
    ):
        refuse_without_subtitles(["videomme_w_subtitle_local"], home)
    for place, name, text in (
        ("videomme/subtitle", "one.srt", "1\nnever\nHello\n\n"),
        ("datasets/longvideobench/subtitles", "two_en.json", '[{"start": 1}]'),
        ("datasets/longvideobench/subtitles", "three_en.json", "[]"),
    ):
        (home / place).mkdir(exist_ok=True)
        (home / place / name).write_text(text)
    refuse_without_subtitles(["videomme_w_subtitle_local", "longvideobench_val_i_local"], home)
    said = []
    monkeypatch.setattr(videomme, "logger", SimpleNamespace(warning=said.append))
    questions = datasets.Dataset.from_parquet(str(folder / "lmms-eval/Video-MME/test-00000-of-00001.parquet"))
    kept = videomme.keep_local_with_subtitles(questions)
    assert kept["videoID"] == ["two", "three", "corrupt"]
    (left_out,) = json.loads(kept["questions_left_out"][0])[:1]
    assert left_out[2] == (
        "its subtitles subtitle/one.srt cannot be read (line 2: 00:00:01,000 --> 00:00:02,000 is needed, got 'never')"
    )
    assert said[0].endswith('asked with "No subtitles available", as by lmms-eval: 3 videos: two, three, corrupt')
    path = folder / "longvideobench/LongVideoBench/validation-00000-of-00001.parquet"
    kept = longvideobench.keep_local_with_subtitles(datasets.Dataset.from_parquet(str(path)))
    assert kept["video_id"] == ["three"]
    left_out = {question: reason for question, _, reason in json.loads(kept["questions_left_out"][0])}
    assert left_out["one_0"] == "its subtitles subtitles/one_en.json are missing"
    assert left_out["two_0"] == "its subtitles subtitles/two_en.json cannot be read (subtitle 1: KeyError: 'end')"
    Path(home / "datasets/longvideobench/subtitles/three_en.json").unlink()
    with pytest.raises(SystemExit, match=r"no question can be asked; of the first one, its subtitles .* are missing"):
        longvideobench.keep_local_with_subtitles(datasets.Dataset.from_parquet(str(path)))


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("", ""),
        (srt([(0.0, 1.0, "Hello."), (1.0, 2.0, "Bye.")]), ""),
        ("\ufeff1\n00:00:01,000 --> 00:00:02,000\n\n2\n00:00:02,000 --> 00:00:03,000\nA text\n\nof two parts.\n", ""),
        ("<html>\n", "no subtitle is in it, line 1 is '<html>'"),
        (srt([(0.0, 1.0, "Hello.")]) + "2\n00:00:01.000 --> 00:00:02.000\nBye.\n", "line 6: 00:00:01,000 -->"),
    ],
)
def test_a_faulty_srt_file_is_told_with_its_line(tmp_path, text, fault):
    assert videomme.find_fault(text).startswith(fault)
    assert bool(videomme.find_fault(text)) == bool(fault)
    (tmp_path / "one.srt").write_text(text)
    if not fault:
        stock_videomme.load_subtitles(tmp_path / "one.srt")


@pytest.mark.parametrize(
    ("subtitles", "fault"),
    [
        ([], ""),
        ([{"timestamp": [0.5, None], "text": "Hello."}, {"start": "00:00:01", "end": "00:00:02", "line": "Bye."}], ""),
        ({"one": 1}, "a list of subtitles is needed, got dict"),
        ([{"timestamp": [0.5, 1.0], "text": "Hello."}, {"timestamp": [0.5], "text": "Bye."}], "subtitle 2: ValueError"),
        ([{"timestamp": [0.5, 1.0], "text": None}], "subtitle 1: its text is None"),
        (["Hello."], "subtitle 1: TypeError"),
    ],
)
def test_faulty_subtitles_of_longvideobench_are_told_with_their_number(subtitles, fault):
    assert longvideobench.find_fault(subtitles).startswith(fault)
    assert bool(longvideobench.find_fault(subtitles)) == bool(fault)


def test_frames_are_shared_out_evenly():
    text = "<image>\nHello.\n<image>\nBye."
    assert place_frames(text, 5) == (text, [3, 2])
    assert place_frames(text, 1) == ("<image>\nHello.\nBye.", [1])
    assert place_frames("What is <image>?", 5) == ("What is <image>?", [])
    for frames in range(1, 40):
        _, sizes = place_frames("<image>\n" * 7, frames)
        assert sum(sizes) == frames
        assert max(sizes) - min(sizes) <= 1
