"""ST-SimDiff with thresholds that the clip sets itself, and representatives that cover their community."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from st_simdiff.methods.st_simdiff import STSimDiff
from st_simdiff.selection.rule import NewlineRule, Ranking


@dataclass(frozen=True, kw_only=True)
class STSimDiffAdaptive(STSimDiff):
    """The paper's method without a number that belongs to one vision encoder.

    How similar neighbours are depends on the encoder, so a fixed cosine can merge everything or nothing. Here edges
    above the lower quartile of the clip's own cosines make communities, and the sharpest 5 % of temporal changes are
    events (the paper's own suggestion, Section 4.4). Communities are cut into parts of at most 64 tokens, and farthest
    points stand for a part: the most central tokens of a large community are all alike.

    More tokens enter than the budget, about the cube root of r, and they are pruned a layer later: the attention that
    prunes them has something to choose from, and has seen it. Half of the budget is not attention's to spend: it covers
    every part. Newline tokens, which say nothing once rows are thinned, are dropped first.
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
