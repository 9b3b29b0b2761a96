"""Which visual tokens a video becomes: the pooled grid of a frame, and where newline tokens stand between them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

NewlineMode = Literal["grid", "frame", "one_token", "no_token"]
"""Where the learned newline token stands: after every row, after every frame, once at the very end, nowhere."""
PoolMode = Literal["bilinear", "average", "max"]
"""How 2 x 2 patches become one visual token."""

POOL_STRIDE = 2


def pooled_side(side: int, pool_mode: PoolMode) -> int:
    """Visual tokens along one side of a frame of `side` x `side` patches: 27 patches become 14 (bilinear) or 13."""
    return -(-side // POOL_STRIDE) if pool_mode == "bilinear" else side // POOL_STRIDE


@dataclass(frozen=True)
class VideoSpan:
    """The tokens of one video in a row of the input: `length` of them from position `start` on."""

    start: int
    frames: int
    height: int
    width: int
    newline: NewlineMode

    @property
    def length(self) -> int:
        """Visual tokens and newline tokens together."""
        return span_length(self.frames, self.height, self.width, self.newline)


def span_length(frames: int, height: int, width: int, newline: NewlineMode) -> int:
    """Tokens of a video of frames x height x width visual tokens, newline tokens included."""
    newlines = {"grid": frames * height, "frame": frames, "one_token": 1, "no_token": 0}[newline]
    return frames * height * width + newlines
