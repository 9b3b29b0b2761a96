"""Features on few dimensions, so that a page can carry them."""

from __future__ import annotations

from dataclasses import dataclass

import torch

DIMENSIONS = 64
_FEATURE_BYTES = 6_000_000
_EXACT_UP_TO = 1024


@dataclass(frozen=True)
class Projection:
    """Features on few dimensions. features: float32 (N, d). share: of the squared length of the unit features, kept."""

    features: torch.Tensor
    share: float


def project(features: torch.Tensor, limit: int = DIMENSIONS) -> Projection:
    """The orthonormal projection to at most `limit` dimensions that keeps cosines best, by least squares.

    features: (N, D). They are brought to length 1 and projected to their principal directions about the origin, where
    cosines are taken; the page's selection is by definition the one on the result. Features of `limit` dimensions or
    fewer are only brought to length 1. What the page stores grows with N, so d shrinks when N is large.
    """
    unit = torch.nn.functional.normalize(features.float(), dim=-1)
    dimensions = min(limit, max(8, _FEATURE_BYTES // (4 * len(unit))))
    if unit.shape[1] <= dimensions:
        return Projection(unit, 1.0)
    if unit.shape[1] <= _EXACT_UP_TO:
        gram = unit.T.double() @ unit.double()
        directions = torch.linalg.eigh(gram).eigenvectors[:, -dimensions:].flip(1).float()
    else:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            directions = torch.svd_lowrank(unit, q=min(dimensions, len(unit)), niter=4)[2]
    projected = unit @ directions
    return Projection(projected, float(projected.square().sum() / unit.square().sum()))
