"""Section 4 of the paper in one call: graph, representatives (SRTS), events (DETS), candidates (fusion)."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import torch

from st_simdiff.errors import InputError
from st_simdiff.selection.budget import retention_fraction, target_count
from st_simdiff.selection.caps import split_large
from st_simdiff.selection.centrality import centrality
from st_simdiff.selection.communities import connected_components
from st_simdiff.selection.farthest import farthest_order
from st_simdiff.selection.graph import Planes, cosine_planes, enabled_planes, node_view, threshold
from st_simdiff.selection.grid import TokenGrid, spread
from st_simdiff.selection.modularity import modularity_communities
from st_simdiff.selection.rule import SelectionRule
from st_simdiff.selection.thresholds import resolve_threshold
from st_simdiff.selection.tokens import changes, community_quota, community_sizes, events, most_central


@dataclass(frozen=True)
class Selection:
    """What was chosen among a video's N tokens, and why. All tensors are on the features' device.

    planes: cosine of every edge of the graph. community: int64 (N,), the smallest offset in the token's community.
    centrality: float64 (N,). representative, event: bool (N,). core: bool (N,), representatives that a smaller share
    chooses as well. newline: bool (N,), newline tokens that are no nodes of the graph and were kept for their own sake.
    change: float32 (N,), 1 - cosine to the same place one frame earlier.
    """

    planes: Planes
    community: torch.Tensor
    centrality: torch.Tensor
    representative: torch.Tensor
    core: torch.Tensor
    event: torch.Tensor
    newline: torch.Tensor
    change: torch.Tensor

    @property
    def candidate(self) -> torch.Tensor:
        """Representatives, events and kept newlines, the tokens that enter the LLM (Section 4.5): bool (N,)."""
        return self.representative | self.event | self.newline

    def summary(self) -> dict[str, int]:
        """The counts for a results file. Reads the device."""
        return {
            "communities": int(
                (self.community == torch.arange(len(self.community), device=self.community.device)).sum()
            ),
            "representatives": int(self.representative.sum()),
            "events": int(self.event.sum()),
            "candidates": int(self.candidate.sum()),
        }


@torch.no_grad()
def select(
    features: torch.Tensor,
    grid: TokenGrid,
    retention: float | Fraction,
    rule: SelectionRule | None = None,
    *,
    core: float | Fraction = 0,
    **settings: Any,
) -> Selection:
    """Chooses the candidates among the N tokens of one video.

    features: (N, D) in the order of `grid`, any floating dtype; accumulated in float32 or better. rule: the paper's if
    none is given, with `settings` (fields of `SelectionRule`) in place of its own. core: the share of the retention at
    which the core of the representatives is chosen; 0 for no core.
    Raises `InputError` where newline tokens that are always kept use up the budget.
    """
    rule = dataclasses.replace(rule or SelectionRule(), **settings)
    everyone = torch.arange(grid.count, device=features.device)
    as_column = rule.newline == "node" and grid.separators == "row"
    where = everyone if as_column else grid.patches(features.device).flatten()

    planes = cosine_planes(node_view(features, grid, newline_column=as_column))
    labels = find_communities(planes, grid, rule)
    community = everyone.clone()
    community[where] = where[labels.flatten()]

    share, newline = share_budget(grid, retention, rule, features.device)
    score = centrality(features, community)
    shares = (share, retention_fraction(core) * retention_fraction(share))
    representative, chosen_early = representatives(features, score, community, shares, rule)
    if rule.newline != "node":
        representative[grid.separator_offsets(features.device)] = False

    event = torch.zeros(grid.count, dtype=torch.bool, device=features.device)
    change = torch.zeros(grid.count, device=features.device)
    event[where] = events(planes.next, resolve_threshold(rule.tau_diff, [planes.next])).flatten()
    change[where] = changes(planes.next).flatten()
    return Selection(planes, community, score, representative, representative & chosen_early, event, newline, change)


def representatives(
    features: torch.Tensor,
    score: torch.Tensor,
    community: torch.Tensor,
    shares: tuple[float | Fraction, Fraction],
    rule: SelectionRule,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Those that the first share keeps of every community, and those that the second, smaller one keeps: bool (N,).

    score: float64 (N,), centralities. community: int64 (N,). A second share of 0 keeps none.
    """
    share, least = shares
    if rule.ranking == "central":
        chosen = most_central(score, community, share)
        return chosen, most_central(score, community, least) if least else torch.zeros_like(chosen)
    count = len(community)
    order = farthest_order(features, score, community, share, rule.cap(count) or count, least or share)
    size = community_sizes(community)
    first, second = (order < community_quota(size, one)[community] for one in shares)
    return first, second


def find_communities(planes: Planes, grid: TokenGrid, rule: SelectionRule) -> torch.Tensor:
    """Community label of every node: the smallest raster index in its community, int64 (T, H, W')."""
    kinds = {"spatial": rule.spatial, "temporal": rule.temporal, "right": rule.right, "down": rule.bottom}
    tau_sim = resolve_threshold(rule.tau_sim, enabled_planes(planes, **kinds))
    edges = threshold(planes, tau_sim, **kinds)
    if rule.communities == "connected_components":
        labels = connected_components(edges)
    else:
        labels = modularity_communities(planes, edges, rule.communities, rule.seed)
    cap = rule.cap(grid.count)
    return labels if cap is None else split_large(labels, cap)


def share_budget(
    grid: TokenGrid, retention: float | Fraction, rule: SelectionRule, device: torch.device
) -> tuple[float | Fraction, torch.Tensor]:
    """The share of every community to keep, and the newline tokens kept without being nodes, bool (N,).

    Nodes share what the newline tokens leave of ceil(r N), so that the candidates still fill it.
    """
    newline = torch.zeros(grid.count, dtype=torch.bool, device=device)
    if rule.newline == "node":
        return retention, newline
    target, patches = target_count(retention, grid.count), grid.frames * grid.height * grid.width
    offsets = grid.separator_offsets(device)
    kept = grid.count - patches if rule.newline == "keep" else max(0, target - patches)
    if kept >= target:
        raise InputError(
            f"newline='keep' keeps {kept} newline tokens, which leaves no patch in a budget of {target} tokens; "
            f"use newline='node' or 'drop', or a higher retention."
        )
    newline[spread(offsets, kept)] = True
    return Fraction(target - kept, patches), newline
