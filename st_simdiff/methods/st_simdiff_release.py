"""ST-SimDiff as the authors' public code computes it, which is what the published command line means."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

from st_simdiff.checks import check_cosine_bound, check_flag, check_index, is_number
from st_simdiff.errors import InputError
from st_simdiff.methods.base import Method, Reduction, VisualTokens
from st_simdiff.methods.ranking import highest
from st_simdiff.selection.release import ReleaseSelection, Strategy, drop_ratio, select_release
from st_simdiff.selection.release_pagerank import RankedSelection, drop_of_every_ten, select_ranked
from st_simdiff.vocabulary import PRUNE_LAYER, TAU_DIFF, TAU_SIM


@dataclass(frozen=True, kw_only=True)
class ReleaseMethod(Method, ABC):
    """What the authors' variants share: a selection at the input, then pruning by attention after a decoder layer.

    retention: the published `cost`, the share of tokens that the decoder's layers process on average; what is left in
        the end is a little below ceil(r N). tau_sim: the published `similarity_lower_bound`, any number.
    spatial, temporal, right, bottom: which edges make communities.
    prune_layer: 1 for LLaVA-Video; the authors' Qwen2.5-VL prunes after layer 0.
    """

    exact: ClassVar[bool] = False

    tau_sim: float = TAU_SIM
    spatial: bool = True
    temporal: bool = True
    right: bool = True
    bottom: bool = True
    prune_layer: int = PRUNE_LAYER

    def __post_init__(self) -> None:
        super().__post_init__()
        check_cosine_bound("tau_sim", self.tau_sim)
        for name in ("spatial", "temporal", "right", "bottom"):
            check_flag(name, getattr(self, name))
        check_index("prune_layer", self.prune_layer)

    def layers(self, num_layers: int) -> tuple[int, ...]:
        if self.prune_layer >= num_layers:
            raise InputError(f"prune_layer must be below the model's {num_layers} layers, got {self.prune_layer}.")
        return (self.prune_layer,)

    @abstractmethod
    def select(self, tokens: VisualTokens) -> ReleaseSelection | RankedSelection:
        """What enters the language model."""

    def reduce_input(self, tokens: VisualTokens) -> Reduction | None:
        if self.retention == 1:
            return None
        selection = self.select(tokens)
        return Reduction(kept=selection.kept.nonzero().flatten(), details=selection)

    def reduce_after_layer(self, layer: int, tokens: VisualTokens) -> Reduction | None:  # noqa: ARG002
        if self.retention == 1:
            return None
        selections = (stage.reduction.details for stage in tokens.history)
        selection = next(s for s in selections if isinstance(s, (ReleaseSelection, RankedSelection)))
        entering = tokens.offsets.numel()
        ratio = drop_ratio(selection.dropped_shares(), self.retention, tokens.num_layers)
        target = round(entering * (1 - ratio))
        if target >= entering:
            return None
        score = tokens.attention()
        return Reduction(kept=highest(score, target), details=score)


@dataclass(frozen=True, kw_only=True)
class STSimDiffRelease(ReleaseMethod):
    """Drops the least central tokens of communities at the input, then the least attended after a decoder layer.

    The published `merge_type=new_topk`. See `ReleaseMethod` for the settings that the variants share.

    tau_diff: the published `event_upper_bound`, any number. strategy: 3 filters communities in the order of their mean
        cosine, 2 roughly by size; the release fails with 1.
    """

    name: ClassVar[str] = "st_simdiff_release"

    tau_diff: float = TAU_DIFF
    strategy: Strategy = 3

    def __post_init__(self) -> None:
        super().__post_init__()
        check_cosine_bound("tau_diff", self.tau_diff)
        given: object = self.strategy
        if is_number(given) and given == 1:
            raise InputError("strategy=1 has no result to reproduce, the authors' code fails with it: use 2 or 3.")
        if not is_number(given) or given not in (2, 3):
            raise InputError(f"strategy is 2 or 3, got {given!r}.")

    def select(self, tokens: VisualTokens) -> ReleaseSelection:
        return select_release(
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
            num_layers=tokens.num_layers,
        )


@dataclass(frozen=True, kw_only=True)
class STSimDiffReleaseRanked(ReleaseMethod):
    """Keeps the best tokens of every Louvain community and of all by PageRank, then the most attended after a layer.

    The published `merge_type=st_topk`. See `ReleaseMethod` for the settings that the variants share.

    tau_sim: at least 0, since PageRank has no meaning for negative weights. seed: of Louvain, in networkx.
    """

    name: ClassVar[str] = "st_simdiff_release_ranked"

    seed: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.tau_sim < 0:
            raise InputError(f"tau_sim is at least 0 here, PageRank takes no negative weights, got {self.tau_sim!r}.")
        check_index("seed", self.seed)

    def select(self, tokens: VisualTokens) -> RankedSelection:
        return select_ranked(
            tokens.features,
            tokens.grid,
            self.retention,
            tau_sim=self.tau_sim,
            spatial=self.spatial,
            temporal=self.temporal,
            right=self.right,
            bottom=self.bottom,
            seed=self.seed,
            num_layers=tokens.num_layers,
        )


@dataclass(frozen=True, kw_only=True)
class STSimDiffReleaseRandom(Method):
    """Drops int(10 (1 - r)) random tokens of every ten in a row, separators included.

    The published `merge_type=random`; its pruning in the decoder has nothing left to do. seed: of the draw.
    """

    name: ClassVar[str] = "st_simdiff_release_random"
    exact: ClassVar[bool] = False

    seed: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_index("seed", self.seed)

    def reduce_input(self, tokens: VisualTokens) -> Reduction | None:
        if self.retention == 1:
            return None
        kept = drop_of_every_ten(tokens.grid.count, self.retention, self.seed)
        return Reduction(kept=kept.nonzero().flatten().to(tokens.features.device))
