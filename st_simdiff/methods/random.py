"""Random tokens: the lower bound of the paper's tables ("Random Sampling of an equivalent number of tokens")."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from st_simdiff.checks import check_whole
from st_simdiff.methods.base import Reduction, VisualTokens
from st_simdiff.methods.budgeted import Budgeted


@dataclass(frozen=True, kw_only=True)
class Random(Budgeted):
    """Keeps ceil(r N) tokens drawn uniformly from all N, separators included. One seed, one choice for every N."""

    name: ClassVar[str] = "random"

    seed: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_whole("seed", self.seed, 0, "what the draw starts from")

    def reduce_input(self, tokens: VisualTokens) -> Reduction | None:
        if self.retention == 1:
            return None
        kept = random_subset(tokens.grid.count, self.count(tokens), self.seed)
        return Reduction(kept=kept.to(tokens.features.device))


def random_subset(total: int, count: int, seed: int) -> torch.Tensor:
    """`count` of range(total), each subset equally likely, int64 ascending; drawn on the CPU on every device."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randperm(total, generator=generator)[:count].sort().values
