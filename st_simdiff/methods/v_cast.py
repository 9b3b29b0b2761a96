"""V-CAST: pruning by the curvature of a video's path. 2026, arXiv 2603.27650; github.com/xinyouu/V-CAST."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from st_simdiff.checks import check_whole
from st_simdiff.methods.patches import Choice, Patches, PatchMethod, finite, highest_per_frame, unit
from st_simdiff.methods.ranking import rank

TEMPERATURE = 0.7
EPSILON = 1e-6


@dataclass(frozen=True, kw_only=True)
class VCast(PatchMethod):
    """Keeps more patches where the path of the frame means bends, those unlike their frame's mean and of large norm.

    least: patches that every frame keeps, where the budget has room for them. as_published: round(N r) of the patches;
    a single frame stays whole.
    """

    name: ClassVar[str] = "v_cast"

    least: int = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        check_whole("least", self.least, 0, "how many patches every frame keeps")

    def choose(self, patches: Patches, count: int) -> Choice:
        quotas = frame_budgets(weights(curvature(patches.features)), count, patches.features.shape[1], self.least)
        score = scores(patches.features)
        kept = highest_per_frame(score, quotas.to(score.device))
        return Choice(kept.flatten().nonzero().flatten(), details=score)

    def choose_published(self, patches: Patches) -> Choice:
        frames, size, _ = patches.features.shape
        total = frames * size if frames == 1 else min(max(round(self.retention * frames * size), 1), frames * size)
        return self.choose(patches, total)


def curvature(features: torch.Tensor) -> torch.Tensor:
    """How far the path of the frame means turns at each frame, float32 (T,): 1 - cos of the steps to it and from it.

    features: (T, P, D). Means have length 1. 1 in the first and the last frame.
    """
    means = unit(finite(features).mean(1))
    steps = means.diff(dim=0)
    turns = 1 - torch.nn.functional.cosine_similarity(steps[:-1], steps[1:], dim=-1, eps=EPSILON)
    ends = turns.new_ones(1)
    return torch.cat([ends, turns, ends])[: len(features)]


def weights(curvature: torch.Tensor) -> torch.Tensor:
    """The frames' shares of the budget, (T,): a softmax at temperature .7."""
    return torch.softmax(curvature / TEMPERATURE, 0)


def frame_budgets(shares: torch.Tensor, total: int, size: int, least: int) -> torch.Tensor:
    """Patches of each frame, int64 (T,) on the CPU, `total` in all, none above `size`.

    Every frame gets `least` (nothing where the total has no room for that), and the whole part of its share of the
    rest. What is left over goes to the frame of the largest fraction until it is full, then to the next.
    """
    shares = shares.detach().cpu()
    frames = len(shares)
    base = min(least, size) if total >= frames * min(least, size) else 0
    ideal = shares * (total - frames * base)
    budgets = base + ideal.floor().long().clamp(max=size - base)
    left = total - int(budgets.sum())
    order = rank(ideal - ideal.floor())
    room = (size - budgets)[order]
    budgets[order] += (left - (room.cumsum(0) - room)).clamp(min=0).minimum(room)
    return budgets


def scores(features: torch.Tensor) -> torch.Tensor:
    """1 - cosine to the frame's mean, plus the norm scaled to 0..1 within the frame: float32 (T, P)."""
    features = finite(features)
    unlike = 1 - (unit(features) * unit(features.mean(1, keepdim=True))).sum(-1)
    norm = features.norm(dim=-1)
    low, high = norm.amin(1, keepdim=True), norm.amax(1, keepdim=True)
    return unlike + (norm - low) / (high - low + EPSILON)
