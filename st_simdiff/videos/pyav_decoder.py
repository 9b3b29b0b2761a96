"""Frames by PyAV: the ones that FFmpeg's command line shows, found by the times of the container's packets."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from st_simdiff.videos.choice import choose
from st_simdiff.videos.containers import open_video
from st_simdiff.videos.errors import CannotDecode, VideoError
from st_simdiff.videos.pictures import Allocate, Pictures
from st_simdiff.videos.record import ReadRecord, SampledVideo
from st_simdiff.videos.sampling import Sampling
from st_simdiff.videos.settings import ReadSettings
from st_simdiff.videos.timeline import KeyFrame, Timeline

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.packet import Packet
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream

_WHOLE = 300
"""Frames up to which a video is decoded as a whole, so that every frame that cannot be decoded is found."""

_ATTEMPTS = 5
"""Choices that are made: each one among the frames that the one before has found to be there."""

_WORTH_A_JUMP = 8
"""Frames that are decoded rather than jumped over."""

_SKIPS_UNREFERENCED = frozenset({"h264", "mpeg2video", "mpeg1video"})
"""Codecs in which a frame that no other one refers to can be left undecoded without changing any other."""

_SEEK_BACK = (0, 1, 4, 16)
"""Seconds before a key frame at which it is looked for, one after the other: an index may be coarse."""

_CHECKED = 16
"""First frames whose times are compared with those of the packets before anything is jumped over."""

_LOOKED_THROUGH = 5000
"""Packets among which a key frame is looked for before the next attempt."""


def read_with_pyav(
    path: str | Path, timeline: Timeline, sampling: Sampling, settings: ReadSettings, allocate: Allocate
) -> SampledVideo:
    """The frames that `sampling` chooses.

    Frames that cannot be decoded are left out of the timeline, and the choice is made anew among the others. Raises
    `VideoError` if they are too many, and `CannotDecode` if there is no frame at all.
    """
    shown, damaged = timeline, 0
    whole = timeline.stamps is None or (timeline.count <= _WHOLE and settings.frame_choice == "exact")
    _check_damage(path, timeline, timeline.cut_off, settings)
    for _ in range(_ATTEMPTS):
        choice = choose(sampling, shown, settings)
        pictures = Pictures(path, choice.numbers, settings, allocate)
        if not whole and _take_by_jumping(path, shown, settings, pictures):
            break
        whole = True
        found = _take_in_order(path, shown, settings, pictures)
        if found.damaged and settings.threads > 1:  # what is made of a damaged frame depends on the threads
            settings = replace(settings, threads=1)
            continue
        damaged = found.damaged + timeline.cut_off
        _check_damage(path, timeline, damaged, settings)
        if found.as_expected:
            break
        shown = found.timeline
    else:
        raise VideoError(f"{path}: the video gives other frames each time it is decoded.")
    record = ReadRecord(
        decoder="pyav",
        shown=shown.count,
        numbers=tuple(choice.numbers),
        taken_at=tuple(shown.time(number) for number in choice.numbers),
        skipped=max(damaged, timeline.count - shown.count),
        rescaled=pictures.rescaled,
        largest_offset=choice.largest_offset,
    )
    return SampledVideo(pictures.frames, choice.times, shown.duration, record)


def _check_damage(path: str | Path, timeline: Timeline, damaged: int, settings: ReadSettings) -> None:
    expected = timeline.count + timeline.cut_off
    if damaged > settings.damaged_share * expected:
        raise VideoError(
            f"{path}: the video breaks off or is damaged: {damaged} of {expected} frames could not be decoded, and "
            f"{settings.damaged_share:.0%} are tolerated."
        )


@dataclass(frozen=True)
class _Found:
    """What decoding a whole video brought: whether it shows the expected frames, and else a timeline of those that it
    shows. damaged: packets behind the first frame that could not be decoded."""

    as_expected: bool
    timeline: Timeline
    damaged: int


def _take_in_order(path: str | Path, timeline: Timeline, settings: ReadSettings, pictures: Pictures) -> _Found:
    """Decodes the whole video, and takes the frames of `pictures`. Raises `CannotDecode` for one without any."""
    numbers = None if timeline.stamps is None else {int(stamp): n for n, stamp in enumerate(timeline.stamps)}
    stamps: list[int | None] = []
    left, damaged = set(pictures.wanted), 0
    with open_video(path, settings.threads) as (container, stream):
        time_base = float(stream.time_base)
        for frame in _frames(container.demux(stream), stream):
            if frame is None:
                damaged += bool(stamps)
                continue
            number = len(stamps) if numbers is None else numbers.get(frame.pts)
            stamps.append(frame.pts)
            if number in left:
                left.remove(number)
                pictures.take(number, frame)
    if not stamps:
        raise CannotDecode(f"{path}: no frame of the video could be decoded.")
    if numbers is not None and stamps == sorted(set(stamps) & numbers.keys()):
        expected = len(stamps) == timeline.count
        return _Found(expected, timeline if expected else timeline.only(stamps), damaged)
    seconds = _seconds(stamps, time_base) if timeline.has_times else None
    there_are = timeline.counted(len(stamps), seconds)
    told = timeline.seconds is not None or (there_are.regular and there_are.rate == timeline.rate)
    return _Found(numbers is None and there_are.count == timeline.count and told, there_are, damaged)


def _take_by_jumping(path: str | Path, timeline: Timeline, settings: ReadSettings, pictures: Pictures) -> bool:
    """Takes the frames of `pictures`, decoding from the key frame before each. Whether that worked without an error."""
    with open_video(path, settings.threads) as (container, stream):
        if not _starts_as_expected(container, stream, timeline):
            return False
        for key, numbers in _runs(timeline, pictures.wanted):
            packets = _packets_from(container, stream, key)
            if packets is None or not _take_run(stream, packets, timeline, numbers, pictures):
                return False
    return True


def _starts_as_expected(container: InputContainer, stream: VideoStream, timeline: Timeline) -> bool:
    """Whether the first frames that are decoded have the times of the first packets.

    Not so if the video begins within a group of pictures, or if a packet holds a single field.
    """
    frames = _frames(container.demux(stream), stream)
    stamps = [None if frame is None else frame.pts for _, frame in zip(range(_CHECKED), frames, strict=False)]
    return stamps == timeline.stamps[: len(stamps)].tolist()


def _runs(timeline: Timeline, wanted: Sequence[int]) -> Iterator[tuple[KeyFrame, list[int]]]:
    """The frames `wanted`, ascending, in groups that are decoded from one key frame on."""
    key, run = None, []
    for number in wanted:
        own = timeline.key_before(number)
        if run and own is not None and own.number - run[-1] > _WORTH_A_JUMP:
            yield key, run
            run = []
        if not run:
            key = own or KeyFrame(0, int(timeline.stamps[0]), int(timeline.stamps[0]))
        run.append(number)
    if run:
        yield key, run


def _packets_from(container: InputContainer, stream: VideoStream, key: KeyFrame) -> Iterator[Packet] | None:
    """The packets from that of the key frame on; None if the container's index does not lead there."""
    import av

    second = int(1 / stream.time_base)
    for back in _SEEK_BACK:
        try:
            container.seek(key.decoding_stamp - back * second, stream=stream)
        except av.FFmpegError:
            continue
        packets = container.demux(stream)
        for _, packet in zip(range(_LOOKED_THROUGH), packets, strict=False):
            if packet.is_keyframe and packet.pts == key.stamp:
                return _chain(packet, packets)
            if packet.dts is not None and packet.dts > key.stamp + second:
                break
    return None


