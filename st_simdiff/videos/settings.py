"""How a video is read."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, get_args

from st_simdiff.errors import InputError, unknown

Decoder = Literal["auto", "pyav", "decord", "torchcodec"]
FrameChoice = Literal["exact", "nearest_key_frame"]


@dataclass(frozen=True, kw_only=True)
class ReadSettings:
    """Settings of one reading; the default is what a player shows.

    decoder: the one to try first; "auto" is PyAV, whose frames are those that FFmpeg shows.
    frame_choice: "exact" decodes the frames that are asked for; "nearest_key_frame" takes, for each, the key frame
        nearest in time, which costs a fraction of the time in long videos, and records how far off it is.
    threads: of the decoder; the frames are the same for any number of them.
    damaged_share: of a video's frames that may be undecodable. Such frames are left out and counted.
    max_frame_pixels: the most pixels of one frame. shrink_frames: make larger ones smaller while decoding, rather than
        refuse the video.
    video_time_limit: seconds that one video may take in a process of its own.

    Raises `InputError` for a value out of its range.
    """

    decoder: Decoder = "auto"
    frame_choice: FrameChoice = "exact"
    threads: int = 1
    damaged_share: float = 0.1
    max_frame_pixels: int = 2**25
    shrink_frames: bool = False
    video_time_limit: float = 300

    def __post_init__(self) -> None:
        for name, value, kind in (("decoder", self.decoder, Decoder), ("frame choice", self.frame_choice, FrameChoice)):
            if value not in get_args(kind):
                raise unknown(f"video {name}", value, get_args(kind))
        if self.threads < 1:
            raise InputError(f"threads is the number of the decoder's threads, at least 1, got {self.threads}.")
        if not 0 <= self.damaged_share <= 1:
            raise InputError(f"damaged_share is a share between 0 and 1, got {self.damaged_share}.")
        if self.max_frame_pixels < 1:
            raise InputError(
                f"max_frame_pixels is the most pixels of a frame, at least 1, got {self.max_frame_pixels}."
            )
        if not 0 < self.video_time_limit < math.inf:
            raise InputError(
                f"video_time_limit is the seconds that a video may take, above 0, got {self.video_time_limit}."
            )
