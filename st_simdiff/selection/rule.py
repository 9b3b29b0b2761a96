"""The settings of the paper's rule, and what they may be."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from st_simdiff.checks import check_choice, check_flag, check_index, is_whole
from st_simdiff.errors import InputError
from st_simdiff.selection.thresholds import check_threshold
from st_simdiff.vocabulary import TAU_DIFF, TAU_SIM

CommunityDetection = Literal["connected_components", "louvain", "leiden"]
Ranking = Literal["central", "farthest"]
NewlineRule = Literal["node", "keep", "drop"]


@dataclass(frozen=True, kw_only=True)
class SelectionRule:
    """How candidates are chosen; the defaults are the paper's (Section 4.2 to 4.5, 5.2).

    tau_sim: edges of cosine above it make communities. tau_diff: a temporal edge of cosine below it ends in an event
        (-1: no events). Each is a cosine in [-1, 1], or a quantile of the clip's own cosines: "q0.5" for `tau_sim` is
        the median over all kinds of edges that are switched on; "q0.05" for `tau_diff` is the 5th percentile over
        the temporal edges, which is the 95th of the differences (Section 4.4).
    spatial, temporal, right, bottom: which edges make communities. Events always come from temporal edges.
    communities: what is a community of the graph. Louvain and Leiden weigh edges by cosine, on the host.
    community_cap: communities larger than this many tokens are cut into compact parts; "sqrt" is the paper's sqrt(N)
        (Section 4.6). None cuts nothing: centrality costs O(N d) without it.
    ranking: "central" keeps the most central tokens of every community (Eq. 5). "farthest" starts at the most central
        one and goes on with the token least like those already chosen; it needs a `community_cap`.
    newline: what newline tokens are: nodes of the graph, the one after a row being a column of its own; or no nodes
        and always kept, counted in the budget; or no nodes and dropped, returning only where the budget exceeds the
        patches.
    seed: of Louvain and Leiden.
    """

    tau_sim: float | str = TAU_SIM
    tau_diff: float | str = TAU_DIFF
    spatial: bool = True
    temporal: bool = True
    right: bool = True
    bottom: bool = True
    communities: CommunityDetection = "connected_components"
    community_cap: int | Literal["sqrt"] | None = None
    ranking: Ranking = "central"
    newline: NewlineRule = "node"
    seed: int = 0

    def __post_init__(self) -> None:
        """Raises `InputError` for settings out of range."""
        check_threshold("tau_sim", self.tau_sim)
        check_threshold("tau_diff", self.tau_diff)
        for name in ("spatial", "temporal", "right", "bottom"):
            check_flag(name, getattr(self, name))
        check_choice("communities", self.communities, CommunityDetection)
        check_choice("ranking", self.ranking, Ranking)
        check_choice("newline", self.newline, NewlineRule)
        if self.community_cap not in (None, "sqrt") and not is_whole(self.community_cap, 1):
            raise InputError(
                "community_cap is None, 'sqrt' or the most tokens in a community, at least 1, "
                f"got {self.community_cap!r}."
            )
        if self.ranking == "farthest" and self.community_cap is None:
            raise InputError(
                "ranking='farthest' compares all pairs inside a community, so it needs a community_cap, got None."
            )
        check_index("seed", self.seed)

    def cap(self, count: int) -> int | None:
        """The most tokens in a community of a video of `count` tokens; None if there is no limit."""
        return max(1, math.isqrt(count)) if self.community_cap == "sqrt" else self.community_cap
