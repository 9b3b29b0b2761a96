"""VisionZip. Yang et al., "VisionZip: Longer is Better but Not Necessary in Vision Language Models", CVPR 2025;
github.com/dvlab-research/VisionZip. On SigLIP: the ports in github.com/cokeshao/HoliTom and EffiVLM-Bench."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from st_simdiff.methods.base import VisionInput
from st_simdiff.methods.budgeted import equal_groups, even_quotas
from st_simdiff.methods.patches import Choice, FramePart, Patches, PatchMethod, assemble, unit
from st_simdiff.methods.ranking import rank
from st_simdiff.selection.grid import TokenGrid


@dataclass(frozen=True, kw_only=True)
class VisionZip(PatchMethod):
    """Keeps each frame's most attended patches, and merges the others into evenly spaced contextual ones.

    Dominant to contextual is 54 : 10. A contextual token keeps the slot of the patch it grew from. Attention received
    takes the CLS token's place on SigLIP. as_published: EffiVLM-Bench's counts for SigLIP at any ratio, and every
    newline token, as in HoliTom's port.
    """

    name: ClassVar[str] = "visionzip"

    @property
    def vision_inputs(self) -> frozenset[VisionInput]:
        return frozenset({"attention", "keys"})

    def choose(self, patches: Patches, count: int) -> Choice:
        frames, size, _ = patches.features.shape
        parts = []
        for quota, group in equal_groups(even_quotas(count, frames)):
            if quota:
                parts.append(zip_frames(patches, torch.tensor(group), *split_quota(quota)))
        return assemble(parts, frames, size, details=patches.attention)

    def choose_published(self, patches: Patches) -> Choice:
        frames, size, _ = patches.features.shape
        part = zip_frames(patches, torch.arange(frames), *effivlm_counts(size, self.retention))
        return assemble([part], frames, size, details=patches.attention)

    def published_separators(self, kept: torch.Tensor, grid: TokenGrid) -> torch.Tensor:
        return grid.separator_offsets(kept.device)


def split_quota(quota: int) -> tuple[int, int]:
    """(dominant, contextual) of a frame's quota, 54 : 10 with the dominant rounded down, but never none of them."""
    dominant = max(1, quota * 54 // 64)
    return dominant, quota - dominant


def effivlm_counts(size: int, retention: float) -> tuple[int, int]:
    """(dominant, contextual) as EffiVLM-Bench counts them for a frame of `size` patches, each at least 1."""
    return max(1, int(retention * size * 5.4 / 6.4)), max(1, int(retention * size / 6.4))


def select(
    scores: torch.Tensor, metric: torch.Tensor, features: torch.Tensor, dominant: int, contextual: int
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """The published rule.

    scores: (B, N); the CLS token, where there is one, is neither ranked nor merged. metric: (B, N, d), keys, mean over
    heads. features: (B, N, C).
    Returns the dominant tokens, int64 (B, dominant), by rank; the contextual targets, int64 (B, contextual), in
    raster order; their values, float32 (B, contextual, C), target + mean of the tokens assigned to it (a sum, not a
    mean); and for every token its owner, int64 (B, N): itself if kept, else the target most similar to it, or -1
    where there are no targets.
    """
    size = features.shape[1]
    ranked = rank(scores)
    rest = ranked[:, dominant:].sort(dim=1).values
    step = max(1, rest.shape[1] // max(contextual, 1))
    picked = torch.arange(0, rest.shape[1], step, device=rest.device)[:contextual]
    owner = torch.arange(size, device=rest.device).repeat(len(rest), 1)
    targets = rest[:, picked]
    others = rest[:, ~torch.isin(torch.arange(rest.shape[1], device=rest.device), picked)]
    if not contextual:
        return ranked[:, :dominant], targets, features[:, :0].float(), owner.scatter(1, others, -1)
    batch = torch.arange(len(rest), device=rest.device)[:, None]
    vectors = unit(metric)
    nearest = (vectors[batch, others] @ vectors[batch, targets].mT).argmax(-1)
    values = features[batch, targets].float()
    index = nearest[..., None].expand(-1, -1, values.shape[-1])
    total = torch.zeros_like(values).scatter_add(1, index, features[batch, others].float())
    sizes = torch.zeros(targets.shape, device=rest.device).scatter_add(1, nearest, torch.ones_like(others).float())
    values = values + total / sizes.clamp(min=1)[..., None]
    return ranked[:, :dominant], targets, values, owner.scatter(1, others, targets.gather(1, nearest))


def zip_frames(patches: Patches, frames: torch.Tensor, dominant: int, contextual: int) -> FramePart:
    """Dominant and contextual tokens of some frames (F,) in their slots. The counts are cut to the frame's size."""
    frames = frames.to(patches.features.device)
    features = patches.features[frames]
    dominant = min(dominant, features.shape[1])
    contextual = min(contextual, features.shape[1] - dominant)
    top, targets, values, owner = select(
        patches.attention[frames], patches.keys[frames], features, dominant, contextual
    )
    unchanged = features.float().gather(1, top[..., None].expand(-1, -1, features.shape[-1]))
    return FramePart(frames, torch.cat([top, targets], 1), torch.cat([unchanged, values], 1), owner)
