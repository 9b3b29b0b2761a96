"""The key frames nearest to the wanted frames, found by the index of an mp4 file alone: none of its packets is read."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from st_simdiff.videos.containers import open_video
from st_simdiff.videos.pictures import Allocate, Pictures
from st_simdiff.videos.record import ReadRecord, SampledVideo
from st_simdiff.videos.sampling import Sampling
from st_simdiff.videos.settings import ReadSettings

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.packet import Packet
    from av.video.stream import VideoStream


def read_key_frames(
    path: str | Path, sampling: Sampling, settings: ReadSettings, allocate: Allocate
) -> SampledVideo | None:
    """For each frame that `sampling` chooses the key frame shown nearest to it.

    None for a file that has no such index, hides frames by an edit list or has a variable frame rate as far as its
    header tells: there the packets are needed.
    """
    import av

    with open_video(path) as (container, stream):
        count, rate, start = stream.frames, float(stream.average_rate or 0), stream.start_time
        if not _is_plain(container, stream) or not count or not rate or start is None:
            return None
        numbers, _ = sampling(count, rate)
        wanted = [start + round(number / rate / stream.time_base) for number in numbers]
        try:
            stamps = [_nearest(container, stream, stamp) for stamp in wanted]
            if None in stamps:
                return None
            places = [round(float((stamp - start) * stream.time_base) * rate) for stamp in stamps]
            pictures = Pictures(path, places, settings, allocate)
            for stamp, place in sorted(set(zip(stamps, places, strict=True))):
                packet = _packet_at(container, stream, stamp, backward=True)
                frames = [*stream.codec_context.decode(packet), *stream.codec_context.decode(None)]
                if not frames or frames[0].pts != stamp:
                    return None
                pictures.take(place, frames[0])
        except av.FFmpegError:
            return None
        times = [float((stamp - start) * stream.time_base) for stamp in stamps]
        offset = max(abs(time - number / rate) for time, number in zip(times, numbers, strict=True))
    record = ReadRecord(
        decoder="pyav",
        shown=count,
        numbers=tuple(places),
        taken_at=tuple(times),
        rescaled=pictures.rescaled,
        largest_offset=offset,
    )
    return SampledVideo(pictures.frames, times, count / rate, record)


def _is_plain(container: InputContainer, stream: VideoStream) -> bool:
    """Whether the header of an mp4 file tells the frames that are shown: all that there are, at one rate."""
    if "mov" not in container.format.name.split(",") or stream.average_rate != stream.base_rate:
        return False
    first = next(container.demux(stream))
    shown = (container.duration or 0) / 1e6 * float(stream.average_rate)
    return bool(first.size) and not first.is_discard and shown > stream.frames - 2


def _nearest(container: InputContainer, stream: VideoStream, stamp: int) -> int | None:
    """When the key frame nearest to `stamp` is shown, the earlier one of two; None if there is none."""
    found: Sequence[Packet | None] = [_packet_at(container, stream, stamp, backward=way) for way in (True, False)]
    stamps = [packet.pts for packet in found if packet is not None and packet.is_keyframe and packet.pts is not None]
    return min(stamps, key=lambda other: (abs(other - stamp), other), default=None)


def _packet_at(container: InputContainer, stream: VideoStream, stamp: int, *, backward: bool) -> Packet | None:
    import av

    try:
        container.seek(stamp, stream=stream, backward=backward)
        return next(container.demux(stream))
    except (av.FFmpegError, StopIteration):
        return None
