"""The decoders, and the order in which they are tried on a video."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from st_simdiff.errors import InputError, printable
from st_simdiff.videos.containers import open_video
from st_simdiff.videos.decord_decoder import read_with_decord
from st_simdiff.videos.errors import CannotDecode, VideoError
from st_simdiff.videos.key_frames import read_key_frames
from st_simdiff.videos.pictures import Allocate, allowed_size
from st_simdiff.videos.pyav_decoder import read_with_pyav
from st_simdiff.videos.record import SampledVideo
from st_simdiff.videos.sampling import Sampling
from st_simdiff.videos.settings import ReadSettings
from st_simdiff.videos.timeline import Timeline, read_timeline
from st_simdiff.videos.torchcodec_decoder import read_with_torchcodec

logger = logging.getLogger(__name__)

Reader = Callable[[str | Path, Timeline, Sampling, ReadSettings, Allocate], SampledVideo]

DECODERS: dict[str, tuple[str, Reader]] = {
    "pyav": ("av", read_with_pyav),
    "torchcodec": ("torchcodec", read_with_torchcodec),
    "decord": ("decord", read_with_decord),
}
"""By name: the package that is needed, and what reads. In the order in which they are tried."""


def new_array(shape: tuple[int, ...]) -> np.ndarray:
    """Of uint8, with no values yet."""
    return np.empty(shape, dtype=np.uint8)


def check_decoder(decoder: str) -> None:
    """Raises `InputError` if the package of `decoder`, or PyAV, which every reading needs, is not installed."""
    asked = "pyav" if decoder == "auto" else decoder
    for package in (DECODERS[asked][0], "av"):
        if find_spec(package) is None:
            extra = "torchcodec" if package == "torchcodec" else "video"
            raise InputError(
                f"Reading videos with {asked} needs the package {package}, which is not installed: "
                f"pip install 'st-simdiff[{extra}]'."
            )


def read_here(
    path: str | Path,
    sampling: Sampling,
    settings: ReadSettings,
    allocate: Allocate = new_array,
) -> SampledVideo:
    """The frames that `sampling` chooses from the file `path`, decoded in this process.

    The decoder that the settings name comes first. Where it cannot decode the video the others that are installed are
    tried, and the record says so. Raises `VideoError` for a video that cannot be read, whatever the reason, and
    `InputError` if a package is missing.
    """
    check_decoder(settings.decoder)
    try:
        return _read(path, sampling, settings, allocate)
    except (VideoError, InputError):
        raise
    except Exception as error:
        raise unexpected(path, error) from error


def unexpected(path: str | Path, error: Exception) -> VideoError:
    """Any exception as one of the video `path`."""
    reason = " ".join(str(error).split()) or "no reason is given"
    return VideoError(f"{path}: the video cannot be read: {type(error).__name__}: {reason}.")


def _read(path: str | Path, sampling: Sampling, settings: ReadSettings, allocate: Allocate) -> SampledVideo:
    with open_video(path) as (container, stream):
        allowed_size(path, stream.codec_context.width, stream.codec_context.height, settings)
    first = "pyav" if settings.decoder == "auto" else settings.decoder
    if first == "pyav" and settings.frame_choice == "nearest_key_frame":
        video = read_key_frames(path, sampling, settings, allocate)
        if video is not None:
            return video
    with open_video(path) as (container, stream):
        timeline = read_timeline(path, container, stream)
    remarks: list[str] = []
    for name in sorted(DECODERS, key=lambda name: name != first):
        package, reader = DECODERS[name]
        if find_spec(package) is None:
            continue
        try:
            video = reader(path, timeline, sampling, settings, allocate)
        except CannotDecode as error:
            remarks.append(str(error).removeprefix(f"{printable(path)}: "))
            failed = error
            continue
        record = replace(video.record, remarks=(*remarks, *video.record.remarks))
        for remark in record.remarks:
            logger.warning("%s: %s", printable(path), remark)
        return replace(video, record=record)
    raise VideoError(f"{path}: no decoder can read this video: {' '.join(remarks)}") from failed
