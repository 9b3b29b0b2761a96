"""The subtitled tasks: prompts equal to those of lmms-eval's own tasks, the budget, and what subtitle files lack."""

import importlib.util
import json
import os
import re
import shutil
from contextlib import nullcontext
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
from st_simdiff.lmms import local_videos
from st_simdiff.lmms.subtitle_files import MOST_BYTES, digest_of_folder
from st_simdiff.lmms.subtitles import (
    budget_of,
    check_has_effect,
    read_budget,
    refuse_without_subtitles,
    task_with_budget,
)
from st_simdiff.lmms.video_folders import refuse_empty
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
    if model == WRAPPER + "internvl_hf":
        settings["num_frames"] = 7  # that the model sees
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


@pytest.mark.parametrize("name", ["one.mkv", "one.WEBM"])
def test_subtitles_are_found_whatever_the_video_is_called(folder, name):
    put_videos(folder / name / "videomme/data", {"one": name})
    row = {"videoID": "one", "question": "What?", "options": ["A. None."]}
    given = {"frame_num": 32}
    expected = videomme.question_with_subtitles(row, given)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HF_HOME", str(folder / name))
        (folder / name / "videomme/subtitle").symlink_to(folder / "hf/videomme/subtitle")
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
    with pytest.raises(InputError, match=r"it takes those in .*/subtitles/<subtitle_path>;"):
        refuse_without_subtitles(["longvideobench_val_i_local"], home)
    with pytest.raises(InputError, match=r"those in .*/<videoID>\.mp4 \(or \.mkv, \.webm, .*\) only"):
        refuse_empty(["videomme_local"], home / "nowhere")
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
    assert left_out["two_0"] == (
        "its subtitles subtitles/two_en.json cannot be read "
        '(subtitle 1: "start" is a time such as "00:00:01.000", got 1)'
    )
    Path(home / "datasets/longvideobench/subtitles/three_en.json").unlink()
    with pytest.raises(SystemExit, match=r"no question can be asked; of the first one, its subtitles .* are missing"):
        longvideobench.keep_local_with_subtitles(datasets.Dataset.from_parquet(str(path)))


WHOLE = srt([(0.0, 1.0, "Hello."), (1.0, 2.0, "Bye.")])
TAG = '<font color="white" size=".72c">{}</font>'


def loss_of(path):
    return videomme.read_entries(path).loss


@pytest.mark.parametrize(
    ("text", "loss"),
    [
        (WHOLE, ""),
        ("", "0 of 0"),
        (" \n\n\n", "0 of 0"),
        (WHOLE[:-40], "1 of 2"),
        (WHOLE.replace("<", "<!"), "0 of 2"),
        (WHOLE.replace("Bye.", "<i>Bye.</i>"), ""),
        (WHOLE.replace("2\n00:00:01", "00:00:01"), "1 of 2"),
        (WHOLE.replace("\n\n2", "\n2"), "0 of 2"),
        (WHOLE.replace("Bye.", "Bye</font> <font>bye."), "1 of 2"),
        (
            "\ufeff1\n00:00:01,000 --> 00:00:02,000\n\n2\n00:00:02,000 --> 00:00:03,000\nA text\n\nof two parts.\n",
            "0 of 3",
        ),
    ],
)
def test_what_a_prompt_does_not_show_of_a_srt_file_is_told(tmp_path, text, loss):
    path = tmp_path / "one.srt"
    path.write_text(text)
    assert loss_of(path) == loss
    stock = [(start, end, text) for (start, end), text in stock_videomme.load_subtitles(path).items()]
    assert [(one.start, one.end, one.text) for one in videomme.read_entries(path).entries] == stock


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("<html>\n", "no subtitle is in it, line 1 is '<html>'"),
        (WHOLE + "\n2\n00:00:01 --> 00:00:02\nBye.\n", "line 11: 00:00:01,000 --> 00:00:02,000 is needed, got '00:0"),
        ("1\n0:0:1,0 --> " + "9" * 400 + ":0:0,0\nBye.", "line 2: 00:00:01,000 -->"),
    ],
)
def test_a_faulty_srt_file_is_told_with_its_line(tmp_path, text, fault):
    (tmp_path / "one.srt").write_text(text)
    with pytest.raises(InputError) as error:
        videomme.read_entries(tmp_path / "one.srt")
    assert str(error.value).startswith(fault)


