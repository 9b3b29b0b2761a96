"""What the authors' public code selects (github.com/bingjunluo/ST-SimDiff, simdiff/new_topk.py, commit 7284c05).

It differs from the paper's Section 4 in rounding, in the order and the end of the filtering, and in what the budget
means; docs/selection.md lists the differences. Reimplemented from the rules, in float32 and float64; where the code
leaves ties to a sorting routine, the earliest token stays.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch

from st_simdiff.errors import InputError
from st_simdiff.selection.centrality import community_similarity
from st_simdiff.selection.communities import connected_components
from st_simdiff.selection.graph import Planes, cosines_and_norms, node_view
from st_simdiff.selection.grid import TokenGrid
from st_simdiff.selection.tokens import best_of_community, community_sizes, events

Strategy = Literal[2, 3]

SAME = 1e-9
"""Centralities this close are those of exact copies or of a pair, which the release leaves to its sorting routine."""


class KeptOfCommunities:
    """What the selections of the release have in common: community int64 (N,), event and kept bool (N,)."""

    community: torch.Tensor
    event: torch.Tensor
    kept: torch.Tensor

    @property
    def representative(self) -> torch.Tensor:
        """What is kept and no event: bool (N,)."""
        return self.kept & ~self.event

    def summary(self) -> dict[str, int]:
        """The counts for a results file. Reads the device."""
        return {
            "communities": self.community.unique().numel(),
            "representatives": int(self.representative.sum()),
            "events": int(self.event.sum()),
            "candidates": int(self.kept.sum()),
        }


@dataclass(frozen=True)
class ReleaseSelection(KeptOfCommunities):
    """What the first of the two reductions did with a video's N tokens. All tensors are on the features' device.

    planes, edges: cosine of every pair of neighbours, and which pairs are joined. event: bool (N,).
    community: int64 (N,), the smallest offset in the token's community; a token that is joined to none is alone in it.
    centrality: float64 (N,), mean cosine to the members of the community, the token itself included.
    weight: float64 (N,), by label: what orders the communities. order: int64 (N,), labels in processing order, those
    that are no community of two or more behind them. slots: int64 (N,), by label: how many of its least central tokens
    a community is to lose. processed: bool (N,), by label: whether it came before the budget was reached.
    kept: bool (N,). joined: bool scalar, whether any two tokens are.
    """

    planes: Planes
    edges: Planes
    event: torch.Tensor
    community: torch.Tensor
    centrality: torch.Tensor
    weight: torch.Tensor
    order: torch.Tensor
    slots: torch.Tensor
    processed: torch.Tensor
    kept: torch.Tensor
    joined: torch.Tensor

    def dropped_shares(self) -> list[float]:
        """[dropped / N], or nothing where no two tokens are joined. Reads the device."""
        count = self.kept.numel()
        return [(count - int(self.kept.sum())) / count] if bool(self.joined) else []


def drop_ratio(dropped_shares: Sequence[float], cost: float, num_layers: int) -> float:
    """The share of the remaining tokens to drop now, so that the layers process `cost` of all tokens on average.

    dropped_shares: of every reduction so far, the share dropped of what it was given; each reduction stands for one
    layer already paid for. In floating point, in this order, as the release does it (FrameFusion's formula).
    Raises `InputError` where the layers paid for already cost more than the budget.
    """
    remaining, used = 1.0, 0.0
    for share in dropped_shares:
        remaining *= 1 - share
        used += remaining
    left = num_layers * cost - used
    if left < 0:
        raise InputError(
            f"A cost of {cost} is out of reach: {used:.2f} layers' worth of tokens are processed before the pruning, "
            f"and {num_layers} layers have {num_layers * cost:.2f} to spend."
        )
    share = left / ((num_layers - len(dropped_shares)) * remaining)
    return 0.0 if share > 1 else 1 - share


def release_planes(nodes: torch.Tensor) -> Planes:
    """Cosines of neighbours, float32, with the release's zero vectors: 0 inside a frame, NaN between frames."""
    planes, scale = cosines_and_norms(nodes)
    undefined = (scale[1:] == 0) | (scale[:-1] == 0)
    return Planes(planes.right, planes.down, planes.next.masked_fill(undefined, torch.nan))


def release_edges(planes: Planes, tau_sim: float, *, right: bool, bottom: bool, temporal: bool) -> Planes:
    """Which neighbours the release joins: a temporal cosine may equal the threshold, a spatial one is above it."""
    return Planes(
        (planes.right > tau_sim) & right, (planes.down > tau_sim) & bottom, (planes.next >= tau_sim) & temporal
    )


def release_slots(size: torch.Tensor, share: float) -> torch.Tensor:
    """ceil(n d) for communities of n = `size` tokens, int64, and 0 for a lone token; in float64, as the release has it.

    In float32 10 x 0.30000000000000004 would be 3, not 4.
    """
    return torch.where(size > 1, (size.double() * share).ceil().long(), 0)


@torch.no_grad()
def select_release(
    features: torch.Tensor,
    grid: TokenGrid,
    cost: float,
    *,
    tau_sim: float = 0.8,
    tau_diff: float = 0.2,
    strategy: Strategy = 3,
    spatial: bool = True,
    temporal: bool = True,
    right: bool = True,
    bottom: bool = True,
    num_layers: int = 28,
) -> ReleaseSelection:
    """The first reduction ("merging", though nothing is merged): drops the least central tokens of communities.

    features: (N, D) in the order of `grid`, any floating dtype. A newline token after every row is a column like any
    other; separators elsewhere are joined to nothing.

    Every community of n >= 2 tokens is to lose ceil(n d) of them, d = 1 - cost; events among these stay, and nothing
    takes their place. Communities come in the order of their mean cosine (strategy 3) or of half the sum of cosines a
    member (strategy 2, so roughly of size); at the first one that could take the share of dropped tokens above d
    everything ends.
    """
    where = torch.arange(grid.count, device=features.device)
    if grid.separators != "row":
        where = grid.patches(features.device).flatten()
    planes = release_planes(node_view(features, grid))
    edges = release_edges(planes, tau_sim, right=spatial and right, bottom=spatial and bottom, temporal=temporal)
    labels = connected_components(edges)
    community = torch.arange(grid.count, device=features.device)
    community[where] = where[labels.flatten()]
    event = torch.zeros(grid.count, dtype=torch.bool, device=features.device)
    event[where] = events(planes.next, tau_diff).flatten()

    total, _ = community_similarity(features, community)
    size = community_sizes(community)
    centrality = total / size[community]
    weight = _community_weight(total, community, size, strategy)
    share = drop_ratio([], cost, num_layers)
    slots = release_slots(size, share)
    doomed = ~best_of_community(centrality, community, size - slots, SAME) & ~event

    # Weights are compared in steps of `SAME`, so that the order of equal ones is that of their first members.
    order = torch.argsort((weight / SAME).round(), descending=True, stable=True)
    loss = torch.zeros_like(size).scatter_add_(0, community, doomed.long())[order]
    before = loss.cumsum(0) - loss
    fits = (before + slots[order]).double() / grid.count <= share
    processed = torch.zeros_like(event)
    processed[order] = fits.long().cumprod(0).bool() & (size[order] > 1)
    kept = ~(doomed & processed[community])
    return ReleaseSelection(
        planes, edges, event, community, centrality, weight, order, slots, processed, kept, (size > 1).any()
    )


def _community_weight(
    total: torch.Tensor, community: torch.Tensor, size: torch.Tensor, strategy: Strategy
) -> torch.Tensor:
    """What orders the communities, by label: float64 (N,); -inf for what is no community of two or more."""
    pairs = torch.zeros_like(total).scatter_add_(0, community, total)
    others = (size - 1).clamp(min=1)
    weight = (pairs - size) / others / size.clamp(min=1) if strategy == 3 else pairs / 2 / others
    return torch.where(size > 1, weight, -torch.inf)
