"""Farthest-point selection inside communities: keep what is unlike the tokens already kept.

The most central tokens of a long chain of similar tokens are all alike; the ones farthest apart cover the chain.
Gonzalez, Clustering to minimize the maximum intercluster distance, 1985.
"""

from __future__ import annotations

from fractions import Fraction

import torch

from st_simdiff.selection.budget import target_count
from st_simdiff.selection.tokens import TIE, best_of_community, community_quota, community_sizes

_CPU_BLOCK_BYTES = 1 << 21
"""Features per block in float64: on a CPU few enough to stay in the cache."""
_GPU_BLOCK_BYTES = 1 << 28
_MATRIX_BYTES = 1 << 26
"""Cosines held at a time."""


def farthest_order(
    features: torch.Tensor,
    score: torch.Tensor,
    community: torch.Tensor,
    retention: float | Fraction,
    cap: int,
    least: float | Fraction | None = None,
) -> torch.Tensor:
    """When each of a community's ceil(|c| r) tokens is chosen, each the farthest from those before: int64 (N,), from 0;
    N for tokens that are not chosen.

    features: (N, D). score: float64 (N,), the first token chosen has the highest. community: int64 (N,), a member's
    index as label; none has more than `cap` tokens. least: the smallest share that will be asked of the order, r unless
    given: communities that are kept whole at it are not ordered, all of their tokens are 0. The distance is 1 - cosine,
    in float64. Distances and scores within `TIE` of the best count as equal to it, and the earliest token wins.

    O(N cap D): one matrix of cosines a community, of communities padded to a power of two side by side. The device is
    read once.
    """
    count = community.numel()
    size = community_sizes(community)
    quota = community_quota(size, retention)
    to_order = community_quota(size, retention if least is None else least) < size
    place = torch.where(to_order[community], count, 0)
    seed = best_of_community(score, community, size.clamp(max=1))
    order = torch.argsort(community, stable=True)
    start = size.cumsum(0) - size

    widths = [2**power for power in range(1, max(1, (cap - 1).bit_length()) + 1)]
    width_rank = torch.where(to_order, torch.bucketize(size, torch.tensor(widths, device=size.device)), len(widths))
    by_width = torch.argsort(width_rank, stable=True)
    limits = torch.arange(len(widths), device=size.device)
    ends = torch.searchsorted(width_rank[by_width], limits, right=True).tolist()

    for width, first, end in zip(widths, [0, *ends], ends, strict=False):
        picks = target_count(retention, min(width, cap))
        step = max(1, _MATRIX_BYTES // (8 * width * width))
        for low in range(first, end, step):
            labels = by_width[low : min(low + step, end)]
            column = torch.arange(width, device=labels.device)
            present = column < size[labels, None]
            members = order[(start[labels, None] + column).clamp(max=count - 1)]
            distance = 1 - _cosines(features, members)
            chosen = _spread_out(distance, present, seed[members] & present, picks)
            chosen = torch.where(chosen < quota[labels, None], chosen, count)
            place.scatter_reduce_(0, members.flatten(), chosen.flatten(), "amin")
    return place


def _cosines(features: torch.Tensor, members: torch.Tensor) -> torch.Tensor:
    """Cosines of all pairs within every row of `members`, int64 (C, W): float64 (C, W, W). A zero vector has 0."""
    communities, width = members.shape
    cosine = torch.empty(communities, width, width, dtype=torch.float64, device=features.device)
    block = _CPU_BLOCK_BYTES if features.device.type == "cpu" else _GPU_BLOCK_BYTES
    step = max(1, block // (8 * width * features.shape[1]))
    for start in range(0, communities, step):
        rows = features[members[start : start + step]].double()
        torch.bmm(rows, rows.transpose(1, 2), out=cosine[start : start + step])
    norm = cosine.diagonal(dim1=1, dim2=2).sqrt()
    scale = torch.where(norm == 0, 0.0, 1 / norm)
    return cosine.mul_(scale[:, :, None]).mul_(scale[:, None])


def _spread_out(distance: torch.Tensor, present: torch.Tensor, seed: torch.Tensor, picks: int) -> torch.Tensor:
    """When each of the W places of C communities is chosen: int64 (C, W), from 0; after `picks` of them no more.

    distance: (C, W, W). present, seed: bool (C, W), one seed a community.
    """

    def distances_of(place: torch.Tensor) -> torch.Tensor:
        """From one place of every community, int64 (C, 1), to all of its places: (C, W)."""
        return distance.gather(1, place[:, :, None].expand(-1, -1, distance.shape[2])).squeeze(1)

    chosen = torch.where(seed, 0, torch.iinfo(torch.int64).max)
    nearest = distances_of(seed.int().argmax(1, keepdim=True))
    for done in range(1, picks):
        reach = torch.where(present & (chosen > done), nearest, -torch.inf)
        tied = reach >= reach.amax(1, keepdim=True) - TIE
        pick = tied.int().argmax(1, keepdim=True)
        chosen = chosen.scatter(1, pick, chosen.gather(1, pick).clamp(max=done))
        nearest = torch.minimum(nearest, distances_of(pick))
    return chosen
