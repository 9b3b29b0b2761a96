"""From a video file to pixel values: what can be done before the model has its turn, in another thread or process."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from typing import Any

import torch

from st_simdiff.videos.errors import VideoError
from st_simdiff.videos.record import ReadRecord, SampledVideo
from st_simdiff.videos.workers import VideoWorkers

FRAMES_PER_READ = 256
"""Frames that are read and encoded at a time: 0.7 GB at 1280 x 720."""

Stage = Callable[[str], AbstractContextManager[Any]]
"""Opens the stage of a clock that is called so."""


@dataclass(frozen=True)
class Pixels:
    """The frames of one video as the vision tower wants them, or the first part of those of a long one.

    values: (t, 3, S, S) on the CPU, in the model's dtype. times: where each lies, seconds. duration: of the video,
    seconds. seconds: what reading and preprocessing took. record: how they were read. frames: T, of the whole video.
    rest: reads the other parts one by one, in the same form; None where there are none.
    """

    values: torch.Tensor
    times: tuple[float, ...]
    duration: float
    seconds: float
    record: ReadRecord
    frames: int
    rest: Callable[[], Iterator[Pixels]] | None = None

    @property
    def reading(self) -> Mapping[str, Any]:
        """How the video was read, as JSON."""
        return self.record.as_plain()


@dataclass(frozen=True)
class FrameReader:
    """Reads videos, in any thread.

    sample: the frames of a file. processor: of the checkpoint. workers: processes in which `sample` decodes.
    frames_per_read: a video of more frames is read in parts, so that it is never in memory as a whole.
    """

    sample: Callable[..., SampledVideo]
    processor: Any
    dtype: torch.dtype
    workers: VideoWorkers | None = None
    frames_per_read: int = FRAMES_PER_READ

    def __call__(self, path: str, stage: Stage = lambda _: nullcontext()) -> Pixels:
        """Raises `VideoError` for a video that cannot be read."""
        first = self._read(path, 0, stage)
        if first.frames <= self.frames_per_read:
            return first
        return replace(first, rest=lambda: self._rest(path, first, stage))

    def _rest(self, path: str, first: Pixels, stage: Stage) -> Iterator[Pixels]:
        for start in range(self.frames_per_read, first.frames, self.frames_per_read):
            part = self._read(path, start, stage)
            if part.frames != first.frames or part.record.shown != first.record.shown:
                raise VideoError(
                    f"{path}: frames that cannot be decoded make the choice of frames another one part by part: read "
                    f"the video whole, with frames_per_read={first.frames} or more."
                )
            yield part

    def _read(self, path: str, start: int, stage: Stage) -> Pixels:
        """The part of the chosen frames that begins with frame `start`."""
        started = time.perf_counter()
        workers = {} if self.workers is None else {"workers": self.workers}
        with stage("decode"):
            sampled = self.sample(path, part=slice(start, start + self.frames_per_read), **workers)
        with stage("preprocess"):
            try:
                values = self._preprocess(sampled)
            except (ValueError, OSError, ArithmeticError, MemoryError, RuntimeError) as error:
                height, width = sampled.frames.shape[1:3]
                raise VideoError(
                    f"{path}: frames of {width} x {height} pixels cannot be preprocessed: {error}."
                ) from error
        seconds = time.perf_counter() - started
        return Pixels(values, tuple(sampled.times), sampled.duration, seconds, sampled.record, sampled.chosen)

    def _preprocess(self, sampled: SampledVideo) -> torch.Tensor:
        return self.processor.preprocess(sampled.frames, return_tensors="pt")["pixel_values"].to(self.dtype)
