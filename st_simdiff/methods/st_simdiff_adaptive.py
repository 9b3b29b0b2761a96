"""ST-SimDiff without a number that belongs to one vision encoder, and with its pruning in two steps."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch

from st_simdiff.checks import check_choice, check_range
from st_simdiff.errors import InputError
from st_simdiff.methods.base import Reduction, VisualTokens
from st_simdiff.methods.st_simdiff import STSimDiff
from st_simdiff.selection.budget import retention_fraction, target_count
from st_simdiff.selection.rule import NewlineRule, Ranking, SelectionRule
from st_simdiff.selection.select_input import select_input

Candidates = Literal["input", "communities"]
Score = Literal["attention", "visual"]


@dataclass(frozen=True, kw_only=True)
class STSimDiffAdaptive(STSimDiff):
    """The paper's method without a number that belongs to one vision encoder.

    More tokens enter than the budget, about the cube root of r, and they are pruned a layer later: the attention that
    prunes them has something to choose from, and has seen it. Half of the budget is not attention's to spend: it covers
    the video. Newline tokens, which say nothing once rows are thinned, are dropped first.

    candidates: what chooses the tokens that enter. "input" is the rule of `st_simdiff_input`, without events unless
        they are protected. "communities" is the paper's graph with thresholds that the clip sets itself: edges above
        the lower quartile of its own cosines, the sharpest 5 % of temporal changes as events (the paper's own
        suggestion, Section 4.4), parts of at most 64 tokens for which farthest points stand. The settings of
        `SelectionRule` belong to it.
    middle: the share of tokens left after `prune_layer` is r to this power, and the layer after it prunes to r. None
        prunes once.
    score: "attention" ranks by the prompt's last query. "visual" ranks by the last visual token's attention to the
        others in the next layer, in which no text has a part: the kept tokens are then the same for every question.
    """

    name: ClassVar[str] = "st_simdiff_adaptive"

    tau_sim: float | str = "q0.25"
    tau_diff: float | str = "q0.05"
    community_cap: int | Literal["sqrt"] | None = 64
    ranking: Ranking = "farthest"
    newline: NewlineRule = "drop"
    entry: float = 0.33
    cover: float = 0.5
    prune_layer: int = 2
    candidates: Candidates = "input"
    middle: float | None = None
    score: Score = "attention"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice("candidates", self.candidates, Candidates)
        check_choice("score", self.score, Score)
        if self.middle is not None:
            check_range("middle", self.middle, 0, 1, "None or a power of the retention")
            if self.budget == "compute":
                raise InputError("budget='compute' is worked out for one pruning: leave out middle, or count tokens.")
        if self.candidates == "input":
            defaults = {field.name: field.default for field in dataclasses.fields(self)}
            for field in dataclasses.fields(SelectionRule):
                if getattr(self, field.name) != defaults[field.name]:
                    raise InputError(
                        f"{field.name} is a setting of the graph, which chooses the candidates only with "
                        f"candidates='communities'; got {field.name}={getattr(self, field.name)!r} without it."
                    )

    @property
    def asks_query(self) -> bool:
        return self.score == "attention"

    @property
    def asks_visual(self) -> bool:
        return self.score == "visual"

    def layers(self, num_layers: int) -> tuple[int, ...]:
        layers = super().layers(num_layers)
        if self.middle is not None:
            layers = (*layers, self.prune_layer + 1)
        needed = layers[-1] + 1 + (self.score == "visual")
        if num_layers < needed:
            raise InputError(
                f"prune_layer={self.prune_layer} with these settings needs {needed} layers, the model has {num_layers}."
            )
        return layers

    def reduce_input(self, tokens: VisualTokens) -> Reduction | None:
        count = tokens.grid.count
        if self.candidates == "communities" or self.keeps_all(count):
            return super().reduce_input(tokens)
        target = self.target(count)
        entering = max(target, target_count(self.entry_share(tokens), count))
        selection = select_input(
            tokens.features, tokens.grid, entering, core=int(self.cover * target), events=self.protect_events
        )
        return Reduction(kept=selection.kept.nonzero().flatten(), details=selection)

    def left_after(self, layer: int, tokens: VisualTokens) -> int:
        if self.middle is None or layer > self.prune_layer:
            return super().left_after(layer, tokens)
        count = tokens.grid.count
        share = retention_fraction(float(self.share(count)) ** self.middle)
        return max(self.target(count), target_count(share, count))

    def score_of(self, tokens: VisualTokens) -> torch.Tensor:
        return tokens.attention() if self.score == "attention" else tokens.visual_attention()


@dataclass(frozen=True, kw_only=True)
class STSimDiffTwoSteps(STSimDiffAdaptive):
    """`st_simdiff_adaptive` with its pruning in two steps: r^.33 enter, r^.66 and r are left after two layers in a row.

    A preset: nothing covers the video by rule in the end, attention chooses twice.
    """

    name: ClassVar[str] = "st_simdiff_two_steps"

    cover: float = 0.0
    middle: float | None = 0.66