def test_points_and_empty_lines_are_taken(tmp_path):
    path = tmp_path / "one.srt"
    path.write_text(WHOLE)
    expected = [(one.start, one.text.strip()) for one in videomme.read_entries(path).entries]
    for text in (WHOLE.replace(",", "."), WHOLE.replace("\n\n", "\n\n\n"), "\n" + WHOLE, WHOLE.replace("\n", "\r\n")):
        path.write_bytes(text.encode())
        assert [(one.start, one.text.strip()) for one in videomme.read_entries(path).entries] == expected
        assert loss_of(path) == ""


def test_only_regular_files_of_a_bounded_size_are_read(tmp_path):
    for suffix, doc, functions in (
        ("subtitle/one.srt", {"videoID": "one"}, videomme),
        ("subtitles/one.json", {"subtitle_path": "one.json"}, longvideobench),
    ):
        path = tmp_path / suffix
        path.parent.mkdir()
        before = digest_of_folder(path.parent, path.suffix)
        os.mkfifo(path)
        assert functions.what_is_wrong_with_subtitles(doc, tmp_path).endswith("cannot be read (it is no regular file)")
        assert digest_of_folder(path.parent, path.suffix) != before
        path.unlink()
        path.mkdir()
        assert functions.what_is_wrong_with_subtitles(doc, tmp_path).endswith("cannot be read (it is no regular file)")
        path.rmdir()
        with path.open("wb") as file:
            file.truncate(MOST_BYTES + 1)
        assert "and 16,777,216 at most are read" in functions.what_is_wrong_with_subtitles(doc, tmp_path)


CLOCK = {"start": "00:00:01", "end": "00:00:02", "line": "Bye."}


@pytest.mark.parametrize(
    ("subtitles", "fault"),
    [
        ([], ""),
        ([{"timestamp": [0.5, None], "text": "Hello."}, CLOCK], ""),
        ([{"timestamp": [29.0, 0.0], "text": "Hello."}], ""),
        ({"one": 1}, "a list of subtitles is needed, got dict"),
        (
            [{"timestamp": [0.5, 1.0], "text": "Hello."}, {"timestamp": [0.5], "text": "Bye."}],
            'subtitle 2: "timestamp" is',
        ),
        *(
            ([{"timestamp": [0.5, end], "text": ""}], 'subtitle 1: "timestamp" is')
            for end in (float("nan"), 1e308, True, -1)
        ),
        ([{"timestamp": [False, 1.0], "text": ""}], 'subtitle 1: "timestamp" is [1.0, 2.5], in seconds from 0, or'),
        ([{"timestamp": [0.5, 1.0], "text": None}], 'subtitle 1: its text is needed under "text", got None'),
        ([{"start": "00:00:01", "end": "00:00:02"}], 'subtitle 1: its text is needed under "line", got none'),
        ([{**CLOCK, "end": "00:00:nan"}], 'subtitle 1: "end" is a time such as "00:00:01.000", got \'00:00:nan\''),
        ([{"line": "Bye."}], 'subtitle 1: "start" is a time such as "00:00:01.000", got none'),
        (["Hello."], 'subtitle 1: {"timestamp": [1.0, 2.5], "text": "..."} or {"start": '),
    ],
)
def test_faulty_subtitles_of_longvideobench_are_told_with_their_number(tmp_path, subtitles, fault):
    (tmp_path / "one.json").write_text("\ufeff" + json.dumps(subtitles))
    with pytest.raises(InputError, match=re.escape(fault)) if fault else nullcontext():
        longvideobench.read_list(tmp_path / "one.json")


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({}, ""),
        ({"duration": 0.0}, "its duration is 0.0, and seconds above 0 are needed"),
        ({"duration": float("nan")}, "its duration is nan, and seconds above 0 are needed"),
        ({"starting_timestamp_for_subtitles": None}, "its starting_timestamp_for_subtitles is None, and seconds"),
        ({"subtitle_path": None}, "no file of subtitles is named (its subtitle_path is None)"),
    ],
)
def test_a_question_with_impossible_times_is_told(folder, change, fault):
    doc = {"duration": 12.0, "starting_timestamp_for_subtitles": 0.0, "subtitle_path": "one_en.json", **change}
    said = longvideobench.what_is_wrong_with_subtitles(doc, folder / "hf/datasets/longvideobench")
    assert said.startswith(fault)
    assert bool(said) == bool(fault)


