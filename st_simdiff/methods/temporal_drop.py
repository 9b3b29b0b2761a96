"""Change alone: what one gets from the difference between frames without a graph, a community or attention."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from st_simdiff.methods.patches import Choice, Patches, PatchMethod, unit
from st_simdiff.methods.ranking import highest


@dataclass(frozen=True, kw_only=True)
class TemporalDrop(PatchMethod):
    """Keeps the patches that differ most from the same place one frame earlier; the first frame's come before all.

    Tokens that repeat the frame before are dropped first, as in the first step of FrameFusion, but by rank and not by
    a threshold, and all at once.
    """

    name: ClassVar[str] = "temporal_drop"
    unpublished: ClassVar[str] = "temporal_drop is a plain baseline: nobody published a budget for it."

    def choose(self, patches: Patches, count: int) -> Choice:
        change = temporal_changes(patches.features)
        return Choice(highest(change.flatten(), count), details=change)


def temporal_changes(features: torch.Tensor) -> torch.Tensor:
    """1 - cosine to the same place one frame earlier, float32 (T, P); infinite in the first frame. features: (T, P, D).

    A zero vector has cosine 0 with everything; numbers that are not finite count as zero.
    """
    direction = unit(features)
    change = 1 - (direction[1:] * direction[:-1]).sum(-1)
    return torch.cat([torch.full_like(direction[:1, :, 0], torch.inf), change])
