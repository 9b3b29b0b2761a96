"""What is written to disk is what was drawn, and lmms-eval's task reads it."""

import importlib.util
import json

import numpy as np
import pyarrow.parquet as parquet
import pytest

from st_simdiff.errors import InputError
from st_simdiff.synth import embedded
from st_simdiff.synth.__main__ import main
from st_simdiff.synth.dataset import draw_split, write_dataset, write_video
from st_simdiff.synth.world import WORLDS, draw_clip, render
from st_simdiff.videos import sample_frames


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    return embedded.prepare(tmp_path_factory.mktemp("cache"), questions=20)


@pytest.fixture(scope="module")
def documents(prepared):
    return parquet.read_table(prepared[1] / "test.parquet").to_pylist()


@pytest.fixture(scope="module")
def task(prepared):
    spec = importlib.util.spec_from_file_location("synthevents_utils", prepared[1] / "utils.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("decoder", ["decord", "pyav"])
@pytest.mark.parametrize("world", ["plain", "noise", "static"])
def test_a_video_gives_back_every_frame_exactly(tmp_path, world, decoder):
    if decoder == "decord":
        pytest.importorskip("decord")
    frames = render(draw_clip(WORLDS[world], "test", 1))
    write_video(tmp_path / "clip.mp4", frames)
    for force in (True, False):
        sampled = sample_frames(tmp_path / "clip.mp4", 16, force_sample=force, decoder=decoder)
        np.testing.assert_array_equal(sampled.frames, frames)
        assert sampled.times == list(range(16))
        assert sampled.duration == 16


def test_documents_are_the_questions_that_were_drawn(prepared, documents):
    clips = draw_split("plain", "test", 20)
    questions = [(clip, question) for clip in clips for question in clip.questions]
    assert len(documents) == len(questions) == 20
    assert len({document["question_id"] for document in documents}) == 20
    for document, (clip, question) in zip(documents, questions, strict=True):
        assert document["question"] == question.prompt
        assert tuple(document["options"]) == question.options
        assert document["options"][document["answer_index"]] == document["answer"] == question.answer
        assert (document["family"], document["kind"]) == (question.family, question.kind)
        assert document["clip_seed"] == clip.seed
        assert [e["first_frame"] for e in document["events"]] == [e.frames[0] for e in clip.spec.events()]
        assert [tuple(e["box"]) for e in document["evidence"]] == [e.box for e in question.evidence]
        for event in document["events"]:
            x0, y0, x1, y1 = event["box"]
            assert event["cells"][0] == [y0 // 16, x0 // 16]
            assert event["cells"][-1] == [(y1 - 1) // 16, (x1 - 1) // 16]
        assert (prepared[1] / document["video"]).is_file()


def test_preparing_again_writes_nothing_and_other_settings_are_another_folder(prepared, tmp_path):
    checkpoint, folder, task = prepared
    assert task == "synthevents"
    assert checkpoint == embedded.CHECKPOINT
    stamp = (folder / "test.parquet").stat().st_mtime_ns
    assert embedded.prepare(folder.parent, 20)[1] == folder
    assert (folder / "test.parquet").stat().st_mtime_ns == stamp
    assert embedded.prepare(tmp_path, 6, world="static")[1] != embedded.prepare(tmp_path, 6)[1]


def test_preparing_without_a_package_says_which(tmp_path, monkeypatch):
    monkeypatch.setattr(embedded, "_NEEDED", {"no_such_module": "no-such-package"})
    with pytest.raises(InputError, match=r"needs no-such-package: pip install 'st-simdiff\[synth\]'"):
        embedded.prepare(tmp_path)


def test_other_seeds_and_splits_share_no_clip(tmp_path):
    kept = [draw_split("plain", split, 30, seed) for split, seed in (("test", 0), ("test", 1), ("dev", 0))]
    digests = [{clip.spec.digest() for clip in clips} for clips in kept]
    assert not digests[0] & digests[1]
    assert not digests[0] & digests[2]
    assert write_dataset(tmp_path, "plain", "dev", 3) == tmp_path


def test_the_task_scores_the_answers_word(documents, task):
    document = documents[0]
    for said, score in (
        (document["answer"], 100.0),
        (f" {document['answer'].title()}.\n", 100.0),
        ("", 0.0),
        (f"{document['answer']} {document['answer']}", 0.0),
        (next(option for option in document["options"] if option != document["answer"]), 0.0),
    ):
        scored = task.score_word(document, [said])
        assert set(scored) == {"accuracy", f"accuracy_{document['kind']}"}
        result = scored["accuracy"]
        assert result["score"] == score
        assert result["question_id"] == document["question_id"]
        assert (result["family"], result["kind"], result["video"]) == tuple(
            document[key] for key in ("family", "kind", "video")
        )
        json.dumps(result)
    assert task.mean_score([{"score": 100.0}, {"score": 0.0}]) == 50.0


def test_the_task_names_the_videos_beside_it(documents, task, prepared):
    (path,) = task.video_of(documents[0])
    assert path == str(prepared[1] / documents[0]["video"])


def test_lmms_eval_reads_the_task(prepared):
    lmms_tasks = pytest.importorskip("lmms_eval.utils")
    config = lmms_tasks.load_yaml_config(yaml_path=str(prepared[1] / "synthevents.yaml"))
    assert config["task"] == prepared[2]
    scored = config["process_results"](
        parquet.read_table(prepared[1] / "test.parquet").to_pylist()[0], ["no such word"]
    )
    assert set(scored) <= {metric["metric"] for metric in config["metric_list"]}


def test_the_command_line_writes_a_data_set_and_tells_mistakes(tmp_path, capsys):
    out = tmp_path / "set"
    assert main(["--out", str(out), "--split", "dev", "--questions", "4"]) == 0
    assert parquet.read_table(out / "test.parquet").num_rows == 4
    assert main(["--out", str(out), "--split", "valid"]) == 2
    assert "Unknown split 'valid'" in capsys.readouterr().err
