"""From a video file to pixel values: what can be done before the model has its turn, in another thread or process."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import torch

from st_simdiff.videos.errors import VideoError
from st_simdiff.videos.record import SampledVideo
from st_simdiff.videos.workers import VideoWorkers

Stage = Callable[[str], AbstractContextManager[Any]]
"""Opens the stage of a clock that is called so."""


@dataclass(frozen=True)
class Pixels:
    """The frames of one video as the vision tower wants them.

    values: (T, 3, S, S) on the CPU, in the model's dtype. times: where each frame lies, seconds. duration: seconds.
    seconds: what reading and preprocessing took. reading: how the video was read, as JSON.
    """

    values: torch.Tensor
    times: tuple[float, ...]
    duration: float
    seconds: float
    reading: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class FrameReader:
    """Reads videos, in any thread.

    sample: the frames of a file. processor: of the checkpoint. workers: processes in which `sample` decodes.
    """

    sample: Callable[..., SampledVideo]
    processor: Any
    dtype: torch.dtype
    workers: VideoWorkers | None = None

    def __call__(self, path: str, stage: Stage = lambda _: nullcontext()) -> Pixels:
        """Raises `VideoError` for a video that cannot be read."""
        started = time.perf_counter()
        with stage("decode"):
            sampled = self.sample(path) if self.workers is None else self.sample(path, workers=self.workers)
        with stage("preprocess"):
            try:
                values = self.processor.preprocess(sampled.frames, return_tensors="pt")["pixel_values"].to(self.dtype)
            except (ValueError, OSError, ArithmeticError, MemoryError, RuntimeError) as error:
                height, width = sampled.frames.shape[1:3]
                raise VideoError(
                    f"{path}: frames of {width} x {height} pixels cannot be preprocessed: {error}."
                ) from error
        seconds = time.perf_counter() - started
        return Pixels(values, tuple(sampled.times), sampled.duration, seconds, sampled.record.as_plain())
