"""DivPrune. Alvar et al., "DivPrune: Diversity-based Visual Token Pruning for Large Multimodal Models", CVPR 2025;
github.com/vbdi/divprune."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from st_simdiff.methods.patches import Choice, Patches, PatchMethod, unit

BLOCK_VALUES = 1 << 24
"""Cosines that are held at once."""


@dataclass(frozen=True, kw_only=True)
class DivPrune(PatchMethod):
    """Keeps patches that are far apart: again and again the one whose nearest kept patch is farthest.

    Over the whole video, under 1 - cosine: O(N^2 D) for the first choice. as_published: round(N r) choices; copies may
    be chosen again once there is nothing else, so fewer patches may stay.
    """

    name: ClassVar[str] = "divprune"

    def choose(self, patches: Patches, count: int) -> Choice:
        return Choice(farthest_points(patches.features.flatten(0, 1), count).sort().values)

    def choose_published(self, patches: Patches) -> Choice:
        features = patches.features.flatten(0, 1)
        order = farthest_points(features, max(1, round(len(features) * self.retention)), repeat=True)
        return Choice(order.unique())


def farthest_points(features: torch.Tensor, count: int, *, repeat: bool = False) -> torch.Tensor:
    """`count` of (N, D) features in the order of their choice, int64.

    The first is the one whose nearest other is farthest, every next one the one farthest from those chosen; the
    earliest among equals. repeat: a chosen one may be chosen again, at its distance of 0 (as published).
    """
    vectors = unit(features)
    nearest_other = torch.cat(
        [
            # The nearest of all is the token itself.
            (1 - rows @ vectors.T).topk(min(2, len(vectors)), dim=1, largest=False).values[:, -1]
            for rows in vectors.split(max(1, BLOCK_VALUES // len(vectors)))
        ]
    )
    order = torch.zeros(count, dtype=torch.long, device=features.device)
    order[0] = nearest_other.argmax()
    near = torch.full_like(nearest_other, torch.inf)
    for step in range(1, count):
        last = order[step - 1 : step]
        near = torch.minimum(near, 1 - vectors @ vectors[last][0])
        if not repeat:
            near.index_fill_(0, last, -torch.inf)
        order[step] = near.argmax()
    return order
