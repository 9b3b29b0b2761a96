"""ST-SimDiff's two ideas without a question: what is kept is known before the language model starts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from st_simdiff.checks import check_flag
from st_simdiff.methods.base import Reduction, VisualTokens
from st_simdiff.methods.budgeted import Budgeted
from st_simdiff.selection.select_input import select_input


@dataclass(frozen=True, kw_only=True)
class STSimDiffInput(Budgeted):
    """Keeps the patches that change most and, of the others, those farthest from what is kept, in content and time.

    Similarity finds redundancy (near a kept patch there is nothing new), difference finds events; the paper's graph
    and its attention have no part in it. So the kept tokens are the same for every question about a video.

    events: whether the largest changes come first, a share r of the budget. Without them the kept tokens of a smaller
        retention are among those of a larger one.
    """

    name: ClassVar[str] = "st_simdiff_input"
    unpublished: ClassVar[str] = "st_simdiff_input is this project's own rule: nobody published a budget for it."

    events: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        check_flag("events", self.events)

    def reduce_input(self, tokens: VisualTokens) -> Reduction | None:
        count = self.count(tokens)
        if count == tokens.grid.count:
            return None
        selection = select_input(tokens.features, tokens.grid, count, events=self.events)
        return Reduction(kept=selection.kept.nonzero().flatten(), details=selection)
