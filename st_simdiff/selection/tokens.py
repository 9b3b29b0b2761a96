"""Which tokens stay: centrality and representatives (SRTS), events (DETS). Section 4.3 and 4.4, Eq. 4 to 6.

A community is written as a label for every token: the index of one of its members, the same for all of them.
"""

from __future__ import annotations

from fractions import Fraction

import torch

from st_simdiff.selection.budget import retention_fraction

TIE = 1e-6
"""Centralities this close count as equal, so that a choice never depends on rounding, device or thread count."""

_CPU_BLOCK_BYTES = 1 << 20
"""Features per block in float64: on a CPU few enough for a block and its products to stay in the cache."""
_GPU_BLOCK_BYTES = 1 << 28


def community_sizes(community: torch.Tensor) -> torch.Tensor:
    """Members of the community with each label, int64 (N,); 0 for what is no label. community: int64 (N,)."""
    return torch.zeros_like(community).scatter_add_(0, community, torch.ones_like(community))


def community_similarity(features: torch.Tensor, community: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Every token's cosines to all members of its community added up, and to itself: float64 (N,) each.

    features: (N, D) any floating dtype. community: int64 (N,).

    The cosines to one token add up to a single dot product with the sum of the community's unit vectors, so two passes
    in float64 replace the matrix of pairs: O(N D). The cosine of a token with itself is 1, of a zero vector 0. The only
    member of a community is compared with itself alone. The device is read once.
    """
    count, dim = features.shape
    shared = community_sizes(community) > 1
    communities = int(shared.sum())
    row = torch.where(shared[community], (shared.cumsum(0) - 1)[community], communities)  # the last row: all others
    sums = torch.zeros(communities + 1, dim, dtype=torch.float64, device=features.device)
    scale = torch.empty(count, dtype=torch.float64, device=features.device)
    total = torch.empty_like(scale)

    block = _CPU_BLOCK_BYTES if features.device.type == "cpu" else _GPU_BLOCK_BYTES
    step = max(1, block // (8 * dim))
    blocks = [slice(start, start + step) for start in range(0, count, step)]
    for part in blocks:
        unit = features[part].to(torch.float64, copy=True)
        norm = torch.linalg.vector_norm(unit, dim=1)
        scale[part] = torch.where(norm == 0, 0.0, 1 / norm)
        sums.index_add_(0, row[part], unit.mul_(scale[part].unsqueeze(1)))
    for part in blocks:
        total[part] = sums.index_select(0, row[part]).mul_(features[part]).sum(1)
    itself = (scale > 0).double()
    return torch.where(row < communities, total * scale, itself), itself


def centrality(features: torch.Tensor, community: torch.Tensor) -> torch.Tensor:
    """Mean cosine of every token to the other tokens of its community (Eq. 4), float64 (N,).

    features: (N, D) any floating dtype. community: int64 (N,). The only member of a community has centrality 1.
    """
    others = community_sizes(community)[community] - 1
    total, itself = community_similarity(features, community)
    return torch.where(others > 0, (total - itself) / others.clamp(min=1), 1.0)


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
