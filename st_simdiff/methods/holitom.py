"""HoliTom, the part outside the LLM. Shao et al., "HoliTom: Holistic Token Merging for Fast Video Large Language
Models", NeurIPS 2025; github.com/cokeshao/HoliTom."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch

from st_simdiff.checks import check_range, check_whole
from st_simdiff.methods.base import VisionInput
from st_simdiff.methods.budgeted import largest_remainder
from st_simdiff.methods.density import merge_peaks
from st_simdiff.methods.patches import Choice, Patches, PatchMethod, finite, unit
from st_simdiff.methods.ranking import highest


@dataclass(frozen=True, kw_only=True)
class HoliTom(PatchMethod):
    """Merges what stands still over a window of frames into its mean, then thins means and moving patches alike.

    tau: a patch stands still while its cosine to the next frame is above it. context: share of a frame's kept moving
    patches that are density peaks, not attention's choice (the published D; its code fails above 0). beta: weight of
    a peak in its mean. neighbours: points that make a density (K).
    Where merging alone leaves less than the budget, the most attended merged patches stay beside their mean.
    as_published: the ratio after merging, rounded as published, and the newlines of rows that keep a patch.
    """

    name: ClassVar[str] = "holitom"

    tau: float = 0.8
    context: float = 0.0
    beta: float = 0.6
    neighbours: int = 7

    def __post_init__(self) -> None:
        super().__post_init__()
        check_range("tau", self.tau, -1, 1, "a cosine similarity")
        check_range("context", self.context, 0, 1, "a share of the kept patches")
        check_range("beta", self.beta, 0, 1, "a weight")
        check_whole("neighbours", self.neighbours, 1, "how many points make a density")

    @property
    def vision_inputs(self) -> frozenset[VisionInput]:
        return frozenset({"attention"})

    def choose(self, patches: Patches, count: int) -> Choice:
        windows, _ = static_windows(still(patches.features, self.tau))
        sizes = torch.tensor(group_sizes(windows))
        quotas = largest_remainder(sizes, min(count, int(sizes.sum())), sizes)
        choice = self._reduce(patches, windows, quotas.tolist())
        return with_spares(choice, patches, count)

    def choose_published(self, patches: Patches) -> Choice:
        windows, reduced = static_windows(still(patches.features, self.tau))
        total = patches.attention.numel()
        return self._reduce(
            patches, windows, published_quotas(windows, remaining_ratio(self.retention, reduced, total))
        )

    def _reduce(self, patches: Patches, windows: list[Window], quotas: list[int]) -> Choice:
        return reduce_windows(
            patches.features, patches.attention, windows, quotas, self.context, self.beta, self.neighbours
        )


@dataclass(frozen=True)
class Window:
    """Frames start..end-1, and the patches that stand still throughout: bool (P,), none in a window of one frame."""

    start: int
    end: int
    static: torch.Tensor


def still(features: torch.Tensor, tau: float) -> torch.Tensor:
    """Whether each patch stands still until the next frame: cosine above `tau`, bool (T-1, P). features: (T, P, D)."""
    vectors = unit(features)
    return (vectors[:-1] * vectors[1:]).sum(-1) > tau


def static_windows(still: torch.Tensor) -> tuple[list[Window], int]:
    """The windows that merge the most patches away, by dynamic programming, and how many they merge away.

    still: bool (T-1, P). Of equal cuts, frames on their own and short windows win.
    """
    steps, size = still.shape
    saved: list[list[int]] = [[] for _ in range(steps + 1)]
    for start in range(steps):
        runs = still[start:].long().cumprod(0).sum(1).tolist()
        saved[start] = [static * (length + 1) for length, static in enumerate(runs)]
    best, first = [0], []
    for last in range(steps + 1):
        options = [(best[last], last)]
        options += [(best[start] + saved[start][last - start - 1], start) for start in range(last - 1, -1, -1)]
        value, start = max(options, key=lambda option: option[0])
        best.append(value)
        first.append(start)
    windows, last = [], steps
    while last >= 0:
        start = first[last]
        static = still[start:last].all(0) if last > start else still.new_zeros(size)
        windows.append(Window(start, last + 1, static))
        last = start - 1
    return windows[::-1], best[-1]


def group_sizes(windows: list[Window]) -> list[int]:
    """How many tokens can be chosen from: for each window its means, then each of its frames' moving patches."""
    sizes = []
    for window in windows:
        static = int(window.static.sum())
        sizes += [static] + [len(window.static) - static] * (window.end - window.start)
    return sizes


