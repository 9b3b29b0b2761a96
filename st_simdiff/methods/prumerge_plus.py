"""PruMerge+: PruMerge with spatially even centres beside the most attended ones (same paper and repository).

The rule for a fixed budget on SigLIP is EffiVLM-Bench's. Wang et al., "EffiVLM-Bench", ACL 2025;
github.com/EffiVLM-Bench/EffiVLM-Bench.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from st_simdiff.methods.prumerge import PruMerge, outlier_ratio
from st_simdiff.methods.ranking import rank


@dataclass(frozen=True, kw_only=True)
class PruMergePlus(PruMerge):
    """Keeps each frame's outliers of attention and an even grid of patches, and merges like PruMerge.

    The budget is met as EffiVLM-Bench meets it: the outliers first, then the grid until the count is reached.
    as_published: the paper's adaptive rule, the outliers and a grid three times as dense as they are.
    """

    name: ClassVar[str] = "prumerge_plus"

    def centres(self, attention: torch.Tensor, places: list[int]) -> list[torch.Tensor]:
        ratio = outlier_ratio(attention)
        return [budget_centres(row, own, ratio) for row, own in zip(attention, places, strict=True)]

    def published_centres(self, attention: torch.Tensor) -> list[torch.Tensor]:
        ratio = outlier_ratio(attention.flatten())
        return [adaptive_centres(row, ratio) for row in attention]


def adaptive_centres(attention: torch.Tensor, ratio: float) -> torch.Tensor:
    """The official adaptive rule: the top int(N ratio), then every int(step / 3)-th patch not among them.

    attention: (N,). step = int(1 / ratio); the grid never holds the last patch. The official code divides by zero
    without outliers, and by a grid step of zero above ratio 1/3: here at least one patch is an outlier, and the step
    is at least 1. Returns int64 (k,): by rank, then by place.
    """
    size = attention.numel()
    top = rank(attention)[: max(1, int(size * ratio))]
    step = int(1 / max(ratio, 1 / size))
    return with_grid(top, torch.arange(0, size - 1, max(1, int(step / 3)), device=top.device))


def budget_centres(attention: torch.Tensor, count: int, ratio: float) -> torch.Tensor:
    """EffiVLM-Bench's rule for exactly `count` centres: the top max(int(N ratio), 1), then an even grid.

    attention: (N,). ratio: the video's share of outliers. The grid has step int(N / count) and is cut where the count
    is reached, so the last rows get none of it. Returns int64 (count,): by rank, then by place.
    """
    size = attention.numel()
    top = rank(attention)[: max(int(size * ratio), 1)]
    return with_grid(top, torch.arange(0, size, max(1, size // max(count, 1)), device=top.device))[:count]


def with_grid(top: torch.Tensor, grid: torch.Tensor) -> torch.Tensor:
    """`top`, then the members of `grid` that are not in it."""
    return torch.cat([top, grid[~torch.isin(grid, top)]])
