"""How a video is read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from st_simdiff.checks import check_range
from st_simdiff.errors import unknown

Decoder = Literal["auto", "pyav", "decord", "torchcodec"]
FrameChoice = Literal["exact", "nearest_key_frame"]

TIME_LIMIT = (0.01, 1e6)
"""Seconds."""


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
        check_range("threads", self.threads, 1, 1024, "the number of the decoder's threads")
        check_range("damaged_share", self.damaged_share, 0, 1, "a share of a video's frames")
        check_range("max_frame_pixels", self.max_frame_pixels, 1, 2**31, "the most pixels of a frame")
        check_range("video_time_limit", self.video_time_limit, *TIME_LIMIT, "the seconds that a video may take")
