"""Numbers, sizes, times and pixels of the frames, against ffmpeg's command line."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest
from kinds import KINDS, ROWS
from numbered_videos import (
    X264,
    Shown,
    ffmpeg,
    needs_ffmpeg,
    number_in,
    shown_by_ffmpeg,
    usable_decoders,
    write,
)

from st_simdiff.videos import SampledVideo, pyav_decoder, sample_frames

pytestmark = needs_ffmpeg

RANDOM = 200
FAST = 12
"""How many of the random combinations are tried without --slow."""


def same_as_shown(video: SampledVideo, shown: Shown) -> bool:
    """Whether the evenly spaced frames of `video` are those of `shown`: numbers, size, times, pixels."""
    places = np.linspace(0, len(shown.frames) - 1, len(video.frames), dtype=int)
    return (
        video.record.shown == len(shown.frames)
        and video.frames.shape[1:] == shown.frames.shape[1:]
        and [number_in(frame) for frame in video.frames] == shown.numbers(places)
        and np.abs(np.array(video.record.taken_at) - shown.times[places]).max() < 0.002
        and np.abs(video.frames.astype(int) - shown.frames[places]).mean() < 1
    )


def check(path: Path, folder: Path) -> None:
    """Every decoder that does not say that its frames may be wrong gives those that ffmpeg shows."""
    shown = shown_by_ffmpeg(path, folder)
    assert len(shown.frames)
    for decoder in usable_decoders():
        video = sample_frames(path, 6, force_sample=True, decoder=decoder)
        if video.record.decoder == "decord" and video.record.remarks:
            continue
        assert same_as_shown(video, shown), (decoder, video.record, len(shown.frames))
        assert video.record.decoder == decoder or video.record.remarks


@pytest.mark.parametrize("name", [*ROWS, *KINDS])
def test_frames_are_those_that_ffmpeg_shows(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = {**ROWS, **KINDS}[name](tmp_path / name)
    check(path, tmp_path)
    if not name.startswith("damaged"):  # what is jumped over is not looked at
        monkeypatch.setattr(pyav_decoder, "_WHOLE", 0)
        monkeypatch.setattr(pyav_decoder, "_WORTH_A_JUMP", 1)
        video = sample_frames(path, 6, force_sample=True)
        assert same_as_shown(video, shown_by_ffmpeg(path, tmp_path)), video.record


@pytest.mark.parametrize("seed", range(RANDOM))
def test_random_combinations(seed: int, tmp_path: Path, request, monkeypatch) -> None:
    """Of codec, container, distance of key frames, B-frames, rate and trimming."""
    if seed >= FAST and not request.config.getoption("--slow"):
        pytest.skip("slow; run with --slow")
    draw = random.Random(seed)
    frames, rate = draw.randint(2, 90), draw.choice(["10", "12.5", "24000/1001", "25", "30", "30000/1001", "60"])
    keys, b_frames = draw.randint(1, 40), draw.randint(0, 4)
    container = draw.choice(["mp4", "mkv", "mov", "ts", "avi", "flv", "mpg", "nut"])
    codecs = {
        "avc": (*X264[:4], "-bf", b_frames, "-x264-params", f"open-gop={draw.randint(0, 1)}"),
        "hevc": ("-c:v", "libx265", "-pix_fmt", "yuv420p", "-x265-params", f"bframes={b_frames}:log-level=none"),
        "mpeg4": ("-c:v", "mpeg4", "-bf", min(b_frames, 2)),
        "mpeg2": ("-c:v", "mpeg2video", "-bf", min(b_frames, 2), "-r", "25"),
        "vp9": ("-c:v", "libvpx-vp9", "-cpu-used", "8"),
    }
    possible = {"avi": ("avc", "mpeg4"), "flv": ("avc",), "mpg": ("mpeg2",), "ts": ("avc", "hevc", "mpeg2")}
    possible["mov"] = ("avc", "hevc", "mpeg4")
    codec = draw.choice(possible.get(container, ("avc", "hevc", "mpeg4", "vp9")))
    path = write(tmp_path / f"whole.{container}", *codecs[codec], "-g", keys, count=frames, rate=rate)
    if draw.random() < 0.5 and frames > 20:
        seconds = 0.5 * draw.random() * frames / 60
        trimmed = tmp_path / f"trimmed.{container}"
        ffmpeg("-ss", f"{seconds:.3f}", "-i", path, "-c", "copy", trimmed)
        path = trimmed if len(shown_by_ffmpeg(trimmed, tmp_path).frames) else path
    if draw.random() < 0.5:
        monkeypatch.setattr(pyav_decoder, "_WHOLE", 0)
    check(path, tmp_path)


@pytest.mark.parametrize("name", ["open_gop.mp4", "hevc.mp4", "damaged.mp4", "damaged_key.mp4", "begun_late.ts"])
def test_frames_are_equal_from_run_to_run_and_for_any_number_of_threads(name: str, tmp_path: Path, monkeypatch) -> None:
    path = {**ROWS, **KINDS}[name](tmp_path / name)
    for whole in (300, 0):
        monkeypatch.setattr(pyav_decoder, "_WHOLE", whole)
        first = sample_frames(path, 9, force_sample=True)
        for threads in (1, 1, 2, 3, 8):
            again = sample_frames(path, 9, force_sample=True, threads=threads)
            assert np.array_equal(again.frames, first.frames)
            assert (again.times, again.duration, again.record) == (first.times, first.duration, first.record)
