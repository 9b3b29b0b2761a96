"""FastVID. Shen et al., "FastVID: Dynamic Density Pruning for Fast Video Large Language Models", NeurIPS 2025;
github.com/LunarShen/FastVID."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar

import torch

from st_simdiff.checks import check_range, check_whole
from st_simdiff.methods.base import VisionInput
from st_simdiff.methods.budgeted import even_quotas, largest_remainder
from st_simdiff.methods.density import cluster_sums, density_peaks, distances
from st_simdiff.methods.patches import Choice, Patches, PatchMethod, finite, unit
from st_simdiff.methods.ranking import rank

NEIGHBOURS = 4
"""Nearest points whose distance makes a point's density."""


@dataclass(frozen=True, kw_only=True)
class FastVID(PatchMethod):
    """Cuts the video into segments, keeps salient patches of every frame, and merges the others into density peaks.

    segments: least number of segments (c). tau: frames less similar than this are cut apart. context: share of the
    kept that are density peaks (d). anchor: one frame in so many holds the peaks (p). beta: least weight of a peak in
    its mean. The published code reads SigLIP's pooling head, which LLaVA-Video checkpoints do not have: the attention
    received stands for its attention, and the mean of the frame's features for its output where none was recorded.
    as_published: int(P r) patches a frame, and the newline tokens of the rows that keep one.
    """

    name: ClassVar[str] = "fastvid"

    segments: int = 8
    tau: float = 0.9
    context: float = 0.4
    anchor: int = 4
    beta: float = 0.6

    def __post_init__(self) -> None:
        super().__post_init__()
        check_whole("segments", self.segments, 1, "the least number of segments")
        check_range("tau", self.tau, -1, 1, "a cosine similarity")
        check_range("context", self.context, 0, 1, "a share of the kept patches")
        check_whole("anchor", self.anchor, 1, "every how many frames one holds density peaks")
        check_range("beta", self.beta, 0, 1, "a weight")

    @property
    def vision_inputs(self) -> frozenset[VisionInput]:
        return frozenset({"attention"})

    def choose(self, patches: Patches, count: int) -> Choice:
        return self._reduce(patches, even_quotas(count, len(patches.features)))

    def choose_published(self, patches: Patches) -> Choice:
        frames, size, _ = patches.features.shape
        return self._reduce(patches, [max(1, int(size * self.retention))] * frames)

    def _reduce(self, patches: Patches, quotas: list[int]) -> Choice:
        told = patches.features.float().mean(1) if patches.pooled is None else patches.pooled
        lengths = segment_lengths(told, self.segments, self.tau)
        return reduce_segments(
            patches.features, patches.attention, quotas, lengths, self.context, self.anchor, self.beta
        )


def segment_lengths(frames: torch.Tensor, least: int, tau: float) -> list[int]:
    """Frames per segment: cut at the `least` - 1 lowest similarities of neighbours, and at all below `tau`.

    frames: (T, C), one feature a frame.
    """
    vectors = unit(frames)
    similarity = (vectors[:-1] * vectors[1:]).sum(-1)
    cut = similarity < tau
    cut[rank(-similarity)[: least - 1]] = True
    bounds = [0, *(cut.nonzero().flatten() + 1).tolist(), len(frames)]
    return [end - start for start, end in pairwise(bounds)]


