"""From the tower's patches to visual tokens: 2 x 2 patches become one, then frames may be averaged."""

from __future__ import annotations

import torch
from torch import nn


class SpaceToDepth(nn.Module):
    """(T, S * S, C) -> (T, ceil(S/2)^2, 4 C): the channels of a 2 x 2 block one after the other, row by row.

    An odd side gets a row and a column of zeros at its end.
    """

    def forward(self, patches: torch.Tensor) -> torch.Tensor:
        blocks = blocks_of(patches)
        return blocks.flatten(-2).flatten(1, 2)


def build_projector(vision_hidden: int, hidden: int) -> nn.Sequential:
    """`mlp_downsample_2x2_fix`. Its weights have the official names 1.* (norm), 2.* and 4.* (linear)."""
    return nn.Sequential(
        SpaceToDepth(),
        nn.LayerNorm(4 * vision_hidden),
        nn.Linear(4 * vision_hidden, hidden),
        nn.GELU(),
        nn.Linear(hidden, hidden),
    )


def blocks_of(patches: torch.Tensor) -> torch.Tensor:
    """(T, S * S, C) -> (T, H, W, 4, C), the members of every 2 x 2 block in row-major order."""
    frames, count, channels = patches.shape
    side = int(count**0.5)
    planes = patches.view(frames, side, side, channels)
    if side % 2:
        planes = nn.functional.pad(planes, (0, 0, 0, 1, 0, 1))
    half = planes.shape[1] // 2
    return planes.view(frames, half, 2, half, 2, channels).transpose(2, 3).flatten(3, 4)


def pool_frames(tokens: torch.Tensor, size: int) -> torch.Tensor:
    """(T, ...) -> (T / size, ...), means of `size` frames one after the other (temporal pooling, "TSP").

    Raises ValueError if `size` does not divide T.
    """
    check_frames(len(tokens), size)
    return tokens.unflatten(0, (-1, size)).mean(1) if size > 1 else tokens


def check_frames(frames: int, size: int) -> None:
    """Raises ValueError if a video of so many frames cannot be pooled."""
    if frames % size:
        raise ValueError(f"The frames of a video are pooled {size} by {size}: give a multiple of {size}, got {frames}.")
