"""Which tokens stay: representatives (SRTS) and events (DETS). Section 4.3 and 4.4, Eq. 4 to 6.

A community is written as a label for every token: the index of one of its members, the same for all of them.
"""

from __future__ import annotations

from fractions import Fraction

import torch

from st_simdiff.selection.budget import retention_fraction

TIE = 1e-6
"""Centralities this close count as equal, so that a choice never depends on rounding, device or thread count."""


def community_sizes(community: torch.Tensor) -> torch.Tensor:
    """Members of the community with each label, int64 (N,); 0 for what is no label. community: int64 (N,)."""
    return torch.zeros_like(community).scatter_add_(0, community, torch.ones_like(community))


def community_quota(size: torch.Tensor, retention: float | Fraction) -> torch.Tensor:
    """ceil(|c| r) for every size, int64, with r read as the decimal that was written."""
    share = retention_fraction(retention)
    return (size * share.numerator + share.denominator - 1) // share.denominator


def best_of_community(
    score: torch.Tensor, community: torch.Tensor, quota: torch.Tensor, tie: float = TIE
) -> torch.Tensor:
    """The `quota` tokens of highest score in every community, bool (N,).

    score: float64 (N,), no NaN. community: int64 (N,). quota: int64 (N,) by label, at most the community's size.
    Scores within `tie` of the last one chosen count as equal to it; of these, evenly spaced ones are taken, from the
    first on: copies, such as newline tokens of one vector, stay in all parts of a video.
    """
    count = community.numel()
    size = community_sizes(community)
    start = size.cumsum(0) - size

    descending = torch.argsort(score, descending=True, stable=True)
    ranked = descending[torch.argsort(community[descending], stable=True)]
    last = ranked[(start + quota - 1).clamp(0, count - 1)]
    cut = torch.where(quota > 0, score[last], torch.inf)[community]
    above = score > cut + tie
    tied = (score - cut).abs() <= tie

    free = quota - torch.zeros_like(quota).scatter_add_(0, community, above.long())
    raster = torch.argsort(community, stable=True)
    tied_in_order = tied[raster].long().cumsum(0)
    before_community = torch.cat([tied_in_order.new_zeros(1), tied_in_order])[start[community[raster]]]
    place = torch.empty_like(community)
    place[raster] = tied_in_order - before_community
    number = torch.zeros_like(quota).scatter_add_(0, community, tied.long())[community].clamp(min=1)
    free = free[community]
    # Of n ties the i-th is one of `free` evenly spaced ones if ceil(i free / n) grows with it.
    chosen = -(-place * free // number) > -(-(place - 1) * free // number)
    return above | (tied & chosen)


def most_central(score: torch.Tensor, community: torch.Tensor, retention: float | Fraction) -> torch.Tensor:
    """Representatives (Eq. 5): the ceil(|c| r) tokens of highest score in every community, bool (N,)."""
    return best_of_community(score, community, community_quota(community_sizes(community), retention))


def changes(next_plane: torch.Tensor) -> torch.Tensor:
    """1 - cosine to the same position one frame earlier, float32 (T, H, W); 0 in the first frame, and instead of NaN.

    next_plane: (T-1, H, W).
    """
    return torch.cat([next_plane.new_zeros((1, *next_plane.shape[1:])), (1 - next_plane).nan_to_num(nan=0.0)])


def events(next_plane: torch.Tensor, tau_diff: float | torch.Tensor) -> torch.Tensor:
    """Event tokens (Eq. 6): the later token of a temporal edge of weight < tau_diff, strictly. Bool (T, H, W).

    next_plane: (T-1, H, W). The first frame has no events; neither has a token with a non-finite feature.
    """
    first = next_plane.new_zeros((1, *next_plane.shape[1:]), dtype=torch.bool)
    return torch.cat([first, next_plane < tau_diff])