def _chain(first: Packet, rest: Iterator[Packet]) -> Iterator[Packet]:
    yield first
    yield from rest


def _take_run(
    stream: VideoStream,
    packets: Iterator[Packet],
    timeline: Timeline,
    numbers: Sequence[int],
    pictures: Pictures,
) -> bool:
    """Decodes until the frames `numbers` have been taken. Whether all of them turned up, and nothing was damaged."""
    left = {int(timeline.stamps[number]): number for number in numbers}
    try:
        for frame in _frames(_needed(stream, packets, set(left)), stream):
            if frame is None:
                return False
            number = left.pop(frame.pts, None)
            if number is not None:
                pictures.take(number, frame)
            if not left:
                break
    finally:
        stream.codec_context.skip_frame = "DEFAULT"
    return not left


def _needed(stream: VideoStream, packets: Iterator[Packet], stamps: set[int]) -> Iterator[Packet | None]:
    """The packets up to the last one of the frames shown at `stamps`; then None, which drains the decoder."""
    context = stream.codec_context
    skips = context.name in _SKIPS_UNREFERENCED
    for packet in packets:
        if skips:
            context.skip_frame = "DEFAULT" if packet.pts in stamps else "NONREF"
        yield packet
        stamps.discard(packet.pts)
        if not stamps:
            break
    yield None


def _frames(packets: Iterator[Packet | None], stream: VideoStream) -> Iterator[VideoFrame | None]:
    """The frames in the packets, in the order of showing; None for a packet that cannot be decoded.

    A packet None drains the decoder, as does the empty one with which a container ends.
    """
    import av

    while True:
        try:
            packet = next(packets)
        except StopIteration:
            return
        except av.FFmpegError:  # the container cannot be read any further
            packet, packets = None, iter(())
            yield None
        try:
            yield from stream.codec_context.decode(packet)
        except av.FFmpegError:
            yield None


def _seconds(stamps: Sequence[int | None], time_base: float) -> np.ndarray | None:
    """When the frames are shown, from the first on; None if their stamps do not say."""
    if None in stamps or any(later < earlier for earlier, later in pairwise(stamps)) or stamps[0] == stamps[-1]:
        return None
    return (np.array(stamps) - stamps[0]) * time_base
