"""ST-SimDiff as the paper states it (Section 4). Luo et al., ICLR 2026, https://openreview.net/forum?id=he8kYNcoMA."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from st_simdiff.errors import InputError
from st_simdiff.methods.base import Method, Reduction, VisualTokens
from st_simdiff.selection.select import select


def highest(score: torch.Tensor, count: int) -> torch.Tensor:
    """Indices of the `count` highest scores, int64 ascending. Among equal scores the earliest wins."""
    return torch.sort(score, descending=True, stable=True).indices[:count].sort().values


@dataclass(frozen=True, kw_only=True)
class STSimDiff(Method):
    """Similarity finds redundancy, difference finds events.

    The candidates (representatives of every community, and events) enter the LLM; after decoder layer `prune_layer`
    the last query's attention ranks them and the top ceil(r N) go on.

    tau_sim: edges of cosine above it make communities. tau_diff: a temporal edge of cosine below it ends in an event.
    Both in [-1, 1]; `tau_diff=-1` means no events. spatial, temporal, right, bottom: which edges make communities.
    """

    name: ClassVar[str] = "st_simdiff"

    tau_sim: float = 0.8
    tau_diff: float = 0.2
    spatial: bool = True
    temporal: bool = True
    right: bool = True
    bottom: bool = True
    prune_layer: int = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("tau_sim", "tau_diff"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not -1 <= value <= 1:
                raise InputError(f"{name} is a cosine similarity, in [-1, 1], got {value!r}.")
        if isinstance(self.prune_layer, bool) or not isinstance(self.prune_layer, int) or self.prune_layer < 0:
            raise InputError(f"prune_layer is the 0-based index of a decoder layer, got {self.prune_layer!r}.")

    def layers(self, num_layers: int) -> tuple[int, ...]:
        if self.prune_layer >= num_layers:
            raise InputError(f"prune_layer must be below the model's {num_layers} layers, got {self.prune_layer}.")
        return (self.prune_layer,)

    def reduce_input(self, tokens: VisualTokens) -> Reduction | None:
        if self.target(tokens.grid.count) == tokens.grid.count:
            return None
        selection = select(
            tokens.features,
            tokens.grid,
            self.retention,
            tau_sim=self.tau_sim,
            tau_diff=self.tau_diff,
            spatial=self.spatial,
            temporal=self.temporal,
            right=self.right,
            bottom=self.bottom,
        )
        return Reduction(kept=selection.candidate.nonzero().flatten(), details=selection)

    def reduce_after_layer(self, layer: int, tokens: VisualTokens) -> Reduction | None:  # noqa: ARG002
        target = self.target(tokens.grid.count)
        if tokens.offsets.numel() <= target:
            return None
        score = tokens.attention()
        return Reduction(kept=highest(score, target), details=score)
