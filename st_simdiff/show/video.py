"""The frames of a video file, evenly spaced, at the size in which they are drawn."""

from __future__ import annotations

import math
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from st_simdiff.checks import check_frames
from st_simdiff.errors import InputError
from st_simdiff.videos.frames import sample_frames
from st_simdiff.videos.workers import VideoWorkers

WIDTH = 640
"""Frames are kept at most this wide."""

_PATCHES = 196
"""Of a frame of LLaVA-Video."""


@dataclass(frozen=True)
class Clip:
    """The sampled frames of one video.

    frames: uint8 (T, h, w, 3), RGB. seconds: float64 (T,), when each is shown. name: the file's name.
    """

    frames: np.ndarray
    seconds: np.ndarray
    name: str


def read_clip(path: str | Path, count: int, *, repeat: bool = False) -> Clip:
    """`count` evenly spaced frames of a video file, as a model would be given them.

    repeat: give some frames more than once, as a model is, if the video has fewer than `count`; else give each once.
    Raises `InputError` for a file that is missing, damaged or has no picture.
    """
    path = Path(path)
    check_frames("frames", count)
    if path.is_dir():
        raise InputError(f"{path} is a folder; a video file is needed.")
    try:
        with closing(VideoWorkers()) as workers:
            sampled = sample_frames(path, count, force_sample=True, workers=workers)
    except (ValueError, OSError) as error:
        raise InputError(str(error)) from error
    seconds = np.array(sampled.times)
    if repeat:
        return Clip(_small(sampled.frames), seconds, path.name)
    seconds, first = np.unique(seconds, return_index=True)
    return Clip(_small(sampled.frames[first]), seconds, path.name)


def _small(frames: np.ndarray) -> np.ndarray:
    """Frames (T, h, w, 3) at the size in which they are drawn."""
    count, height, width, _ = frames.shape
    if width <= WIDTH:
        return frames
    size = (WIDTH, max(1, round(height * WIDTH / width)))
    small = np.empty((count, size[1], size[0], 3), dtype=np.uint8)
    for index, frame in enumerate(frames):
        small[index] = Image.fromarray(frame).resize(size, Image.Resampling.BOX)
    return small


def square_patches(width: int, height: int, count: int = _PATCHES) -> tuple[int, int]:
    """Rows and columns of about `count` nearly square patches for frames of this size."""
    rows = max(1, round(math.sqrt(count * height / width)))
    return rows, max(1, round(rows * width / height))
