"""ST-SimDiff as the authors' public code computes it, which is what the published command line means."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

from st_simdiff.errors import InputError
from st_simdiff.methods.base import Method, Reduction, VisualTokens
from st_simdiff.methods.st_simdiff import highest
from st_simdiff.selection.release import ReleaseCommunities, ReleaseSelection, Strategy, drop_ratio, select_release
from st_simdiff.selection.rule import check_choice, check_flag
from st_simdiff.vocabulary import PRUNE_LAYER, TAU_DIFF, TAU_SIM


@dataclass(frozen=True, kw_only=True)
class STSimDiffRelease(Method):
    """Drops the least central tokens of communities at the input, then the least attended after a decoder layer.

    retention: the published `cost`, the share of tokens that the decoder's layers process on average; what is left in
        the end is a little below ceil(r N). tau_sim, tau_diff: the published `similarity_lower_bound` and
        `event_upper_bound`, any number. strategy: 3 filters communities in the order of their mean cosine, 2 roughly
        by size; the release fails with 1. spatial, temporal, right, bottom: which edges make communities.
    communities: "connected_components" is the published `merge_type=new_topk`; "louvain" is for its variant `st_topk`,
        of which nothing else is reproduced. seed: of Louvain.
    prune_layer: 1 for LLaVA-Video; the authors' Qwen2.5-VL prunes after layer 0.
    """

    name: ClassVar[str] = "st_simdiff_release"
    exact: ClassVar[bool] = False

    tau_sim: float = TAU_SIM
    tau_diff: float = TAU_DIFF
    strategy: Strategy = 3
    spatial: bool = True
    temporal: bool = True
    right: bool = True
    bottom: bool = True
    communities: ReleaseCommunities = "connected_components"
    seed: int = 0
    prune_layer: int = PRUNE_LAYER

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("tau_sim", "tau_diff"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
                raise InputError(f"{name} is a number that cosines are compared with, got {value!r}.")
        if self.strategy == 1 and not isinstance(self.strategy, bool):
            raise InputError("strategy=1 has no result to reproduce, the authors' code fails with it: use 2 or 3.")
        if isinstance(self.strategy, bool) or self.strategy not in (2, 3):
            raise InputError(f"strategy is 2 or 3, got {self.strategy!r}.")
        for name in ("spatial", "temporal", "right", "bottom"):
            check_flag(name, getattr(self, name))
        check_choice("communities", self.communities, ReleaseCommunities)
        for name in ("seed", "prune_layer"):
            check_index(name, getattr(self, name))

    def layers(self, num_layers: int) -> tuple[int, ...]:
        if self.prune_layer >= num_layers:
            raise InputError(f"prune_layer must be below the model's {num_layers} layers, got {self.prune_layer}.")
        return (self.prune_layer,)

    def reduce_input(self, tokens: VisualTokens) -> Reduction | None:
        if self.retention == 1:
            return None
        selection = select_release(
            tokens.features,
            tokens.grid,
            self.retention,
            tau_sim=self.tau_sim,
            tau_diff=self.tau_diff,
            strategy=self.strategy,
            spatial=self.spatial,
            temporal=self.temporal,
            right=self.right,
            bottom=self.bottom,
            communities=self.communities,
            seed=self.seed,
            num_layers=tokens.num_layers,
        )
        return Reduction(kept=selection.kept.nonzero().flatten(), details=selection)

    def reduce_after_layer(self, layer: int, tokens: VisualTokens) -> Reduction | None:  # noqa: ARG002
        if self.retention == 1:
            return None
        selection = next(
            s.reduction.details for s in tokens.history if isinstance(s.reduction.details, ReleaseSelection)
        )
        entering = tokens.offsets.numel()
        ratio = drop_ratio(selection.dropped_shares(), self.retention, tokens.num_layers)
        target = round(entering * (1 - ratio))
        if target >= entering:
            return None
        score = tokens.attention()
        return Reduction(kept=highest(score, target), details=score)


def check_index(name: str, value: Any) -> None:
    """Raises `InputError` unless `value` is a whole number, 0 or more."""
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise InputError(f"{name} is a whole number, 0 or more, got {value!r}.")
