"""The ablation baseline of the ST-SimDiff paper (Table 3): importance alone, without the graph."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from st_simdiff.errors import InputError
from st_simdiff.methods.base import Reduction, VisualTokens
from st_simdiff.methods.budgeted import Budgeted
from st_simdiff.methods.ranking import highest

LAYER = 1
"""0-based index of the second decoder layer, whose attention ranks the tokens (Section 4.5)."""


@dataclass(frozen=True, kw_only=True)
class Importance(Budgeted):
    """Keeps the tokens that the last query attends to most in the second layer: ST-SimDiff's last step, and no other.

    Every token goes through the first two layers. as_published: ceil(r N), as in the paper.
    """

    name: ClassVar[str] = "importance"

    def layers(self, num_layers: int) -> tuple[int, ...]:
        if num_layers <= LAYER + 1:
            raise InputError(f"importance drops tokens after the second layer; the model has {num_layers} layers.")
        return (LAYER,)

    def reduce_after_layer(self, layer: int, tokens: VisualTokens) -> Reduction | None:
        if self.retention == 1:
            return None
        scores = tokens.attention()
        return Reduction(kept=highest(scores, self.count(tokens, layer)), details=scores)