def segment_quotas(total: int, length: int, size: int, context: float, anchor: int) -> tuple[list[int], list[int]]:
    """(salient, context) tokens of each of `length` frames of `size` patches, `total` in all.

    int(total * context) are context tokens; they sit in the last frame of the segment and in every `anchor`-th one
    before it; earlier frames take the odd salient ones, later ones the odd context ones. What an anchor cannot hold
    (the official code fails there) goes to the other frames as salient tokens.
    """
    peaks = int(total * context)
    salient = front_loaded(total - peaks, length)
    anchors = -(-length // anchor)
    peaks_per_anchor = iter(front_loaded(peaks, anchors))
    held = [next(peaks_per_anchor) if frame % anchor == 0 else 0 for frame in range(length)][::-1]
    room = [min(own, size - other) for own, other in zip(held, salient, strict=True)]
    if excess := sum(held) - sum(room):
        free = torch.tensor([size - own - other for own, other in zip(room, salient, strict=True)])
        extra = largest_remainder(torch.ones(length), excess, free).tolist()
        salient = [own + more for own, more in zip(salient, extra, strict=True)]
    return salient, room


def front_loaded(total: int, parts: int) -> list[int]:
    """`total` over `parts` as evenly as whole numbers allow, the first ones taking the odd ones."""
    return [total // parts + (part < total % parts) for part in range(parts)]


def reduce_segments(
    features: torch.Tensor,
    attention: torch.Tensor,
    quotas: list[int],
    lengths: list[int],
    context: float = 0.4,
    anchor: int = 4,
    beta: float = 0.6,
) -> Choice:
    """The published rule on T frames of P patches, cut into segments of `lengths`.

    features: (T, P, D). attention: (T, P). quotas: tokens of each frame; a segment has the sum of its frames'.
    """
    size = features.shape[1]
    kept, values, owners, start = [], [], [], 0
    for length in lengths:
        frames = slice(start, start + length)
        salient, peaks = segment_quotas(sum(quotas[frames]), length, size, context, anchor)
        own_kept, own_values, owner = reduce_segment(features[frames], attention[frames], salient, peaks, beta)
        kept.append(own_kept + start * size)
        values.append(own_values)
        owners.append(torch.where(owner < 0, -1, owner + start * size))
        start += length
    return Choice(torch.cat(kept), torch.cat(values), torch.cat(owners), details=lengths)


def reduce_segment(
    features: torch.Tensor, attention: torch.Tensor, salient: list[int], peaks: list[int], beta: float
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """One segment: its salient patches unchanged, its density peaks merged with what is most similar to them.

    features: (L, P, D). Each anchor frame takes in, by cosine, every patch of the segment but the salient ones and
    its own peaks; a peak becomes w x + (1 - w) mean with w = max(1 / (members + 1), beta).
    Returns kept int64 (m,), values float32 (m, D) and owner int64 (L * P,) in the segment's raster order; a dropped
    patch, which every anchor takes in, counts to the most similar peak of all.
    """
    size = features.shape[1]
    flat, vectors = features.flatten(0, 1), unit(features.flatten(0, 1))
    ranked = rank(attention)
    top = torch.cat([frame * size + ranked[frame, :own] for frame, own in enumerate(salient)])
    values = finite(flat).clone()
    kept = torch.zeros(len(flat), dtype=torch.bool, device=flat.device)
    kept[top] = True
    owner, best = torch.full_like(kept, -1, dtype=torch.long), torch.full(kept.shape, -torch.inf, device=flat.device)
    for frame, count in enumerate(peaks):
        if not count:
            continue
        rest = ranked[frame, salient[frame] :].sort().values + frame * size
        centres = rest[density_peaks(distances(flat[rest]), count, NEIGHBOURS)]
        free = torch.ones_like(kept)
        free[top], free[centres] = False, False
        members = free.nonzero().flatten()
        similarity, nearest = (vectors[members] @ vectors[centres].T).max(1)
        sums, sizes = cluster_sums(flat[members], nearest, count)
        weight = (1 / (sizes + 1)).clamp(min=beta)[:, None]
        values[centres] = weight * flat[centres].float() + (1 - weight) * sums / sizes.clamp(min=1)[:, None]
        closer = similarity > best[members]
        best[members] = torch.where(closer, similarity, best[members])
        owner[members] = torch.where(closer, centres[nearest], owner[members])
        kept[centres] = True
    slots = kept.nonzero().flatten()
    owner[slots] = slots
    return slots, values[slots], owner