def remaining_ratio(retention: float, reduced: int, total: int) -> float:
    """The share of the tokens left by merging that makes `retention` of them all, at most 1."""
    return min(retention / ((total - reduced) / total), 1)


def published_quotas(windows: list[Window], ratio: float) -> list[int]:
    """The published rounding, in the order of `group_sizes`: round(n ratio) means, ceil(n ratio) patches a frame."""
    quotas = []
    for window in windows:
        static = int(window.static.sum())
        moving = math.ceil((len(window.static) - static) * ratio)
        quotas += [round(static * ratio)] + [moving] * (window.end - window.start)
    return quotas


def reduce_windows(
    features: torch.Tensor,
    attention: torch.Tensor,
    windows: list[Window],
    quotas: list[int],
    context: float = 0.0,
    beta: float = 0.6,
    neighbours: int = 7,
) -> Choice:
    """The published rule. features: (T, P, D). attention: (T, P). quotas: in the order of `group_sizes`.

    A mean lives in its window's first frame. Of the means, density peaks stay and take in the others. Of a frame's
    moving patches, round(quota (1 - context)) stay by attention, and density peaks of the others fill the quota.
    """
    frames, size, _ = features.shape
    values = finite(features).clone()
    owner = torch.full((frames, size), -1, device=features.device)
    own = iter(quotas)
    for window in windows:
        span = slice(window.start, window.end)
        static, moving = window.static.nonzero().flatten(), (~window.static).nonzero().flatten()
        means = values[span, static].mean(0)
        centres, merged, nearest = merge_peaks(means, next(own), beta, neighbours)
        values[window.start, static[centres]] = merged
        if len(centres):
            owner[span, static] = window.start * size + static[centres][nearest]
        for frame in range(window.start, window.end):
            quota = next(own)
            by_attention = round(quota * (1 - context))
            top = moving[highest(attention[frame, moving], by_attention)]
            owner[frame, top] = frame * size + top
            rest = moving[~torch.isin(moving, top)]
            centres, merged, nearest = merge_peaks(values[frame, rest], quota - by_attention, beta, neighbours)
            if len(centres):
                values[frame, rest[centres]] = merged
                owner[frame, rest] = frame * size + rest[centres][nearest]
    owner = owner.flatten()
    kept = (owner == torch.arange(len(owner), device=owner.device)).nonzero().flatten()
    return Choice(kept, values.flatten(0, 1)[kept], owner, details=windows)


def with_spares(choice: Choice, patches: Patches, count: int) -> Choice:
    """`choice`, with the most attended of the other patches beside it, unchanged, until `count` are kept."""
    missing = count - choice.kept.numel()
    if missing <= 0:
        return choice
    if choice.values is None or choice.merged_into is None:
        raise ValueError("Tokens are added to a choice that has merged others, and this one has not.")
    others = torch.ones(patches.attention.numel(), dtype=torch.bool, device=choice.kept.device)
    others[choice.kept] = False
    others = others.nonzero().flatten()
    spare = others[highest(patches.attention.flatten()[others], missing)]
    kept, order = torch.cat([choice.kept, spare]).sort()
    values = torch.cat([choice.values, patches.features.flatten(0, 1)[spare].float()])[order]
    return Choice(kept, values, choice.merged_into.scatter(0, spare, spare), choice.details)
