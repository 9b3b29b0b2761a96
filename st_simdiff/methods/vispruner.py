"""VisPruner. Zhang et al., "Beyond Text-Visual Attention: Exploiting Visual Cues for Effective Token Pruning in VLMs",
ICCV 2025; github.com/Theia-4869/VisPruner."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from st_simdiff.checks import check_range
from st_simdiff.methods.base import VisionInput
from st_simdiff.methods.budgeted import equal_groups, even_quotas
from st_simdiff.methods.patches import Choice, FramePart, Patches, PatchMethod, assemble, unit
from st_simdiff.methods.ranking import rank

ROUND = 8
"""How many redundant tokens a round removes at most."""


@dataclass(frozen=True, kw_only=True)
class VisPruner(PatchMethod):
    """Keeps each frame's most attended patches, and of the others those least like one another.

    important_ratio: share of the kept that attention chooses, in [0, 1]. as_published: int(P r) patches a frame.
    """

    name: ClassVar[str] = "vispruner"

    important_ratio: float = 0.5

    def __post_init__(self) -> None:
        super().__post_init__()
        check_range("important_ratio", self.important_ratio, 0, 1, "a share of the kept patches")

    @property
    def vision_inputs(self) -> frozenset[VisionInput]:
        return frozenset({"attention"})

    def choose(self, patches: Patches, count: int) -> Choice:
        return self._per_frame(patches, even_quotas(count, len(patches.features)))

    def choose_published(self, patches: Patches) -> Choice:
        frames, size, _ = patches.features.shape
        return self._per_frame(patches, [max(1, int(size * self.retention))] * frames)

    def _per_frame(self, patches: Patches, quotas: list[int]) -> Choice:
        frames, size, _ = patches.features.shape
        parts = []
        for quota, group in equal_groups(quotas):
            index = torch.tensor(group, device=patches.features.device)
            important, diverse = select(patches.attention[index], patches.features[index], quota, self.important_ratio)
            parts.append(FramePart(index, torch.cat([important, diverse], 1)))
        return assemble(parts, frames, size, details=patches.attention)


def select(
    scores: torch.Tensor, features: torch.Tensor, count: int, important_ratio: float = 0.5
) -> tuple[torch.Tensor, torch.Tensor]:
    """The published rule: int(T ratio) tokens by score, the rest of T by pairwise dissimilarity.

    scores: (B, N). features: (B, N, C). Returns int64 (B, T_imp) by rank and (B, T - T_imp), in the rule's last order.
    The official code fails when N - T_imp is odd; as in LightCompress, T_imp is then one more.
    """
    ranked = rank(scores)
    important = int(count * important_ratio)
    important += (scores.shape[1] - important) % 2 and important < count
    left = thin(ranked[:, important:], features, count - important)
    return ranked[:, :important], left


def thin(order: torch.Tensor, features: torch.Tensor, count: int) -> torch.Tensor:
    """Removes the most redundant tokens of a list, a few at a time, until `count` are left.

    order: int64 (B, R), tokens by descending score. features: (B, N, C). Each round scores every even position by its
    highest cosine to an odd position, drops up to 8 of the highest, and goes on with the surviving evens (by
    descending score), then the odds. The rounds are a loop; tokens and frames are not.
    """
    if count == 0:
        return order[:, :0]
    batch = torch.arange(len(order), device=order.device)
    vectors = unit(features[batch[:, None], order])
    similarity = vectors @ vectors.mT
    alive = torch.arange(order.shape[1], device=order.device).expand_as(order)
    while (excess := alive.shape[1] - count) > 0:
        even, odd = alive[:, 0::2], alive[:, 1::2]
        redundancy = similarity[batch[:, None, None], even[:, :, None], odd[:, None, :]].amax(-1)
        survivors = rank(redundancy)[:, min(ROUND, excess) :]
        alive = torch.cat([even.gather(1, survivors), odd], 1)
    return order.gather(1, alive)
