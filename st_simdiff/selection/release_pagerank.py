"""The authors' variants `st_topk` and `random` (github.com/bingjunluo/ST-SimDiff, st_topk.py and ran.py, 7284c05).

`st_topk` ranks tokens by PageRank and takes some from every Louvain community; `random` drops tokens of every ten.
Both reimplemented from their rules, in float64.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch

from st_simdiff.selection.graph import Planes, node_view
from st_simdiff.selection.grid import TokenGrid
from st_simdiff.selection.modularity import modularity_communities
from st_simdiff.selection.release import KeptOfCommunities, drop_ratio, release_edges, release_planes
from st_simdiff.selection.tokens import best_of_community, community_sizes

DAMPING, TOLERANCE, MOST_STEPS = 0.85, 1e-6, 100
"""Those of networkx's PageRank, with which the authors' code was run."""
CHANGE = 0.2
"""An edge of smaller cosine ends in an event. Only edges of the graph are looked at, so a higher tau_sim has none."""
SHARE_OF_COMMUNITY = 0.1
GROUP = 10
KINDS = ("right", "down", "next")


@dataclass(frozen=True)
class RankedSelection(KeptOfCommunities):
    """What `st_topk` keeps of N tokens. All tensors are on the features' device.

    score: float64 (N,), 2000 PageRank + .5 mean temporal + .2 mean spatial cosine of the token's edges. community:
    int64 (N,), the smallest offset in the token's community. event, kept: bool (N,).
    """

    score: torch.Tensor
    community: torch.Tensor
    event: torch.Tensor
    kept: torch.Tensor

    @property
    def centrality(self) -> torch.Tensor:
        """The score, by which tokens of a community are ranked."""
        return self.score

    def dropped_shares(self) -> list[float]:
        """[dropped / N]. Reads the device."""
        return [int((~self.kept).sum()) / self.kept.numel()]


@torch.no_grad()
def select_ranked(
    features: torch.Tensor,
    grid: TokenGrid,
    cost: float,
    *,
    tau_sim: float = 0.8,
    spatial: bool = True,
    temporal: bool = True,
    right: bool = True,
    bottom: bool = True,
    seed: int = 0,
    num_layers: int = 28,
) -> RankedSelection:
    """`st_topk`: events, the int(n / 10) best of every Louvain community of n, then the best of all.

    features: (N, D) in the order of `grid`, any floating dtype. Up to ceil(N (1 - .6 d)) tokens are kept, d = 1 -
    cost; events and communities may take more. seed: of Louvain, which the authors leave to chance.
    """
    where = torch.arange(grid.count, device=features.device)
    if grid.separators != "row":
        where = grid.patches(features.device).flatten()
    planes = release_planes(node_view(features, grid))
    edges = release_edges(planes, tau_sim, right=spatial and right, bottom=spatial and bottom, temporal=temporal)
    labels = modularity_communities(planes, edges, "louvain", seed)
    community = torch.arange(grid.count, device=features.device)
    community[where] = where[labels.flatten()]

    ranks, alone = pagerank(planes, edges, grid.count)
    score = torch.full((grid.count,), 2000 * float(alone), dtype=torch.float64, device=features.device)
    likeness = 0.5 * mean_of_edges(planes, edges, ("next",)) + 0.2 * mean_of_edges(planes, edges, ("right", "down"))
    score[where] = (2000 * ranks + likeness).flatten()

    event = torch.zeros(grid.count, dtype=torch.bool, device=features.device)
    event[where[labels[:1].numel() :]] = (edges.next & (planes.next < CHANGE)).flatten()
    size = community_sizes(community)
    kept = event | best_of_community(score, community, (size.double() * SHARE_OF_COMMUNITY).long(), 0.0)
    wanted = math.ceil(grid.count * (1 - drop_ratio([], cost, num_layers) * 0.6))
    order = torch.sort(score, descending=True, stable=True).indices
    new = ~kept[order]
    kept[order] |= new & (new.cumsum(0) <= wanted - kept.sum())
    return RankedSelection(score, community, event, kept)


def pagerank(planes: Planes, edges: Planes, count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """PageRank of the nodes, float64 (T, H, W), and of each of `count` tokens that is no node (a scalar).

    Power iteration from equal ranks, damped by .85, until the ranks change by less than 1e-6 `count` in all, as in
    networkx. Tokens without edges hand their rank to all. Every step reads the device.
    """
    weights = Planes(*(torch.where(edge, plane, 0.0).double() for edge, plane in zip(edges, planes, strict=True)))
    strength = from_neighbours(weights, torch.ones(edges.shape, dtype=torch.float64, device=edges.right.device))
    share = torch.where(strength > 0, 1 / strength, 0.0)
    ranks, outside = torch.full_like(strength, 1 / count), strength.new_tensor(1 / count)
    others = count - strength.numel()
    for _ in range(MOST_STEPS):
        idle = (ranks * (strength == 0)).sum() + others * outside
        base = (DAMPING * idle + 1 - DAMPING) / count
        new = DAMPING * from_neighbours(weights, ranks * share) + base
        change = (new - ranks).abs().sum() + others * (base - outside).abs()
        ranks, outside = new, base
        if bool(change < count * TOLERANCE):
            break
    return ranks, outside


def from_neighbours(weights: Planes, values: torch.Tensor) -> torch.Tensor:
    """The neighbours' values, each times the weight of its edge, added up: (T, H, W)."""
    total = torch.zeros_like(values)
    total[:, :, 1:] += weights.right * values[:, :, :-1]
    total[:, :, :-1] += weights.right * values[:, :, 1:]
    total[:, 1:] += weights.down * values[:, :-1]
    total[:, :-1] += weights.down * values[:, 1:]
    total[1:] += weights.next * values[:-1]
    total[:-1] += weights.next * values[1:]
    return total


def mean_of_edges(planes: Planes, edges: Planes, kinds: tuple[str, ...]) -> torch.Tensor:
    """Mean cosine of the edges of some kinds at every node, 0 where there are none: float64 (T, H, W)."""

    def total(value: Callable[[str], torch.Tensor]) -> torch.Tensor:
        used = {kind: value(kind) if kind in kinds else torch.zeros_like(getattr(edges, kind)) for kind in KINDS}
        weights = Planes(**{kind: plane.double() for kind, plane in used.items()})
        return from_neighbours(weights, torch.ones(edges.shape, dtype=torch.float64, device=edges.right.device))

    number = total(lambda kind: getattr(edges, kind))
    cosines = total(lambda kind: torch.where(getattr(edges, kind), getattr(planes, kind), 0.0))
    return cosines / number.clamp(min=1)


@torch.no_grad()
def drop_of_every_ten(count: int, cost: float, seed: int) -> torch.Tensor:
    """`random`: which of `count` tokens stay where int(10 (1 - cost)) of every ten in a row are dropped: bool (count,).

    A shorter last group loses as many, at most all of it. Every choice is equally likely; drawn on the CPU. The authors
    leave the seed to chance.
    """
    draws = torch.rand(-(-count // GROUP), GROUP, generator=torch.Generator().manual_seed(seed)).flatten()[:count]
    draws = torch.cat([draws, draws.new_full((-count % GROUP,), torch.inf)]).view(-1, GROUP)
    kept = torch.ones_like(draws, dtype=torch.bool)
    kept.scatter_(1, draws.argsort(1)[:, : int(GROUP * (1 - cost))], False)
    return kept.flatten()[:count]
