"""Which scores are highest: the same answer about ties and undefined scores wherever a method ranks tokens."""

from __future__ import annotations

import torch


def rank(scores: torch.Tensor) -> torch.Tensor:
    """Indices by descending score along the last dimension, int64. Earlier first among equals; NaN counts as -inf."""
    return torch.sort(torch.where(scores.isnan(), -torch.inf, scores), dim=-1, descending=True, stable=True).indices


def highest(scores: torch.Tensor, count: int, first: torch.Tensor | None = None) -> torch.Tensor:
    """Indices of the `count` highest scores along the last dimension, int64, ascending.

    first: bool (n,) beside scores (n,), what goes before all others whatever its score.
    """
    order = rank(scores)
    if first is not None:
        order = order[torch.sort(first[order].int(), descending=True, stable=True).indices]
    return order[..., :count].sort(dim=-1).values
