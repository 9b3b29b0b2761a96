"""ST-SimDiff as the paper states it (Section 4). Luo et al., ICLR 2026, https://openreview.net/forum?id=he8kYNcoMA."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import ClassVar, Literal

import torch

from st_simdiff.checks import check_choice, check_flag, check_range, is_whole
from st_simdiff.errors import InputError
from st_simdiff.methods.base import Method, Reduction, VisualTokens
from st_simdiff.methods.ranking import highest
from st_simdiff.selection.budget import compute_target, retention_fraction
from st_simdiff.selection.rule import SelectionRule
from st_simdiff.selection.select import Selection, select
from st_simdiff.selection.select_input import InputSelection
from st_simdiff.vocabulary import PRUNE_LAYER

Budget = Literal["tokens", "compute"]


@dataclass(frozen=True, kw_only=True)
class STSimDiff(SelectionRule, Method):
    """Similarity finds redundancy, difference finds events.

    The candidates (representatives of every community, and events; see `SelectionRule` for the settings that choose
    them) enter the LLM; after decoder layer `prune_layer` the last query's attention ranks them and the best go on.

    max_tokens: an absolute budget instead of a retention.
    budget: "tokens" leaves ceil(r N) tokens, Section 4.5. "compute" reads r as the share of tokens that the decoder's
        layers process on average: the fewer candidates enter, the more go on.
    entry: the share of every community that enters the LLM is r to this power: 1 is Section 4.3, 0.5 lets the root of
        r enter, so that the cut at the input and the one behind `prune_layer` keep about the same share, 0 lets all.
        Under a compute budget no more enter than half of it pays for, unless r itself is more.
    cover: the share of the retention at which representatives cover every community in the final pruning: the tokens
        that `ranking` chooses at r times `cover` come before what attention prefers. 0 is Section 4.5.
    protect_events: in the final pruning events come before what attention prefers; where there are more of them than
        half the budget, as many as that, those of the largest change.
    """

    name: ClassVar[str] = "st_simdiff"

    max_tokens: int | None = None
    budget: Budget = "tokens"
    entry: float = 1.0
    cover: float = 0.0
    protect_events: bool = False
    prune_layer: int = PRUNE_LAYER

    def __post_init__(self) -> None:
        Method.__post_init__(self)
        SelectionRule.__post_init__(self)
        if self.max_tokens is not None and not is_whole(self.max_tokens, 1):
            raise InputError(f"max_tokens is None or a number of tokens, at least 1, got {self.max_tokens!r}.")
        if self.max_tokens is not None and self.retention != 1:
            raise InputError(
                f"max_tokens and retention both set the budget: give one, not both "
                f"(max_tokens={self.max_tokens}, retention={self.retention})."
            )
        check_choice("budget", self.budget, Budget)
        check_range("entry", self.entry, 0, 1, "a power of the retention")
        check_range("cover", self.cover, 0, 1, "a share of the retention")
        check_flag("protect_events", self.protect_events)
        if not is_whole(self.prune_layer, 0):
            raise InputError(f"prune_layer is the 0-based index of a decoder layer, got {self.prune_layer!r}.")

    def layers(self, num_layers: int) -> tuple[int, ...]:
        if self.prune_layer >= num_layers:
            raise InputError(f"prune_layer must be below the model's {num_layers} layers, got {self.prune_layer}.")
        return (self.prune_layer,)

    def share(self, count: int) -> Fraction:
        """The retention r, or the share that `max_tokens` is of N = `count`."""
        if self.max_tokens is None:
            return retention_fraction(self.retention)
        return Fraction(min(self.max_tokens, count), count)

    def entry_share(self, tokens: VisualTokens) -> Fraction:
        """The share of every community that enters the LLM."""
        share = self.share(tokens.grid.count)
        if self.entry == 1:
            return share
        wanted = retention_fraction(float(share) ** self.entry)
        prune_layer = tokens.stages[0] if tokens.stages else self.prune_layer
        half = share * tokens.num_layers / (2 * (prune_layer + 1))
        return min(wanted, max(share, half)) if self.budget == "compute" else wanted

    def target(self, count: int) -> int:
        return super().target(count) if self.max_tokens is None else min(self.max_tokens, count)

    def keeps_all(self, count: int) -> bool:
        """Whether the budget has room for all N = `count` tokens."""
        return self.share(count) == 1 if self.budget == "compute" else self.target(count) == count

    def reduce_input(self, tokens: VisualTokens) -> Reduction | None:
        count = tokens.grid.count
        if self.keeps_all(count):
            return None
        entry = self.entry_share(tokens)
        core = self.share(count) / entry * retention_fraction(self.cover)
        selection = select(tokens.features, tokens.grid, entry, self, core=core)
        return Reduction(kept=selection.candidate.nonzero().flatten(), details=selection)

    def reduce_after_layer(self, layer: int, tokens: VisualTokens) -> Reduction | None:
        entering, count = tokens.offsets.numel(), tokens.grid.count
        if self.keeps_all(count):
            return None
        target = self.left_after(layer, tokens)
        if entering <= target:
            return None
        score = self.score_of(tokens)
        return Reduction(kept=highest(score, target, self._first(tokens, target)), details=score)

    def left_after(self, layer: int, tokens: VisualTokens) -> int:
        """How many tokens go on after decoder layer `layer`."""
        count = tokens.grid.count
        if self.budget == "compute":
            return compute_target(self.share(count), count, tokens.offsets.numel(), layer + 1, tokens.num_layers)
        return self.target(count)

    def score_of(self, tokens: VisualTokens) -> torch.Tensor:
        """What ranks the tokens inside the language model, float32 (n,)."""
        return tokens.attention()

    def _first(self, tokens: VisualTokens, target: int) -> torch.Tensor | None:
        """Which of the remaining tokens come before what attention prefers: bool (n,), or None if none do."""
        if self.newline != "keep" and not self.cover and not self.protect_events:
            return None
        earlier = (stage.reduction.details for stage in tokens.history)
        selection = next(details for details in earlier if isinstance(details, (Selection, InputSelection)))
        first = torch.zeros_like(tokens.offsets, dtype=torch.bool)
        if self.newline == "keep":
            first |= selection.newline.to(first.device)[tokens.offsets]
        if self.cover:
            first |= selection.core.to(first.device)[tokens.offsets]
        if self.protect_events:
            event, change = (x.to(first.device)[tokens.offsets] for x in (selection.event, selection.change))
            largest = highest(torch.where(event, change, -1.0), target // 2)
            first[largest] |= event[largest]
        return first
