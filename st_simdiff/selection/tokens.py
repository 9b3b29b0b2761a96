"""Which tokens stay: centrality and representatives (SRTS), events (DETS). Section 4.3 and 4.4, Eq. 4 to 6."""

from __future__ import annotations

from fractions import Fraction

import torch

from st_simdiff.selection.budget import retention_fraction

TIE = 1e-6
"""Centralities this close count as equal, so that a choice never hangs on rounding, device or thread count."""

_COLUMN_BLOCK = 128


def centrality(features: torch.Tensor, inverse_norm: torch.Tensor, community: torch.Tensor) -> torch.Tensor:
    """Mean cosine of every token to the other tokens of its community (Eq. 4), float64 (N,).

    features: (N, D) any floating dtype. inverse_norm: float32 (N,). community: int64 (N,), a member's index as label.

    A community's cosines to one token add up to a single dot product with the community's sum of unit vectors:
    S(a) = (x_a . s_c - x_a . x_a) / (|c| - 1), Eq. 4 in O(N d) and without a matrix of pairs.
    The only member of a community has centrality 1.
    """
    count = community.numel()
    size = torch.bincount(community, minlength=count)
    order = torch.argsort(community, stable=True)
    members = size[size > 0]
    rows = torch.cat([members.new_zeros(1), members.cumsum(0)])
    row_of = torch.empty_like(community)
    row_of[order] = torch.repeat_interleave(
        torch.arange(members.numel(), device=size.device), members, output_size=count
    )
    ones = torch.ones(count, dtype=torch.float64, device=features.device)
    membership = torch.sparse_csr_tensor(rows, order, ones, size=(members.numel(), count))
    total = torch.zeros(count, dtype=torch.float64, device=features.device)
    scale = inverse_norm.double().unsqueeze(1)
    for start in range(0, features.shape[1], _COLUMN_BLOCK):
        unit = features[:, start : start + _COLUMN_BLOCK].double() * scale
        sums = membership @ unit
        total += ((sums[row_of] - unit) * unit).sum(1)
    others = (size[community] - 1).double()
    return torch.where(others > 0, total / others.clamp(min=1), 1.0)


def community_quota(size: torch.Tensor, retention: float) -> torch.Tensor:
    """ceil(|c| r) for every size, int64, with r read as the decimal that was written."""
    share: Fraction = retention_fraction(retention)
    return (size * share.numerator + share.denominator - 1) // share.denominator


def most_central(score: torch.Tensor, community: torch.Tensor, retention: float) -> torch.Tensor:
    """Representatives (Eq. 5): the ceil(|c| r) tokens of highest score in every community, bool (N,).

    Scores within `TIE` of the last one chosen count as equal to it; of these the earliest tokens are taken.
    """
    count = community.numel()
    size = torch.bincount(community, minlength=count)
    start = size.cumsum(0) - size
    quota = community_quota(size, retention)
    rank = torch.arange(count, device=score.device)

    descending = torch.argsort(score, descending=True, stable=True)
    ranked = descending[torch.argsort(community[descending], stable=True)]
    last = ranked[(start + quota - 1).clamp(0, count - 1)]
    cut = score[last][community]
    above = score > cut + TIE
    tied = (score - cut).abs() <= TIE

    free = quota - torch.bincount(community, weights=above.double(), minlength=count).long()
    raster = torch.argsort(community, stable=True)
    tied_in_order = tied[raster].long().cumsum(0)
    before_community = torch.cat([tied_in_order.new_zeros(1), tied_in_order])[start[community[raster]]]
    place = torch.empty_like(rank)
    place[raster] = tied_in_order - before_community
    return above | (tied & (place <= free[community]))


def events(next_plane: torch.Tensor, tau_diff: float | torch.Tensor) -> torch.Tensor:
    """Event tokens (Eq. 6): the later token of a temporal edge of weight < tau_diff, strictly. Bool (T, H, W).

    next_plane: (T-1, H, W). The first frame has no events; neither has a token with a non-finite feature.
    """
    first = next_plane.new_zeros((1, *next_plane.shape[1:]), dtype=torch.bool)
    return torch.cat([first, next_plane < tau_diff])
