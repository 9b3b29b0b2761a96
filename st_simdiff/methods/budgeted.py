"""What `retention` means to a compared method, and how a count is spread over frames.

Papers disagree on what "30 %" is: tokens left, tokens averaged over the layers, tokens a frame, or a threshold.
Every compared method takes the same field `budget` instead, so that a table compares like with like.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, get_args

import torch

from st_simdiff.errors import InputError, unknown
from st_simdiff.methods.base import Method, VisualTokens
from st_simdiff.selection.budget import compute_target, retention_fraction

Budget = Literal["tokens", "compute", "as_published"]


@dataclass(frozen=True, kw_only=True)
class Budgeted(Method):
    """A method with a retention r and one of three meanings for it.

    tokens: ceil(r N) of all N visual tokens are left in the end (the paper's meaning, and the default).
    compute: r is the mean over the decoder layers of the share of tokens they process (FrameFusion's `cost`); the
        method keeps what that leaves for the layers behind it. For a method that acts at the input: ceil(r N) again.
    as_published: the method's own paper decides, with its own rounding, thresholds and separators.
    """

    budget: Budget = "tokens"

    unpublished: ClassVar[str] = ""
    """Why `as_published` is refused: one sentence. Empty where the method has a published meaning."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.budget not in get_args(Budget):
            raise unknown("budget", str(self.budget), get_args(Budget))
        if self.budget == "as_published" and self.unpublished:
            raise InputError(self.unpublished)

    @property
    def published(self) -> bool:
        """Whether the method's own paper decides how many tokens stay."""
        return self.budget == "as_published"

    def count(self, tokens: VisualTokens, layer: int = -1) -> int:
        """How many of the N tokens are to be left once the method has acted after decoder layer `layer`."""
        if self.budget == "compute":
            return compute_count(self.retention, tokens.grid.count, tokens.num_layers, layer)
        return self.target(tokens.grid.count)


def compute_count(retention: float, count: int, num_layers: int, layer: int) -> int:
    """How many of `count` tokens may go on after decoder layer `layer` (-1: at the input) for a layer-averaged share.

    Solves (k + 1) N + (L - k - 1) kept = r L N for kept, rounded up. Raises `InputError` when the k + 1 full layers
    alone cost the budget, or when no layer is left behind `layer`.
    """
    full = layer + 1
    if retention_fraction(retention) * num_layers <= full:
        raise InputError(
            f"A layer-averaged share of {retention} is out of reach: "
            f"{full} of {num_layers} layers process every token before the method acts."
        )
    return compute_target(retention, count, count, full, num_layers)


def even_quotas(total: int, parts: int) -> list[int]:
    """`total` spread over `parts` as evenly as whole numbers allow; the larger shares are spread evenly too."""
    return [(part + 1) * total // parts - part * total // parts for part in range(parts)]


def largest_remainder(weights: torch.Tensor, total: int, capacity: torch.Tensor) -> torch.Tensor:
    """`total` spread in proportion to `weights`, none above its capacity: int64, the shape of `weights` (n,).

    Whole parts first, then one each by the largest remainder (the earlier one among equals). What exceeds a capacity
    goes to the others in the same proportion. Raises `InputError` when the capacities together hold less than `total`.
    """
    weights = torch.nan_to_num(weights.double(), nan=0.0, posinf=0.0).clamp(min=0)
    quotas = torch.zeros_like(capacity)
    if int(capacity.sum()) < total:
        raise InputError(f"{total} tokens do not fit into {int(capacity.sum())} places.")
    free = capacity > 0
    while (left := total - int(quotas.sum())) > 0:
        share = torch.where(free, weights, 0.0)
        share = share if bool(share.sum() > 0) else free.double()
        ideal = share / share.sum() * left
        full = free & (ideal > capacity)
        if bool(full.any()):
            quotas[full], free = capacity[full], free & ~full
            continue
        whole = ideal.floor().long()
        remainder = torch.where(free & (capacity > whole), ideal - whole, -1.0)
        whole[torch.sort(remainder, descending=True, stable=True).indices[: left - int(whole.sum())]] += 1
        quotas += whole
    return quotas


def equal_groups(quotas: Sequence[Any]) -> Iterator[tuple[Any, list[int]]]:
    """(quota, the frames that have it), so that frames of one quota are worked on as one batch."""
    for quota in sorted(set(quotas)):
        yield quota, [frame for frame, own in enumerate(quotas) if own == quota]


def between(similarities: torch.Tensor, closest: float = 1e-5) -> torch.Tensor:
    """Thresholds halfway between neighbouring similarities, and one beyond either end, float64 (n,), ascending.

    similarities: any shape. Those that differ by at most `closest` are not parted: no comparison with one of these
    thresholds depends on rounding, and so neither on the batch nor on the number of threads.
    """
    values = similarities[~similarities.isnan()].flatten().double().sort().values
    gaps = values.diff()
    return torch.cat([values[:1] - 1, (values[:-1] + gaps / 2)[gaps > closest], values[-1:] + 1])


def nearest_threshold(count_of: Callable[[float], int], candidates: torch.Tensor, target: int) -> float:
    """The candidate whose count is nearest to `target`, by bisection: at most log2(n) + 1 calls of `count_of`.

    candidates: (n,), thresholds in any order, of which the count hardly changes in between: the similarities that are
    compared with it. The count must grow with the threshold; where it wavers, the best one met is returned.
    """
    candidates = candidates[~candidates.isnan()].flatten().double().sort().values
    low, high = 0, candidates.numel() - 1
    best, miss = math.inf, math.inf
    while low <= high and miss:
        middle = (low + high) // 2
        threshold = candidates[middle].item()
        count = count_of(threshold)
        if abs(count - target) < miss:
            best, miss = threshold, abs(count - target)
        if count < target:
            low = middle + 1
        else:
            high = middle - 1
    return best
