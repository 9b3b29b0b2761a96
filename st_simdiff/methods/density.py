"""Density peaks and merging around them, which FastVID and HoliTom share."""

from __future__ import annotations

import torch

from st_simdiff.methods.patches import finite, rank


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
