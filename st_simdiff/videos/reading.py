"""From a video file to pixel values: what can be done before the model has its turn, in another thread or process."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from operator import attrgetter
from typing import Any

import torch

from st_simdiff.checks import MOST_FRAMES, is_number
from st_simdiff.errors import InputError
from st_simdiff.videos.errors import VideoError
from st_simdiff.videos.record import ReadRecord, SampledVideo
from st_simdiff.videos.workers import VideoWorkers

FRAMES_PER_READ = 256
"""Frames that are read and encoded at a time: 0.7 GB at 1280 x 720."""
_CHUNK = 16
"""Frames that go through the vision tower at once; parts of whole chunks give the features of the whole video."""

Stage = Callable[[str], AbstractContextManager[Any]]
"""Opens the stage of a clock that is called so."""


def check_frames_per_read(value: Any) -> int:
    """`value`, a number of frames to read at a time, as a whole number, of 16.0 too. Raises `InputError` for others."""
    if not is_number(value) or not _CHUNK <= value <= MOST_FRAMES or value % _CHUNK:
        raise InputError(
            f"frames_per_read is how many frames to read at a time, a multiple of {_CHUNK} from {_CHUNK} to "
            f"{MOST_FRAMES:,}, got {value!r}."
        )
    return int(value)


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

    def parts(self) -> Iterator[Pixels]:
        """All parts of the video, this one first; the others are read when they are asked for. Raises `VideoError`."""
        yield self
        if self.rest is not None:
            yield from self.rest()

    def values_by_part(self) -> Iterator[torch.Tensor]:
        """The pixel values of all parts, as `parts` reads them. None of them is held on to for the next one."""
        return map(attrgetter("values"), self.parts())

    @property
    def reading(self) -> Mapping[str, Any]:
        """How the video was read, as JSON."""
        return self.record.as_plain()


@dataclass(frozen=True)
class FrameReader:
    """Reads videos, in any thread.

    sample: the frames of a file, such as `functools.partial(sample_frames, max_frames=3600)`. processor: of the
    checkpoint. workers: processes in which `sample` decodes. frames_per_read: a video of more frames is read in parts
    of so many, so that it is never in memory as a whole. Raises `InputError` for a number that is no multiple of 16.
    """

    sample: Callable[..., SampledVideo]
    processor: Any
    dtype: torch.dtype
    workers: VideoWorkers | None = None
    frames_per_read: int = FRAMES_PER_READ

    def __post_init__(self) -> None:
        object.__setattr__(self, "frames_per_read", check_frames_per_read(self.frames_per_read))

    def __call__(self, path: str, stage: Stage = lambda _: nullcontext()) -> Pixels:
        """The video, or the first part of a long one. Raises `VideoError` for one that cannot be read."""
        first = self._read(path, 0, stage)
        if first.frames <= self.frames_per_read:
            return first
        counts = first.frames, first.record.shown
        starts = range(self.frames_per_read, first.frames, self.frames_per_read)
        return replace(first, rest=lambda: (self._read_alike(path, start, counts, stage) for start in starts))

    def _read_alike(self, path: str, start: int, counts: tuple[int, int], stage: Stage) -> Pixels:
        """A later part. counts: the frames chosen and those shown, as the first part was read."""
        part = self._read(path, start, stage)
        if (part.frames, part.record.shown) != counts:
            whole = -(-counts[0] // _CHUNK) * _CHUNK
            raise VideoError(
                f"{path}: frames that cannot be decoded make the choice of frames another one part by part: read "
                f"the video whole, with frames_per_read={whole} or more."
            )
        return part

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
