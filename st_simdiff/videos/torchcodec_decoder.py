"""Frames by torchcodec, which uses the system's FFmpeg libraries; checked against the container's times."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from st_simdiff.videos.choice import choose
from st_simdiff.videos.errors import CannotDecode
from st_simdiff.videos.pictures import Allocate, allowed_size, check_memory, is_mirrored
from st_simdiff.videos.record import ReadRecord, SampledVideo
from st_simdiff.videos.sampling import Sampling
from st_simdiff.videos.settings import ReadSettings
from st_simdiff.videos.timeline import Timeline

_SAME = 0.002
"""Seconds: times of Matroska files are whole milliseconds."""


def read_with_torchcodec(
    path: str | Path, timeline: Timeline, sampling: Sampling, settings: ReadSettings, allocate: Allocate
) -> SampledVideo:
    """The frames that `sampling` chooses.

    Raises `CannotDecode` where torchcodec gives up or is not usable here, and where a frame that it gives is not the
    one that the container shows at that place.
    """
    if timeline.seconds is None:
        raise CannotDecode(f"{path}: the file does not say when a frame is shown, so torchcodec cannot be checked.")
    if is_mirrored(path):
        raise CannotDecode(f"{path}: torchcodec does not mirror the pictures.")
    choice = choose(sampling, timeline, settings)
    try:
        from torchcodec.decoders import VideoDecoder

        decoder = VideoDecoder(str(path), dimension_order="NHWC", num_ffmpeg_threads=settings.threads)
        count, width, height = decoder.metadata.num_frames, decoder.metadata.width, decoder.metadata.height
        if count != timeline.count:
            raise CannotDecode(f"{path}: torchcodec finds {count} frames, and the container shows {timeline.count}.")
        allowed_size(path, width, height, settings)
        check_memory(path, len(choice.numbers), width, height)
        batch = decoder.get_frames_at(choice.numbers)
    except (RuntimeError, OSError, ImportError, IndexError, UnicodeError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise CannotDecode(f"{path}: torchcodec cannot decode this video ({reason}).") from error
    shown = np.array([timeline.time(number) for number in choice.numbers])
    if np.abs(batch.pts_seconds.numpy() - timeline.start - shown).max() > _SAME:
        raise CannotDecode(f"{path}: torchcodec gives frames that the container shows at other times.")
    frames = allocate(tuple(batch.data.shape))
    frames[:] = batch.data.numpy()
    record = ReadRecord(
        decoder="torchcodec",
        shown=count,
        numbers=tuple(choice.numbers),
        taken_at=tuple(float(time) for time in shown),
        largest_offset=choice.largest_offset,
    )
    return SampledVideo(frames, choice.times, timeline.duration, record)
