"""Farthest points of a video in space, time and content, chosen in small parts of it side by side.

Gonzalez, Clustering to minimize the maximum intercluster distance, 1985. The distance of two patches is that of their
sketches plus a share of the time between them. A part is a cell of 2 x 2 patches through the frames, so the work
grows with N and not with its square.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from st_simdiff.selection.tokens import TIE

CELL = 2
"""Rows and columns of a part."""
LARGEST_PART = 256
"""Patches in a part: a longer tube is cut in time."""
TIME_WEIGHT = 0.25
"""Distance of two frames that are as far apart as two frames of the video are on average."""

_CHECK_EVERY = 8
"""Rounds between two looks at whether enough points are chosen."""


@dataclass(frozen=True)
class Points:
    """The n = T*P patches of a video as points.

    sketch: float64 (n, q). frame: float64 (n,), 0..T-1. frame_weight: distance of neighbouring frames.
    """

    sketch: torch.Tensor
    frame: torch.Tensor
    frame_weight: float

    @classmethod
    def of_video(cls, sketch: torch.Tensor, frames: int) -> Points:
        """The patches of `frames` frames, by frame."""
        mean_gap = (frames**2 - 1) / (3 * frames)
        frame = torch.arange(frames, device=sketch.device).repeat_interleave(len(sketch) // frames).double()
        return cls(sketch, frame, TIME_WEIGHT / mean_gap if frames > 1 else 0.0)

    def from_middle(self) -> torch.Tensor:
        """Distance of every patch to the mean of all, at the middle of the video: float64 (n,)."""
        return self.sketch.norm(dim=1) + self.frame_weight * (self.frame - self.frame[-1:] / 2).abs()

    def distances_to(self, point: torch.Tensor) -> torch.Tensor:
        """Distance of every patch to one, float64 (n,). point: int64 (1,)."""
        apart = (self.sketch - self.sketch[point]).norm(dim=1)
        return apart + self.frame_weight * (self.frame - self.frame[point]).abs()


def steps(values: torch.Tensor) -> torch.Tensor:
    """Values in whole steps of `TIE`: rounding errors of equal values do not order them."""
    return (values / TIE).round()


def tubes(frames: int, height: int, width: int, device: torch.device | str = "cpu") -> torch.Tensor:
    """The patches of every part, int64 (C, M), by frame, row and column; -1 behind the last of a smaller part.

    Cells of 2 x 2 patches (fewer at an odd border) through all frames. A video of more than 64 frames is cut into runs
    of as equal length as whole frames allow, so that no part has more than 256 patches.
    """
    runs = -(-frames // (LARGEST_PART // CELL**2))
    rows, columns = -(-height // CELL), -(-width // CELL)
    axes = (torch.arange(size, device=device) for size in (frames, height, width))
    frame, row, column = torch.meshgrid(*axes, indexing="ij")
    part = ((frame * runs // frames * rows + row // CELL) * columns + column // CELL).flatten()
    count, parts = part.numel(), runs * rows * columns
    order = torch.argsort(part, stable=True)
    size = torch.zeros(parts, dtype=torch.long, device=device).scatter_add_(0, part, torch.ones_like(part))
    place = torch.arange(-(-frames // runs) * min(CELL, height) * min(CELL, width), device=device)
    member = (size.cumsum(0) - size)[:, None] + place
    return torch.where(place < size[:, None], order[member.clamp(max=count - 1)], -1)


def farthest_in_parts(
    points: Points, parts: torch.Tensor, seed: torch.Tensor, needed: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """The points that go on farthest from those before them, the farthest first, and their reach: (m,) each.

    parts: int64 (C, M), from `tubes`. seed: int64 (1,), the point that all parts start from. needed: m is at least
    this, or all points but the seed; the first `needed` do not depend on it.

    In every part, round by round, the point farthest from the seed and from those chosen in the part (the earliest
    within `TIE`) is chosen; that distance is its reach. Equal reaches come in order of rounds, then of parts. The
    device is read at most 32 times, whatever N is.
    """
    count = len(points.frame)
    rows = torch.arange(len(parts), device=parts.device)
    members = parts.clamp(min=0)
    # Patches along the last dimension: a vector times this matrix is several times as fast as the matrix times it.
    sketch, frame = points.sketch[members].transpose(1, 2).contiguous(), points.frame[members]
    square = sketch.square().sum(1)
    near = points.distances_to(seed)[members].masked_fill((parts < 0) | (parts == seed), -1.0)
    picks: list[torch.Tensor] = []
    reaches: list[torch.Tensor] = []
    while True:
        farthest = near.amax(1, keepdim=True)
        pick = (near >= farthest - TIE).int().argmax(1)
        picks.append(members[rows, pick])
        reaches.append(farthest[:, 0])
        product = torch.bmm(points.sketch[picks[-1]].unsqueeze(1), sketch).squeeze(1)
        both = square + square[rows, pick].unsqueeze(1)
        apart = both - 2 * product
        # Of copies the difference leaves a rounding error, whose root would not be small.
        apart = torch.where(apart <= TIE**2 * both, 0.0, apart).sqrt_()
        apart.add_((frame - frame[rows, pick].unsqueeze(1)).abs_(), alpha=points.frame_weight)
        near = torch.minimum(near, apart)
        near[rows, pick] = -1.0
        rounds = len(picks)
        if rounds == parts.shape[1]:
            break
        if rounds % _CHECK_EVERY == 0 and rounds * len(parts) >= needed:
            enough = (steps(torch.cat(reaches)) >= steps(near.max())).sum() >= min(needed, count - 1)
            if bool(enough):
                break
    reach, chosen = torch.cat(reaches), torch.cat(picks)
    order = torch.sort(steps(reach), descending=True, stable=True).indices
    return chosen[order], reach[order]
