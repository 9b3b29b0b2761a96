"""Frames of a video file: the way in for all that reads videos."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any

from st_simdiff.checks import check_frames, check_names, check_range, is_whole
from st_simdiff.errors import InputError
from st_simdiff.videos.decoders import read_here
from st_simdiff.videos.record import SampledVideo
from st_simdiff.videos.sampling import FPS, Sampling, frame_indices
from st_simdiff.videos.settings import Decoder, ReadSettings

if TYPE_CHECKING:
    from st_simdiff.videos.workers import VideoWorkers

SETTINGS = frozenset(field.name for field in dataclasses.fields(ReadSettings))
ARGUMENTS = frozenset({"max_frames", "fps", "force_sample", "workers", "part"})
"""Of `sample_frames`, beside the settings."""


def sample_frames(
    path: str | Path,
    max_frames: int,
    fps: float = 1,
    force_sample: bool = False,
    decoder: Decoder = "auto",
    *,
    workers: VideoWorkers | None = None,
    part: slice | None = None,
    **settings: Any,
) -> SampledVideo:
    """Decode the frames that `frame_indices` chooses from the video file `path`.

    decoder, settings: see `ReadSettings`. workers: processes in which a file that makes a decoder crash or hang does no
    harm; None decodes in this one. part: decode only these of the chosen frames, slice(start, stop). Raises
    `VideoError` for a file that is missing, is no video, has no frames or is damaged; `InputError`, a ValueError, for a
    setting out of range, a part without frames, or a missing package.
    """
    check_frames("max_frames", max_frames)
    check_range("fps", fps, *FPS, "the frames to take a second")
    check_names("setting of sample_frames", settings, SETTINGS | ARGUMENTS)
    if workers is not None and not hasattr(workers, "read"):
        raise InputError(f"workers is a VideoWorkers() or None, got {workers!r}.")
    reading = ReadSettings(decoder=decoder, **settings)
    return read_frames(
        path, lambda total, rate: frame_indices(total, rate, max_frames, fps, force_sample), reading, workers, part
    )


def read_frames(
    path: str | Path,
    sampling: Sampling,
    settings: ReadSettings | None = None,
    workers: VideoWorkers | None = None,
    part: slice | None = None,
) -> SampledVideo:
    """Decode the frames that `sampling` chooses from the video file `path`; the rest as in `sample_frames`."""
    if not isinstance(path, str | Path):
        raise InputError(f"A video is given as the name of its file, a text or a Path, got {_short(path)}.")
    if part is not None:
        _check_part(part)
    read = read_here if workers is None else workers.read
    chosen = 0

    def some(total: int, rate: float) -> tuple[list[int], list[float]]:
        nonlocal chosen
        numbers, times = sampling(total, rate)
        chosen = len(numbers)
        if part is None:
            return numbers, times
        if numbers and not numbers[part]:
            raise InputError(f"{path}: {part} holds none of the {chosen} frames that are chosen.")
        return numbers[part], times[part]

    video = read(path, some, settings or ReadSettings())
    return dataclasses.replace(video, chosen=chosen)


def _check_part(part: Any) -> None:
    bounds = (part.start, part.stop) if isinstance(part, slice) and part.step in (None, 1) else (-1,)
    if not all(bound is None or is_whole(bound, 0) for bound in bounds):
        raise InputError(
            f"part is a slice(start, stop) of the chosen frames, with whole numbers from 0 on, got {part!r}."
        )


def _short(given: Any) -> str:
    return repr(given) if given is None or isinstance(given, int | float) else f"an object of {type(given).__name__}"
