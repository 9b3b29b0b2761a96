"""Thresholds on edge cosines: a fixed cosine, or a quantile of the clip's own."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch

from st_simdiff.checks import is_number
from st_simdiff.errors import InputError

COPY = 1 - 1e-6
"""Tokens of a cosine above it are copies of each other."""


def quantile_share(threshold: Any) -> float | None:
    """0.5 for "q0.5"; None for anything that is not the name of a quantile in [0, 1]."""
    if not isinstance(threshold, str) or not threshold.startswith("q"):
        return None
    try:
        share = float(threshold[1:])
    except ValueError:
        return None
    return share if 0 <= share <= 1 else None


def check_threshold(name: str, threshold: Any) -> None:
    """Raises `InputError` unless `threshold` is a cosine or the name of a quantile."""
    if quantile_share(threshold) is not None:
        return
    if not is_number(threshold) or not -1 <= threshold <= 1:
        raise InputError(
            f"{name} is a quantile of the clip's own cosines such as 'q0.5', or a cosine in [-1, 1], got {threshold!r}."
        )


def resolve_threshold(threshold: float | str, cosines: Sequence[torch.Tensor]) -> float | torch.Tensor:
    """The cosine that `threshold` means on this clip; a quantile stays on the device, as a float32 scalar.

    cosines: float32 tensors of any shapes, the edges that the quantile is taken over, NaN ignored. Between two of them
    a quantile is interpolated linearly. It never exceeds `COPY`: on a still clip, where every cosine is 1 up to
    rounding, copies stay similar and none is an event. NaN if there are no edges, which no cosine is above or below.
    """
    share = quantile_share(threshold)
    if share is None:
        return float(threshold)
    if not any(plane.numel() for plane in cosines):
        return math.nan
    values = torch.cat([plane.flatten() for plane in cosines])
    # torch.nanquantile stops at 2**24 values.
    ordered = values.sort().values  # NaN last
    finite = (~values.isnan()).sum()
    position = (finite - 1).double() * share
    below = position.floor().clamp(min=0).long()
    above = position.ceil().clamp(min=0).long()
    ends = ordered[torch.stack([below, above])].double()
    return (ends[0] + (ends[1] - ends[0]) * (position - below)).clamp(max=COPY).float()
