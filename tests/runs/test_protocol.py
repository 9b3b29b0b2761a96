"""What a result says about how it was obtained."""

import os
import shutil

import pytest

from st_simdiff.answering.arguments import NvilaArguments, parse
from st_simdiff.answering.checkpoints import check_checkpoint, fingerprint_checkpoint
from st_simdiff.checkpoints import identity
from st_simdiff.checkpoints import remembered as remembering
from st_simdiff.methods.fastv import FastV
from st_simdiff.methods.settings import changed_settings, describe_method
from st_simdiff.runs.coverage import coverage
from st_simdiff.runs.protocol import difference, plan_protocol, short_hash


def protocol(checkpoint, text=""):
    from st_simdiff.model_args import split_model_args

    settings = {"pretrained": str(checkpoint), **split_model_args(text)}
    return plan_protocol("llava_video", settings, parse(settings), has_gpu=False)


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("", "20 a frame"),  # 8 x 8 patches pooled to 4 x 4, and a newline after each row
        ("mm_newline_position=frame", "17 a frame"),
        ("mm_newline_position=no_token", "16 a frame"),
        ("mm_newline_position=one_token", "16 a frame"),
    ],
)
def test_pooling_and_newlines_are_those_of_the_checkpoint_as_loaded(checkpoint, text, tokens):
    from st_simdiff.checkpoints.llava_video.loading import load_llava_video

    made = protocol(checkpoint, text)
    assert made["visual_tokens"] == tokens
    arguments = parse({"pretrained": str(checkpoint), **dict([text.split("=")] if text else [])})
    model = load_llava_video(checkpoint, overwrite_config=arguments.overwrite_config).model
    assert made["mm_newline_position"] == model.embedder.newline_mode
    assert made["mm_spatial_pool_mode"] == model.embedder.pool_mode


def test_settings_are_resolved(checkpoint):
    made = protocol(checkpoint, "max_frames_num=8,force_sample=True")
    assert (made["dtype"], made["attn_implementation"], made["sampling"]) == (
        "float32",
        "sdpa",
        "8 frames, evenly spaced",
    )
    assert protocol(checkpoint)["sampling"] == "1 a second, evenly spaced where that would be more than 64"
    assert {"torch", "transformers", "lmms_eval", "st-simdiff", "python"} <= made["software"].keys()
    assert "decord" in protocol(checkpoint, "video_decode_backend=decord")["software"]
    assert "av" in protocol(checkpoint, "video_decode_backend=pyav")["software"]
    assert not {"device", "journal", "method", "pretrained"} & made.keys()


def test_nvila_says_how_many_frames_become_one(tmp_path):
    from st_simdiff.checkpoints.nvila.tiny import write_tiny_checkpoint

    folder = write_tiny_checkpoint(tmp_path / "nvila", num_video_frames=16)
    settings = {"pretrained": str(folder)}
    seen = check_checkpoint("nvila", folder, parse(settings, NvilaArguments))
    assert (seen["max_frames_num"], seen["video"]) == (16, "tsp")
    assert seen["visual_tokens"].endswith(" every 8 frames")
    frames = parse({**settings, "video": "frames", "max_frames_num": 4}, NvilaArguments)
    assert check_checkpoint("nvila", folder, frames)["visual_tokens"].endswith(" a frame")


def test_a_checkpoint_is_known_by_its_files_not_its_place(checkpoint, tmp_path):
    copy = tmp_path / "elsewhere"
    shutil.copytree(checkpoint, copy)
    before = fingerprint_checkpoint("llava_video", checkpoint)
    (copy / "README.md").write_text("Not a part of it.")
    assert fingerprint_checkpoint("llava_video", copy) == before


