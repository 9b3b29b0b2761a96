"""From a video file to pixel values: what can be done before the model has its turn, in another thread or process."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch

from st_simdiff.videos.frames import SampledVideo

Stage = Callable[[str], AbstractContextManager[Any]]
"""Opens the stage of a clock that is called so."""


@dataclass(frozen=True)
class Pixels:
    """The frames of one video as the vision tower wants them.

    values: (T, 3, S, S) on the CPU, in the model's dtype. times: where each frame lies, seconds. duration: seconds.
    seconds: what reading and preprocessing took.
    """

    values: torch.Tensor
    times: tuple[float, ...]
    duration: float
    seconds: float


@dataclass(frozen=True)
class FrameReader:
    """Reads videos. sample: the frames of a file. processor: of the checkpoint. It can be sent to another process."""

    sample: Callable[[str], SampledVideo]
    processor: Any
    dtype: torch.dtype

    def __call__(self, path: str, stage: Stage = lambda _: nullcontext()) -> Pixels:
        """Raises `st_simdiff.videos.frames.VideoError` for a video that cannot be read."""
        started = time.perf_counter()
        with stage("decode"):
            sampled = self.sample(path)
        with stage("preprocess"):
            values = self.processor.preprocess(sampled.frames, return_tensors="pt")["pixel_values"].to(self.dtype)
        return Pixels(values, tuple(sampled.times), sampled.duration, time.perf_counter() - started)
