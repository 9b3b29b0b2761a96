"""VidCom2. Liu et al., "Video Compression Commander: Plug-and-Play Inference Acceleration for Video Large Language
Models", EMNLP 2025; github.com/xuyang-liu16/VidCom2."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from st_simdiff.methods.budgeted import largest_remainder
from st_simdiff.methods.patches import Choice, Patches, PatchMethod, finite, highest_per_frame, unit
from st_simdiff.selection.grid import TokenGrid

TEMPERATURE = 0.01


@dataclass(frozen=True, kw_only=True)
class VidCom2(PatchMethod):
    """Keeps the patches that are least like their frame's mean and the video's, more of them in unusual frames.

    The frames' shares of the budget follow the published scales, rounded so that they add up to it exactly.
    as_published: round(scale * P) patches a frame, at least 1, and every newline token.
    """

    name: ClassVar[str] = "vidcom2"

    def choose(self, patches: Patches, count: int) -> Choice:
        video, frame = typicality(patches.features)
        frames, size = video.shape
        scales = frame_scales(video, count / (frames * size))
        return self._lowest(video + frame, largest_remainder(scales.cpu(), count, torch.full((frames,), size)))

    def choose_published(self, patches: Patches) -> Choice:
        video, frame = typicality(patches.features)
        return self._lowest(video + frame, published_quotas(frame_scales(video, self.retention), video.shape[1]))

    def published_separators(self, kept: torch.Tensor, grid: TokenGrid) -> torch.Tensor:
        return grid.separator_offsets(kept.device)

    def _lowest(self, typical: torch.Tensor, quotas: torch.Tensor) -> Choice:
        return Choice(highest_per_frame(-typical, quotas).flatten().nonzero().flatten(), details=typical)


def steady_channels(features: torch.Tensor) -> torch.Tensor:
    """The half of the channels (at least one) that vary least of (T, P, D) features: int64, ascending."""
    variance = features.float().flatten(0, 1).var(0)
    return torch.sort(variance, stable=True).indices[: max(1, features.shape[-1] // 2)].sort().values


def typicality(features: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """How like the video's mean and its frame's mean every patch is, float32 (T, P) each, between 0 and 5.

    Five Gaussian kernels of widths 2^-3 .. 2^1 over the distance of the normalised steady channels to the mean.
    """
    features = finite(features)
    steady = unit(features[..., steady_channels(features)])
    widths = 2.0 ** torch.arange(-3, 2, device=features.device)

    def kernels(mean: torch.Tensor) -> torch.Tensor:
        distance = (steady - mean).square().sum(-1)
        return torch.exp(-distance[..., None] / (2 * widths)).sum(-1)

    return kernels(steady.mean((0, 1))), kernels(steady.mean(1, keepdim=True))


def frame_scales(video: torch.Tensor, base: float) -> torch.Tensor:
    """The share of patches that each frame keeps, (T,), at most 1: more where the frame is unlike the video.

    video: (T, P), likeness to the video's mean.
    """
    unusual = torch.softmax(-video.mean(1) / TEMPERATURE, 0)
    return (base * (1 + unusual - unusual.mean())).clamp(max=1)


def published_quotas(scales: torch.Tensor, size: int) -> torch.Tensor:
    """round(scale P), halves to even, at least 1: int64 (T,)."""
    return (scales * size).round().long().clamp(min=1)
