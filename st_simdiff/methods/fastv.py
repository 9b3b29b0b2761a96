"""FastV. Chen et al., "An Image is Worth 1/2 Tokens After Layer 2", ECCV 2024; github.com/pkunlp-icler/FastV."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from st_simdiff.checks import check_whole
from st_simdiff.errors import InputError
from st_simdiff.methods.base import Reduction, VisualTokens
from st_simdiff.methods.budgeted import Budgeted
from st_simdiff.methods.ranking import highest


@dataclass(frozen=True, kw_only=True)
class FastV(Budgeted):
    """Keeps the tokens that the last query attends to most in decoder layer K (0-based index K-1).

    k: layers that process every token; the tokens are gone from index K on. 2 in the paper's title, 3 in its demo.
    """

    name: ClassVar[str] = "fastv"

    k: int = 2

    def __post_init__(self) -> None:
        super().__post_init__()
        check_whole("k", self.k, 1, "how many layers process every token")

    def layers(self, num_layers: int) -> tuple[int, ...]:
        if self.k >= num_layers:
            raise InputError(f"k must be below the model's {num_layers} layers, got {self.k}.")
        return (self.k - 1,)

    def reduce_after_layer(self, layer: int, tokens: VisualTokens) -> Reduction | None:
        if self.retention == 1:
            return None
        total = tokens.grid.count
        count = published_count(total, 1 - self.retention) if self.published else self.count(tokens, layer)
        scores = tokens.attention()
        return Reduction(kept=highest(scores, count), details=scores)


def published_count(count: int, pruned: float) -> int:
    """How many of `count` tokens the official code keeps at prune ratio `pruned`: round(n (1-r)), halves to even."""
    return round(count * (1 - pruned))
