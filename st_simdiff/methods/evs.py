"""EVS, efficient video sampling, as vLLM and SGLang serve it. Bagrov et al., "Efficient Video Sampling: Pruning
Temporally Redundant Tokens for Faster VLM Inference", 2025, arXiv 2510.14624; github.com/vllm-project/vllm."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from st_simdiff.methods.patches import Choice, Patches, PatchMethod, unit
from st_simdiff.methods.ranking import highest
from st_simdiff.selection.grid import TokenGrid


@dataclass(frozen=True, kw_only=True)
class EVS(PatchMethod):
    """Keeps the patches that differ most from the same place one frame earlier; the first frame's come before all.

    Once `temporal_drop` here, a name that is still understood. as_published: int(N r) of the patches, at least a
    frame's, and every newline token.
    """

    name: ClassVar[str] = "evs"

    def choose(self, patches: Patches, count: int) -> Choice:
        change = temporal_changes(patches.features)
        return Choice(highest(change.flatten(), count), details=change)

    def choose_published(self, patches: Patches) -> Choice:
        frames, size, _ = patches.features.shape
        return self.choose(patches, published_count(frames, size, self.retention))

    def published_separators(self, kept: torch.Tensor, grid: TokenGrid) -> torch.Tensor:
        return grid.separator_offsets(kept.device)


def published_count(frames: int, size: int, retention: float) -> int:
    """max(P, int(N (1 - q))) for the pruning rate q = 1 - r, in floating point: 19 of 200 at r = .1."""
    return max(size, int(frames * size * (1 - (1 - retention))))


def temporal_changes(features: torch.Tensor) -> torch.Tensor:
    """1 - cosine to the same place one frame earlier, float32 (T, P); infinite in the first frame. features: (T, P, D).

    A zero vector has cosine 0 with everything; numbers that are not finite count as zero.
    """
    direction = unit(features)
    change = 1 - (direction[1:] * direction[:-1]).sum(-1)
    return torch.cat([torch.full_like(direction[:1, :, 0], torch.inf), change])