@pytest.mark.parametrize("linked", [False, True])
def test_every_byte_of_the_weights_counts(checkpoint, tmp_path, linked):
    """Also where no sample of the file falls, and where the weights lie elsewhere."""
    copy = tmp_path / "copy"
    shutil.copytree(checkpoint, copy)
    weights = copy / "model.safetensors"
    if linked:
        weights = weights.rename(tmp_path / "elsewhere.bin")
        (copy / "model.safetensors").symlink_to(weights)
    content = weights.read_bytes()
    known = {fingerprint_checkpoint("llava_video", copy)}
    for place in (len(content) // 2 + 5000, len(content) // 3, len(content) - 1):
        changed = bytearray(content)
        changed[place] ^= 1
        weights.write_bytes(changed)
        known.add(fingerprint_checkpoint("llava_video", copy))
    assert len(known) == 4
    weights.write_bytes(content)
    assert fingerprint_checkpoint("llava_video", copy) in known


def test_a_part_of_nvila_behind_a_link_counts(tmp_path):
    from st_simdiff.checkpoints.nvila.tiny import write_tiny_checkpoint

    folder = write_tiny_checkpoint(tmp_path / "nvila")
    before = fingerprint_checkpoint("nvila", folder)
    (folder / "llm").rename(tmp_path / "llm")
    (folder / "llm").symlink_to(tmp_path / "llm")
    assert fingerprint_checkpoint("nvila", folder) == before
    (tmp_path / "llm" / "config.json").write_text("{}")
    assert fingerprint_checkpoint("nvila", folder) != before


def test_digests_are_remembered_by_the_files_state(tmp_path, monkeypatch):
    file, remembered, hashed = tmp_path / "a.safetensors", tmp_path / "cache" / "digests.json", []
    file.write_bytes(b"first")
    original = identity._read
    monkeypatch.setattr(identity, "_read", lambda path, bar: hashed.append(path.name) or original(path, bar))
    monkeypatch.setattr(remembering, "SETTLED", -1.0)

    def digest():
        return identity.digest_of_files(tmp_path, [file.name], remembered)

    first = digest()
    assert (digest(), len(hashed)) == (first, 1)
    os.utime(file)
    assert (digest(), len(hashed)) == (first, 2)
    state = file.stat()
    file.write_bytes(b"other")
    os.utime(file, ns=(state.st_atime_ns, state.st_mtime_ns))  # same size and time: the inode's own time tells
    assert digest() != first
    remembered.write_text("[1, 2")
    assert digest() != first
    monkeypatch.setattr(remembering, "SETTLED", 60.0)  # what has just changed is not remembered
    file.write_bytes(b"third")
    count = len(hashed)
    assert digest() == digest()
    assert len(hashed) == count + 2


def test_every_setting_of_the_method_is_recorded():
    described = describe_method(FastV(retention=0.3))
    assert described["name"] == "fastv"
    assert described["retention"] == 0.3
    assert len(described) > 2
    assert changed_settings(FastV(retention=0.3)) == {"retention": 0.3}
    assert changed_settings(FastV()) == {}


def test_differences_are_named():
    assert difference({"a": 1, "b": {"c": 2}}, {"a": 1.0, "b": {"c": 2}, "new": 3}) == ""
    assert difference({"a": 1}, {"a": 2}) == "a was 2 and is 1"
    assert difference({"b": {"c": 2, "d": 1}}, {"b": {"c": 3, "d": 1}}) == "b: c was 3 and is 2"
    assert difference({"a": (1, 2)}, {"a": [1, 2]}) == ""


def test_runs_are_told_apart_by_everything_but_software():
    base = {"a": 1, "software": {"torch": "1"}}
    assert short_hash(base) == short_hash({"software": {"torch": "2"}, "a": 1.0})
    assert short_hash(base) != short_hash({"a": 2})


def test_coverage_counts_questions_once_and_believes_the_task():
    rows = [{"doc_id": doc, "token_counts": [{"seconds": 1}]} for doc in (0, 1, 1)]
    assert coverage(rows, 5) == {"asked": 2, "in_all": 5, "unreadable": 0}
    rows[0] |= {"coverage": {"in_all": 900}, "token_counts": [{"unreadable": 1}]}
    assert coverage(rows, 5) == {"asked": 2, "in_all": 900, "unreadable": 1}
    assert coverage([], None) == {"asked": 0, "in_all": None, "unreadable": 0}
