"""The frames of a video, and how they were read."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class ReadRecord:
    """What was read of a video, and how.

    decoder: the one whose frames were taken. shown: frames that the video shows. numbers: of the frames taken, from 0
    in the order of showing. taken_at: when each of them is shown, seconds after the first frame. skipped: frames that
    could not be decoded. rescaled: frames taken that were brought to another size. largest_offset: seconds between a
    frame that was asked for and the one taken for it, at most. remarks: decoders that failed, and doubts.
    """

    decoder: str
    shown: int
    numbers: tuple[int, ...]
    taken_at: tuple[float, ...]
    skipped: int = 0
    rescaled: int = 0
    largest_offset: float = 0.0
    remarks: tuple[str, ...] = ()

    def as_plain(self) -> dict[str, Any]:
        """As JSON, times in tenths of a millisecond."""
        plain = {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()}
        return plain | {"taken_at": [round(time, 4) for time in self.taken_at]}

    def followed_by(self, later: ReadRecord) -> ReadRecord:
        """The record of both parts of one video, of which `later` was read after this one."""
        return ReadRecord(
            decoder=self.decoder,
            shown=self.shown,
            numbers=self.numbers + later.numbers,
            taken_at=self.taken_at + later.taken_at,
            skipped=max(self.skipped, later.skipped),
            rescaled=self.rescaled + later.rescaled,
            largest_offset=max(self.largest_offset, later.largest_offset),
            remarks=tuple(dict.fromkeys(self.remarks + later.remarks)),
        )


@dataclass(frozen=True)
class SampledVideo:
    """frames: uint8 RGB (T, H, W, 3). times: where each lies for the prompt, seconds. duration: of the whole video,
    seconds. record: how it was read. chosen: frames that the sampling chose, of which these may be a part."""

    frames: np.ndarray
    times: list[float]
    duration: float
    record: ReadRecord
    chosen: int = 0