@pytest.mark.parametrize(
    "text", ["<image>", "a <image> b", "<video>", "<|image_pad|>", "<vila/video>", "<IMG_CONTEXT>"]
)
def test_text_that_stands_for_an_image_is_parted_and_told(folder, tmp_path, monkeypatch, text):
    import datasets

    home = tmp_path / "hf"
    put_videos(home / "videomme/data")
    put_videos(home / "datasets/longvideobench/videos")
    monkeypatch.setenv("HF_HOME", str(home))
    (home / "videomme/subtitle").mkdir()
    (home / "videomme/subtitle/one.srt").write_text(srt([(0.0, 0.25, "Hello."), (0.25, 0.6, text)]))
    (home / "datasets/longvideobench/subtitles").mkdir()
    lines = [{"timestamp": [29.0, 0.0], "text": "Early."}, {"timestamp": [0.0, 9.0], "text": text}]
    (home / "datasets/longvideobench/subtitles/one_en.json").write_text(json.dumps(lines))
    said = []
    monkeypatch.setattr(local_videos, "logger", SimpleNamespace(warning=said.append))
    for functions, file, frames, place in (
        (videomme, "lmms-eval/Video-MME/test-00000-of-00001.parquet", 0, "subtitle/one.srt line 6"),
        (
            longvideobench,
            "longvideobench/LongVideoBench/validation-00000-of-00001.parquet",
            12,
            "subtitles/one_en.json subtitle 2",
        ),
    ):
        kept = functions.keep_local_with_subtitles(datasets.Dataset.from_parquet(str(folder / file)))
        given = {"frame_num": 32, "mark_frames": True, "pre_prompt": "", "post_prompt": ""}
        prompt = functions.question_with_subtitles(kept[0], given)
        assert text.replace("<", "< ") in prompt
        assert prompt.replace("< ", "").count("<image>") == prompt.count("<image>") == frames
        assert said[-1].endswith(f"is told with a space in it (< image>), in: {place}.")
    assert said[-2].endswith("as by lmms-eval: subtitles/one_en.json subtitle 1.")


def test_other_subtitle_files_are_another_run(folder, checkpoint, tmp_path):
    home = tmp_path / "hf"
    shutil.copytree(folder / "hf/videomme", home / "videomme")
    tasks = ["--tasks", "videomme_local,videomme_w_subtitle_local", "--output_path", str(tmp_path / "logs")]
    options = build_parser().parse_args(["eval", "--model_path", str(checkpoint), *tasks])

    def names():
        return [run.folder.name for run in make_plan(options, [], {"HF_HOME": str(home)}).runs]

    plain, subtitled = names()
    assert names() == [plain, subtitled]
    seen = {subtitled}
    for change in (
        lambda place: (place / "one.srt").write_text("changed"),
        lambda place: (place / "three.srt").write_text("new"),
        lambda place: (place / "two.srt").unlink(),
    ):
        change(home / "videomme/subtitle")
        again, subtitled = names()
        assert again == plain
        assert subtitled not in seen
        seen.add(subtitled)


def test_frames_are_shared_out_evenly():
    text = "<image>\nHello.\n<image>\nBye."
    assert place_frames(text, 5) == (text, [3, 2])
    assert place_frames(text, 1) == ("<image>\nHello.\nBye.", [1])
    assert place_frames("What is <image>?", 5) == ("What is <image>?", [])
    for frames in range(1, 40):
        _, sizes = place_frames("<image>\n" * 7, frames)
        assert sum(sizes) == frames
        assert max(sizes) - min(sizes) <= 1
