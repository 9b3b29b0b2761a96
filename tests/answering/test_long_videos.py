"""A video of more frames than are read at a time: the same features, times, record and kept tokens."""

import dataclasses
import math
from contextlib import nullcontext

import pytest
import torch
from made_videos import write_video

from st_simdiff import InputError
from st_simdiff.answering.answering import VideoAnswerer
from st_simdiff.answering.arguments import parse
from st_simdiff.methods.registry import METHODS
from st_simdiff.models.families.llava_video import encode_video
from st_simdiff.videos.errors import VideoError


@pytest.fixture(scope="module")
def video(tmp_path_factory):
    path = tmp_path_factory.mktemp("long") / "long.mp4"
    write_video(path, 50)
    return str(path)


@pytest.fixture(scope="module")
def answerers(checkpoint):
    settings = {
        "pretrained": checkpoint,
        "fps": 5,
        "max_frames_num": 50,
        "add_time_instruction": True,
        "method": "full",
    }
    return [VideoAnswerer(parse({**settings, "frames_per_read": size}), "cpu") for size in (64, 16)]


def ask(answerer, video, method):
    answerer.viewer.last = None
    answerer.arguments = dataclasses.replace(answerer.arguments, method=method)
    answer = answerer.generate(video, "What is shown?", {"max_new_tokens": 3})
    return answer, answerer.viewer.last


@pytest.mark.parametrize("name", ["st_simdiff", "st_simdiff_input", "visionzip", "sttm"])
def test_reading_in_parts_changes_nothing(answerers, video, name):
    method = METHODS[name](retention=0.3)
    (whole, whole_seen), (parts, parts_seen) = (ask(answerer, video, method) for answerer in answerers)
    assert torch.equal(whole_seen.video.tokens, parts_seen.video.tokens)
    assert torch.equal(whole_seen.prefix.trace.offsets, parts_seen.prefix.trace.offsets)
    assert (whole_seen.times, whole_seen.duration) == (parts_seen.times, parts_seen.duration)
    assert whole.text == parts.text
    assert whole.counts["reading"] == parts.counts["reading"]
    assert len(parts_seen.times) == 50


def test_no_more_frames_than_one_part_are_read_at_a_time(answerers, video, monkeypatch):
    read = []
    processor = type(answerers[1].image_processor)
    preprocess = processor.preprocess
    monkeypatch.setattr(
        processor,
        "preprocess",
        lambda self, images, **rest: read.append(len(images)) or preprocess(self, images, **rest),
    )
    ask(answerers[1], video, METHODS["full"]())
    assert read == [16, 16, 16, 2]


def test_a_video_that_shows_other_frames_part_by_part_is_refused(answerers, video, monkeypatch):
    reader = answerers[1].reader
    first, second = (reader._read(video, start, lambda _: nullcontext()) for start in (0, 16))
    changed = dataclasses.replace(second, record=dataclasses.replace(second.record, shown=49))
    monkeypatch.setattr(type(reader), "_read", lambda _, __, start, ___: changed if start else first)
    with pytest.raises(VideoError, match="read the video whole, with frames_per_read=64 or more"):
        ask(answerers[1], video, METHODS["full"]())


@pytest.mark.parametrize("size", [20, 0, -16, 16.5, math.nan, math.inf, True, "16", None, 200_000])
def test_parts_are_whole_chunks_of_the_tower(answerers, size):
    sentence = rf"frames_per_read is .*, a multiple of 16 from 16 to 100,000, got {size!r}\."
    with pytest.raises(InputError, match=sentence):
        dataclasses.replace(answerers[0].reader, frames_per_read=size)
    if type(size) is int:
        with pytest.raises(InputError, match=sentence):
            parse({"pretrained": "x", "method": "full", "frames_per_read": size})


def test_a_whole_number_of_frames_may_be_a_float_here_and_there(answerers):
    frames = (
        dataclasses.replace(answerers[0].reader, frames_per_read=16.0).frames_per_read,
        parse({"pretrained": "x", "method": "full", "frames_per_read": 16.0}).frames_per_read,
    )
    assert [(value, type(value)) for value in frames] == [(16, int)] * 2


def test_parts_may_be_larger_than_the_video(answerers, video):
    pixels = answerers[0].reader(video)
    assert pixels.rest is None
    assert [len(values) for values in pixels.values_by_part()] == [50] == [pixels.frames]


def test_parts_add_up_to_the_frames_of_the_video(answerers):
    model, frames = answerers[0].model, torch.rand(5, 3, 112, 112)
    parts = frames[:3], frames[3:]
    whole = encode_video(model, frames).tokens
    assert not whole.requires_grad
    torch.testing.assert_close(encode_video(model, iter(parts), frames=5).tokens, whole)
    refused = [
        (parts, None, "frames is the number of frames of a video that is given in parts, .* got None"),
        (parts, 3, "a video of 3 frames hold more frames"),
        (parts, 6, "a video of 6 frames hold 5 frames"),
        (frames, 4, "are of 5 frames, got frames=4"),
    ]
    for pixels, count, sentence in refused:
        with pytest.raises(InputError, match=sentence):
            encode_video(model, pixels, frames=count)
