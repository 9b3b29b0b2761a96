"""Density peaks and merging around them, which FastVID, HoliTom and FlashVID share."""

from __future__ import annotations

import torch

from st_simdiff.methods.patches import finite
from st_simdiff.methods.ranking import rank


def distances(features: torch.Tensor) -> torch.Tensor:
    """Euclidean distances over the square root of the width, float32 (..., n, n). features: (..., n, D)."""
    features = finite(features)
    return torch.cdist(features, features) / features.shape[-1] ** 0.5


def density_peaks(distance: torch.Tensor, count: int, neighbours: int) -> torch.Tensor:
    """The `count` points of highest density times distance to a denser point, int64 (..., count), ascending.

    distance: (..., n, n). Density: exp(-mean squared distance to the `neighbours` nearest points, itself included).
    The densest point takes the largest distance there is. Of equally dense points the earlier one counts as denser,
    where the official codes add random noise. Rodriguez and Laio, Science 2014.
    """
    size = distance.shape[-1]
    nearest = distance.topk(min(neighbours, size), dim=-1, largest=False).values
    density = torch.exp(-nearest.square().mean(-1))
    order = torch.arange(size, device=distance.device)
    denser = (density[..., None, :] > density[..., :, None]) | (
        (density[..., None, :] == density[..., :, None]) & (order[None, :] < order[:, None])
    )
    farthest = distance.flatten(-2).amax(-1)[..., None, None]
    separation = torch.where(denser, distance, farthest).amin(-1)
    return rank(separation * density)[..., :count].sort(-1).values


def cluster_sums(features: torch.Tensor, nearest: torch.Tensor, clusters: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Sums (clusters, D), float32, and sizes (clusters,) of the points that each centre takes in.

    features: (m, D). nearest: int64 (m,), the centre of each point.
    """
    sums = torch.zeros(clusters, features.shape[-1], device=features.device)
    sums.index_add_(0, nearest, features.float())
    return sums, torch.bincount(nearest, minlength=clusters)


def nearest_peaks(features: torch.Tensor, count: int, neighbours: int) -> tuple[torch.Tensor, torch.Tensor]:
    """`count` density peaks of (n, D), int64 (count,), and which of them (0..count-1) is nearest to every point, (n,).

    A peak is its own. Without peaks every point has number 0.
    """
    if not count:
        nowhere = torch.zeros(len(features), dtype=torch.long, device=features.device)
        return nowhere[:0], nowhere
    distance = distances(features)
    centres = density_peaks(distance, count, min(neighbours, count))
    nearest = distance[:, centres].argmin(1)
    nearest[centres] = torch.arange(count, device=centres.device)
    return centres, nearest


def merge_peaks(
    features: torch.Tensor, count: int, beta: float, neighbours: int
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """`count` density peaks take in the other points that are nearest to them: beta peak + (1 - beta) mean of those.

    features: float32 (n, D). Returns centres int64 (count,), their values (count, D), and the centre (0..count-1) of
    every point, int64 (n,); a peak that takes in nothing stays as it is.
    """
    centres, nearest = nearest_peaks(features, count, neighbours)
    if not count:
        return centres, features[:0], nearest
    others = torch.ones(len(features), dtype=torch.bool, device=features.device)
    others[centres] = False
    sums, sizes = cluster_sums(features[others], nearest[others], count)
    mean = beta * features[centres] + (1 - beta) * sums / sizes.clamp(min=1)[:, None]
    return centres, torch.where(sizes[:, None] > 0, mean, features[centres]), nearest
