"""Sampling against the recorded runs, ordinary clips with every decoder, and files that are no videos."""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numbered_videos import usable_decoders

from st_simdiff import InputError
from st_simdiff.videos import VideoError, frame_indices, sample_frames, time_instruction


@pytest.fixture(params=("pyav", "decord", "torchcodec"))
def decoder(request: pytest.FixtureRequest) -> str:
    if request.param not in usable_decoders():
        pytest.skip(f"{request.param} cannot be used here")
    return request.param


def test_recorded_sampling(llava_goldens: Path) -> None:
    for case in json.loads((llava_goldens / "sampling.json").read_text()):
        indices, times = frame_indices(
            case["total_frames"], case["avg_fps"], case["max_frames_num"], case["fps"], case["force_sample"]
        )
        assert indices == case["frame_idx"]
        assert ",".join(f"{time:.2f}s" for time in times) == case["frame_time"]
        assert case["total_frames"] / case["avg_fps"] == case["video_time"]


@given(
    total=st.integers(1, 5000),
    avg_fps=st.floats(0.01, 240),
    max_frames=st.integers(1, 200),
    fps=st.floats(0.1, 10),
    force=st.booleans(),
)
def test_indices_are_frames_of_the_video_in_order(
    total: int, avg_fps: float, max_frames: int, fps: float, force: bool
) -> None:
    indices, times = frame_indices(total, avg_fps, max_frames, fps, force)
    assert len(indices) == len(times)
    assert len(indices) == max_frames if force else 1 <= len(indices) <= max_frames
    assert indices == sorted(indices)
    assert indices[0] == 0
    assert indices[-1] < total
    assert times == sorted(times)


def test_a_frame_rate_below_the_one_wanted_gives_every_frame_at_its_time() -> None:
    indices, times = frame_indices(total=5, avg_fps=0.25, max_frames=8)
    assert indices == [0, 1, 2, 3, 4]
    assert times == [0, 4, 8, 12, 16]


def test_time_instruction_is_the_recorded_sentence(recorded: dict) -> None:
    timed = [entry for entry in recorded["cases"] if entry["time_instruction"]]
    assert timed
    for entry in timed:
        told = entry["time_instruction"]
        assert time_instruction(told["video_time"], told["frame_times"]) in entry["prompt"]


def test_decoders_give_the_same_frames_of_real_clips(real_clips: list[Path]) -> None:
    for clip in real_clips:
        for settings in ({"max_frames": 12, "fps": 2}, {"max_frames": 5, "force_sample": True}):
            first, *others = (sample_frames(clip, **settings, decoder=decoder) for decoder in usable_decoders())
            assert first.frames.dtype == np.uint8
            for other in others:
                assert np.array_equal(first.frames, other.frames)
                assert (first.times, first.duration) == (other.times, other.duration)
                assert not other.record.remarks


def test_frames_are_those_of_the_indices(decoder: str, real_clips: list[Path]) -> None:
    """Against PyAV's frames in order, without any choice."""
    av = pytest.importorskip("av")
    with av.open(str(real_clips[0])) as container:
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
        rate = float(container.streams.video[0].average_rate)
    sampled = sample_frames(real_clips[0], 7, force_sample=True, decoder=decoder)
    indices, times = frame_indices(len(frames), rate, 7, force_sample=True)
    assert np.array_equal(sampled.frames, np.stack([frames[index] for index in indices]))
    assert sampled.times == times
    assert sampled.duration == pytest.approx(len(frames) / rate)


def test_short_and_slow_videos(decoder: str, write_clip, tmp_path: Path) -> None:
    one = sample_frames(write_clip(tmp_path / "one.mp4", 1), 8, force_sample=True, decoder=decoder)
    assert one.frames.shape == (8, 48, 64, 3)
    assert one.times == [0.0] * 8
    few = sample_frames(write_clip(tmp_path / "few.mp4", 5), 64, fps=10, decoder=decoder)
    assert few.frames.shape[0] == 5
    slow = sample_frames(write_clip(tmp_path / "slow.mp4", 6, rate=Fraction(1, 4)), 64, decoder=decoder)
    assert slow.times == [0, 4, 8, 12, 16, 20]
    assert slow.duration == 24


def test_fragmented_file(decoder: str, write_clip, tmp_path: Path) -> None:
    """Its header states no number of frames."""
    options = {"movflags": "frag_keyframe+empty_moov"}
    whole = write_clip(tmp_path / "whole.mp4", 30)
    fragmented = write_clip(tmp_path / "fragmented.mp4", 30, options=options)
    frames = [sample_frames(path, 4, force_sample=True, decoder=decoder).frames for path in (whole, fragmented)]
    assert np.array_equal(*frames)


def test_files_that_are_no_videos(decoder: str, write_clip, tmp_path: Path) -> None:
    written = write_clip(tmp_path / "written.mp4", 50, options={"movflags": "faststart"}).read_bytes()
    half = len(written) // 2
    contents = {
        "empty.mp4": b"",
        "text.mp4": b"this is no video",
        "junk.mp4": np.random.default_rng(0).bytes(4000),
        "cut.mp4": written[:half],
        "hole.mp4": written[:half] + bytes(len(written) // 4) + written[half + len(written) // 4 :],
    }
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
    write_clip(tmp_path / "no_frames.mp4", 0)
    write_clip(tmp_path / "no_frames.avi", 0)
    _write_sound(tmp_path / "sound.mp4")
    for name in (*contents, "no_frames.mp4", "no_frames.avi", "sound.mp4", "missing.mp4"):
        with pytest.raises(VideoError) as raised:
            sample_frames(tmp_path / name, 8, force_sample=True, decoder=decoder)
        message = str(raised.value)
        assert message.startswith(str(tmp_path / name))
        assert message.endswith(".")
        assert "\n" not in message


def test_settings_out_of_range(real_clips: list[Path]) -> None:
    with pytest.raises(ValueError, match=r"Unknown video decoder 'decrod'\. Did you mean 'decord'\? Valid: auto, "):
        sample_frames(real_clips[0], 8, decoder="decrod")
    with pytest.raises(ValueError, match="max_frames is a number of frames, a whole number from 1"):
        sample_frames(real_clips[0], 0)
    with pytest.raises(ValueError, match="fps is the frames to take a second"):
        sample_frames(real_clips[0], 8, fps=0)
    for part, sentence in (
        (slice(90, 99), r"bikes.mp4: slice\(90, 99, None\) holds none of the 8 frames that are chosen"),
        (3, r"part is a slice\(start, stop\) of the chosen frames, with whole numbers from 0 on, got 3"),
        (slice(None, None, 2), "part is a slice"),
        (slice(-2, None), "part is a slice"),
    ):
        with pytest.raises(InputError, match=sentence):
            sample_frames(real_clips[0], max_frames=8, part=part)


def _write_sound(path: Path) -> None:
    av = pytest.importorskip("av")
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=44100)
        silence = av.AudioFrame.from_ndarray(np.zeros((1, 44100), np.float32), format="fltp", layout="mono")
        silence.sample_rate = 44100
        container.mux(stream.encode(silence))
        container.mux(stream.encode(None))
