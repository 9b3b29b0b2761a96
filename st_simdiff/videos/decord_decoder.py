"""Frames by decord, as the published runs read them, and how to tell that they are not the ones that are shown."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from st_simdiff.videos.choice import choose
from st_simdiff.videos.errors import CannotDecode
from st_simdiff.videos.pictures import Allocate, allowed_size, check_memory, is_mirrored
from st_simdiff.videos.record import ReadRecord, SampledVideo
from st_simdiff.videos.sampling import Sampling
from st_simdiff.videos.settings import ReadSettings
from st_simdiff.videos.timeline import Timeline

_COUNTS_RIGHT = frozenset({"mov", "matroska", "asf", "nut"})
"""Containers in which decord 0.6.0 finds the frame that it is asked for, if nothing else speaks against it."""


def read_with_decord(
    path: str | Path, timeline: Timeline, sampling: Sampling, settings: ReadSettings, allocate: Allocate
) -> SampledVideo:
    """The frames that decord takes for those that `sampling` chooses. Doubts are among the record's remarks.

    Raises `CannotDecode` where decord gives up.
    """
    import decord

    decord.logging.set_level(decord.logging.QUIET)
    try:
        reader = decord.VideoReader(str(path), ctx=decord.cpu(0), num_threads=settings.threads)
        count, rate = len(reader), float(reader.get_avg_fps())
        if not count or not rate > 0:
            raise CannotDecode(f"{path}: decord finds no frames in this video.")
        seen = replace(timeline, count=count, rate=rate) if count == timeline.count else timeline.counted(count)
        choice = choose(sampling, replace(seen, rate=rate), settings)
        height, width, _ = reader[0].shape
        allowed_size(path, width, height, replace(settings, shrink_frames=False))
        check_memory(path, len(choice.numbers), width, height)
        read = reader.get_batch(choice.numbers).asnumpy()
    except (decord.DECORDError, RuntimeError, UnicodeError) as error:
        raise CannotDecode(f"{path}: decord cannot decode this video.") from error
    frames = allocate(read.shape)
    frames[:] = read
    doubts = "; ".join((*_doubts(timeline, count, rate), *(["it does not mirror the pictures"] * is_mirrored(path))))
    record = ReadRecord(
        decoder="decord",
        shown=count,
        numbers=tuple(choice.numbers),
        taken_at=tuple(seen.time(number) for number in choice.numbers),
        largest_offset=choice.largest_offset,
        remarks=(f"decord's frames may not be the ones that are shown: {doubts}",) if doubts else (),
    )
    return SampledVideo(frames, choice.times, count / rate, record)


def _doubts(timeline: Timeline, count: int, rate: float) -> Iterator[str]:
    """Why decord's frames are not, or may not be, the ones that the container shows; nothing where they are."""
    if not _COUNTS_RIGHT & set(timeline.format.split(",")):
        yield f"it counts the frames of {timeline.format} files wrongly"
    elif timeline.stamps is None:
        yield "the file does not say when each frame is shown"
    if timeline.hidden:
        yield f"it shows {timeline.hidden} frames that an edit list hides"
    if timeline.leading:
        yield f"it miscounts behind key frames, where {timeline.leading} frames are shown before them"
    if timeline.keys and timeline.keys[0].number:
        yield "the video does not begin with a key frame"
    if count != timeline.count:
        yield f"it finds {count} frames, and the container shows {timeline.count}"
    if abs(rate / timeline.rate - 1) > 0.01:
        yield f"it takes {rate:.3f} frames a second, and the container shows {timeline.rate:.3f}"
