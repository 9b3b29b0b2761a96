"""When each frame of a video is shown, as its container tells: found by reading the packets, without decoding them."""

from __future__ import annotations

import math
import os
from bisect import bisect_right
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from st_simdiff.videos.containers import RAW_STREAMS
from st_simdiff.videos.errors import VideoError

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.video.stream import VideoStream

_UNTIMED = RAW_STREAMS | {"avi"}
"""Formats that do not say when a frame is shown, but at best when it is to be decoded."""


@dataclass(frozen=True)
class KeyFrame:
    """A frame at which decoding can begin. number: in the order of showing. stamp, decoding_stamp: of its packet."""

    number: int
    stamp: int
    decoding_stamp: int


@dataclass(frozen=True)
class Timeline:
    """The frames that a video shows, in the order of showing.

    count: of frames. rate: frames a second. stamps: int64 (count,), when each is shown, in the stream's time base; None
    where the container does not say, or not uniquely. seconds: float64 (count,), the same since the first one, where it
    is known. start: seconds at which the container shows the first one. keys: ascending; empty without stamps. hidden:
    packets that an edit list hides. leading: frames that are stored behind a key frame and shown before it. cut_off:
    packets that the header tells of and the file ends before. format: of the container.
    """

    count: int
    rate: float
    stamps: np.ndarray | None
    seconds: np.ndarray | None
    start: float
    keys: tuple[KeyFrame, ...] = field(repr=False)
    hidden: int
    leading: int
    cut_off: int
    format: str

    @property
    def regular(self) -> bool:
        """Whether the frames are shown at equal distances, as far as is known."""
        return self.seconds is None or _is_regular(self.seconds, self.rate)

    @property
    def duration(self) -> float:
        """Seconds."""
        if self.regular or self.count < 2:
            return self.count / self.rate
        return float(self.seconds[-1] + np.median(np.diff(self.seconds)))

    def time(self, number: int) -> float:
        """When the frame `number` is shown, seconds after the first."""
        return float(self.seconds[number]) if self.seconds is not None else number / self.rate

    def key_before(self, number: int) -> KeyFrame | None:
        """The last key frame not after the frame `number`."""
        place = bisect_right(self.keys, number, key=lambda key: key.number)
        return self.keys[place - 1] if place else None

    def nearest_key(self, number: int) -> KeyFrame | None:
        """The shown key frame nearest in time to the frame `number`, the earlier one of two; None if there is none."""
        shown = [key for key in self.keys if key.number < self.count and self.stamps[key.number] == key.stamp]
        return min(shown, key=lambda key: abs(self.time(key.number) - self.time(number)), default=None)

    def only(self, stamps: list[int]) -> Timeline:
        """With those frames alone that are shown at `stamps`, ascending."""
        numbers = {stamp: number for number, stamp in enumerate(stamps)}
        kept = np.isin(self.stamps, stamps)
        keys = tuple(replace(key, number=numbers[key.stamp]) for key in self.keys if key.stamp in numbers)
        return replace(
            self, count=len(stamps), stamps=self.stamps[kept], seconds=_since_first(self.seconds[kept]), keys=keys
        )

    @property
    def has_times(self) -> bool:
        """Whether the container says when a frame is shown at all."""
        return not _UNTIMED & set(self.format.split(","))

    def counted(self, count: int, seconds: np.ndarray | None = None) -> Timeline:
        """With `count` frames that are known by their order alone. seconds: when they are shown, if that is known."""
        rate = self.rate if seconds is None else _rate(self.rate, seconds)
        return replace(self, count=count, rate=rate, stamps=None, seconds=seconds, keys=())


def read_timeline(path: str | Path, container: InputContainer, stream: VideoStream) -> Timeline:
    """Reads all packets of `stream`. Raises `VideoError` for a video without frames or without any rate of them."""
    import av

    rows: list[tuple[int | None, int | None, bool, bool]] = []
    end, broken = 0, False
    try:
        for packet in container.demux(stream):
            if packet.size:
                rows.append((packet.pts, packet.dts, packet.is_keyframe, packet.is_discard))
                end, broken = max(end, (packet.pos or 0) + packet.size), packet.is_corrupt
    except av.FFmpegError:
        broken = True
    format = container.format.name
    hidden = sum(discarded for *_, discarded in rows)
    count = len(rows) - hidden
    if count < 1:
        raise VideoError(f"{path}: the video has no frames.")
    cut_off = max(0, stream.frames - len(rows)) if broken or end >= os.path.getsize(path) else 0
    shown = [pts for pts, _, _, discarded in rows if not discarded]
    formats = set(format.split(","))
    stated, guessed = float(stream.average_rate or 0), float(stream.guessed_rate or 0)
    if _UNTIMED & formats or None in shown or len(set(shown)) < count:
        rate = guessed or stated if RAW_STREAMS & formats else stated or guessed
        if not 0 < rate < math.inf:
            raise VideoError(f"{path}: the video states no frame rate.")
        return Timeline(count, rate, None, None, 0.0, (), hidden, 0, cut_off, format)
    stamps = np.array(sorted(shown), dtype=np.int64)
    seconds = _since_first(stamps * float(stream.time_base))
    keys, leading = _key_frames(rows, stamps)
    start, rate = float(stamps[0] * stream.time_base), _rate(stated or guessed, seconds)
    return Timeline(count, rate, stamps, seconds, start, keys, hidden, leading, cut_off, format)


def _key_frames(
    rows: list[tuple[int | None, int | None, bool, bool]], stamps: np.ndarray
) -> tuple[tuple[KeyFrame, ...], int]:
    """The key frames, and how many frames are stored behind one that is shown after them.

    No key frames where an edit list hides packets in the middle, as it does to repeat or rearrange parts of the video:
    then the packets of two parts overlap in time.
    """
    keys, leading, last_key = [], 0, None
    for pts, dts, begins, hidden in rows:
        if hidden and (pts is None or stamps[0] < pts < stamps[-1]):
            return (), 0
        if begins and pts is not None:
            keys.append(KeyFrame(int(np.searchsorted(stamps, pts)), pts, pts if dts is None else dts))
            last_key = pts
        elif last_key is not None and pts is not None and pts < last_key and not hidden:
            leading += 1
    return tuple(sorted(keys, key=lambda key: key.stamp)), leading


def _rate(stated: float, seconds: np.ndarray) -> float:
    """Frames a second: as stated, unless the frames are shown at other times than that."""
    if len(seconds) < 2 or not seconds[-1] > 0:
        return stated or 1.0
    measured = float((len(seconds) - 1) / seconds[-1])
    if _is_regular(seconds, stated) or _is_regular(seconds, measured):
        return stated if _is_regular(seconds, stated) else measured
    shown = seconds[-1] + np.median(np.diff(seconds))
    return stated if stated and abs(len(seconds) / stated / shown - 1) < 0.05 else measured


def _is_regular(seconds: np.ndarray, rate: float) -> bool:
    """Whether no frame is shown more than one and a half frames, or a thousandth of its time, off a constant rate."""
    if not 0 < rate < math.inf:
        return False
    expected = np.arange(len(seconds)) / rate
    return bool((np.abs(seconds - expected) <= np.maximum(1.5 / rate, expected / 1000)).all())


def _since_first(seconds: np.ndarray) -> np.ndarray:
    return seconds - seconds[0]
