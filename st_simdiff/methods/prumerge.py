"""PruMerge. Shang et al., "LLaVA-PruMerge: Adaptive Token Reduction for Efficient Large Multimodal Models", 2024,
arXiv 2403.15388; github.com/42Shawn/LLaVA-PruMerge."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from st_simdiff.methods.base import VisionInput
from st_simdiff.methods.budgeted import equal_groups, even_quotas
from st_simdiff.methods.patches import Choice, FramePart, Patches, PatchMethod, assemble, unit
from st_simdiff.methods.ranking import rank

NEIGHBOURS = 32
"""How many of its most similar tokens are added to each kept one (fewer where a frame has fewer)."""


@dataclass(frozen=True, kw_only=True)
class PruMerge(PatchMethod):
    """Keeps each frame's most attended patches, adds their nearest neighbours to them, and sums up the rest.

    The sum of the dropped patches takes the slot of the most attended one among them, so a frame's share of the budget
    is that many centres and one sum. A frame with one place has no sum; a frame that keeps all patches is unchanged.
    On SigLIP the attention a patch receives, scaled to sum to 1 in its frame, stands for the CLS token's softmax.
    as_published: the paper's adaptive share (the attention's outliers); `retention` then only says that tokens go.
    """

    name: ClassVar[str] = "prumerge"

    @property
    def vision_inputs(self) -> frozenset[VisionInput]:
        return frozenset({"attention", "keys"})

    def choose(self, patches: Patches, count: int) -> Choice:
        frames, size, _ = patches.features.shape
        attention = frame_distribution(patches.attention)
        quotas = even_quotas(count, frames)
        places = [quota - 1 if 1 < quota < size else quota for quota in quotas]
        return condense(patches, attention, self.centres(attention, places), quotas)

    def choose_published(self, patches: Patches) -> Choice:
        attention = frame_distribution(patches.attention)
        centres = self.published_centres(attention)
        return condense(patches, attention, centres, [len(own) + 1 for own in centres])

    def centres(self, attention: torch.Tensor, places: list[int]) -> list[torch.Tensor]:
        """As many centres of each frame as it has places, int64 (k,). attention: (T, P), summing to 1 in a frame."""
        return [row[:own] for row, own in zip(rank(attention), places, strict=True)]

    def published_centres(self, attention: torch.Tensor) -> list[torch.Tensor]:
        """The centres of each frame by the paper's adaptive rule, int64 (k,); at least one."""
        chosen = max(1, int(attention.shape[1] * outlier_ratio(attention.flatten())))
        return list(rank(attention)[:, :chosen])


def frame_distribution(attention: torch.Tensor) -> torch.Tensor:
    """Attention that sums to 1 in each frame, float32 (T, P), whatever the pooling did to its scale."""
    attention = torch.nan_to_num(attention.float(), nan=0.0, posinf=0.0).clamp(min=0)
    return attention / attention.sum(-1, keepdim=True).clamp(min=torch.finfo(torch.float32).tiny)


def outlier_ratio(attention: torch.Tensor) -> float:
    """The share of values above Q3 + 1.5 IQR of their row, averaged over the rows; quartiles by linear interpolation.

    attention: (B, N), or (N,) for one row. The paper's code takes all images of a batch as one row.
    """
    values = attention.double()
    first, third = torch.quantile(values, values.new_tensor([0.25, 0.75]), dim=-1, keepdim=True)
    return (values > third + 1.5 * (third - first)).double().mean().item()


def dropped_of(kept: torch.Tensor, size: int) -> torch.Tensor:
    """The patches of each frame that are not kept, int64 (B, size - k), ascending. kept: (B, k).

    Where `kept` repeats an index (the official fixed PruMerge+ does), the first of the others are left out, as there.
    """
    mask = torch.zeros(len(kept), size, dtype=torch.int8, device=kept.device).scatter(1, kept, 1)
    return torch.sort(mask, dim=1, descending=True, stable=True).indices[:, kept.shape[1] :]


def merge(
    features: torch.Tensor, keys: torch.Tensor, attention: torch.Tensor, kept: torch.Tensor, dropped: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Each kept token plus the attention-weighted sum of its nearest others, not normalised; and the sum of the rest.

    features: (B, N, C). keys: (B, N, d); nearness is their cosine. attention: (B, N). kept: (B, k), dropped: (B, m).
    Returns float32 (B, k, C) and (B, C): the centres, and the attention-weighted sum over the dropped.
    """
    others = torch.cat([kept, dropped], 1)
    batch = torch.arange(len(kept), device=kept.device)[:, None]
    vectors = unit(keys)[batch, others]
    similarity = vectors[:, : kept.shape[1]] @ vectors.mT
    similarity.diagonal(dim1=1, dim2=2).fill_(-torch.inf)
    nearest = similarity.topk(min(NEIGHBOURS, others.shape[1] - 1), dim=-1).indices
    weight = attention.float()[batch, others]
    share = torch.zeros_like(similarity).scatter(2, nearest, weight[batch[..., None], nearest])
    values = features[batch, others].float()
    centres = values[:, : kept.shape[1]] + share @ values
    rest = (weight[:, kept.shape[1] :, None] * values[:, kept.shape[1] :]).sum(1)
    return centres, rest


def condense(patches: Patches, attention: torch.Tensor, centres: list[torch.Tensor], quotas: list[int]) -> Choice:
    """Merges every frame onto its centres, and the rest into one more slot where the frame's quota has it.

    attention: (T, P). centres: for each frame the patches it keeps, int64 (k,). Frames of equal numbers go together.
    """
    frames, size, _ = patches.features.shape
    parts = []
    sizes = [(len(own), quota) for own, quota in zip(centres, quotas, strict=True)]
    for (kept_count, quota), group in equal_groups(sizes):
        if not kept_count:
            continue
        index = torch.tensor(group, device=attention.device)
        kept = torch.stack([centres[frame] for frame in group])
        features, weight = patches.features[index], attention[index]
        owner = torch.arange(size, device=kept.device).expand(len(group), -1)
        dropped = dropped_of(kept, size)
        if not dropped.shape[1]:
            parts.append(FramePart(index, owner, features, owner))
            continue
        values, rest = merge(features, patches.keys[index], weight, kept, dropped)
        slots, host = kept, torch.full_like(kept[:, :1], -1)
        if quota > kept_count:
            host = dropped.gather(1, weight.gather(1, dropped).argmax(1, keepdim=True))
            slots, values = torch.cat([kept, host], 1), torch.cat([values, rest[:, None]], 1)
        parts.append(FramePart(index, slots, values, owner.scatter(1, dropped, host.expand_as(dropped))))
    return assemble(parts, frames, size, details=attention)
