"""FlashVID's choice and trees: pure functions on the patches of a video (see `flashvid.py` for the source)."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from st_simdiff.methods.budgeted import largest_remainder
from st_simdiff.methods.density import nearest_peaks
from st_simdiff.methods.patches import finite, unit

NEIGHBOURS = 7
"""Nearest points, the point itself included, whose distance makes a point's density."""


@dataclass(frozen=True)
class Tokens:
    """What becomes of the T*P patches of a video.

    chosen: bool (T, P), kept for their own sake. linked: bool (T, P), merged into a patch one frame earlier.
    parent: int64 (T, P), that patch's place in its frame, -1 where not linked. slots: int64 (m,), the patches that
    tokens live in, in the order of frames; a patch may occur twice in an official result. values: float32 (m, D).
    owner: int64 (T*P,), the slot that took each patch in.
    """

    chosen: torch.Tensor
    linked: torch.Tensor
    parent: torch.Tensor
    slots: torch.Tensor
    values: torch.Tensor
    owner: torch.Tensor

    def merged(self) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Slots, ascending and once each (the first of two tokens stays), their values, and the owners."""
        order = torch.sort(self.slots, stable=True).indices
        slots = self.slots[order]
        first = torch.ones_like(slots, dtype=torch.bool)
        first[1:] = slots[1:] != slots[:-1]
        return slots[first], self.values[order[first]], self.owner.scatter(0, slots, slots)


def reduce_segments(
    features: torch.Tensor,
    attention: torch.Tensor,
    lengths: list[int],
    counts: list[int],
    quotas: list[int],
    threshold: float,
    *,
    relevance: bool,
    exact: bool,
) -> Tokens:
    """The published rule on T frames of P patches, cut into segments of `lengths`.

    features: (T, P, D). attention: (T, P). counts: patches that are chosen in each frame. quotas: tokens of each frame,
    the chosen ones included; a segment has the sum of its frames'. exact: as many tokens, every mean over all that it
    took in, and no patch in two tokens; else as published.
    """
    parts, start = [], 0
    for length in lengths:
        frames = slice(start, start + length)
        parts.append(
            reduce_segment(
                finite(features[frames]),
                torch.nan_to_num(attention[frames].float(), nan=0.0, posinf=0.0, neginf=0.0),
                counts[frames],
                quotas[frames],
                threshold,
                relevance=relevance,
                exact=exact,
            )
        )
        start += length
    size, starts = features.shape[1], torch.tensor([0, *lengths]).cumsum(0).tolist()
    return Tokens(
        torch.cat([part.chosen for part in parts]),
        torch.cat([part.linked for part in parts]),
        torch.cat([part.parent for part in parts]),
        torch.cat([part.slots + start * size for part, start in zip(parts, starts, strict=False)]),
        torch.cat([part.values for part in parts]),
        torch.cat(
            [torch.where(p.owner < 0, -1, p.owner + start * size) for p, start in zip(parts, starts, strict=False)]
        ),
    )


def reduce_segment(
    features: torch.Tensor,
    attention: torch.Tensor,
    counts: list[int],
    quotas: list[int],
    threshold: float,
    *,
    relevance: bool,
    exact: bool,
) -> Tokens:
    """One segment of L frames: see `reduce_segments`. features: float32 (L, P, D)."""
    frames, size, _ = features.shape
    chosen = spread_out(features, attention, counts, relevance=relevance, exact=exact)
    total = sum(quotas)
    linked, parent = links(unit(features), chosen, threshold, total)
    values, owner = merge_links(features, linked, parent, exact=exact)

    clustered = ~linked & ~chosen
    if frames == 1 and not exact:
        clustered = torch.ones_like(clustered)
    free = clustered.sum(1)
    wanted, rest = total - sum(counts), int(free.sum())
    if wanted >= rest:
        peaks = free.tolist()
    elif exact:
        peaks = largest_remainder(free.cpu().double(), wanted, free.cpu()).tolist()
    else:
        peaks = [min(number, math.ceil(number * wanted / rest)) for number in free.tolist()]
    slots, means = [chosen.flatten().nonzero().flatten()], [values[chosen]]
    for frame, count in enumerate(peaks):
        points = clustered[frame].nonzero().flatten()
        own = values[frame, points]
        if count < len(points):
            centres, own, nearest = cluster(own, count)
            after = frame * size + points[centres][nearest] if count else torch.full_like(points, -1)
            owner = moved(owner, frame * size + points, after)
            points = points[centres]
        slots.append(frame * size + points)
        means.append(own)
    return Tokens(chosen, linked, parent, torch.cat(slots), torch.cat(means), owner)


def spread_out(
    features: torch.Tensor, attention: torch.Tensor, counts: list[int], *, relevance: bool, exact: bool
) -> torch.Tensor:
    """The patches of each frame that are far apart and attended to: bool (L, P). counts: how many a frame, (L,).

    Distance of j from i: (1 - cosine) times the attention to j and, with `relevance`, times x_j . (mean of the
    segment). First comes the patch whose second nearest (itself included) is farthest, then the one whose nearest
    chosen one is. With a relevance below 0 the official code may choose a patch again and again; `exact` never does.
    """
    vectors = unit(features)
    weight = attention * 1e6
    if relevance:
        weight = weight * (features @ features.mean((0, 1)))
    distance = (1 - vectors @ vectors.mT) * weight[:, None]
    frames = torch.arange(len(features), device=features.device)
    chosen = torch.zeros(features.shape[:2], dtype=torch.bool, device=features.device)
    limit = torch.as_tensor(counts, device=features.device)
    near = distance.topk(min(2, distance.shape[1]), dim=1, largest=False).values[:, -1]
    for step in range(max(counts, default=0)):
        if exact:
            near = near.masked_fill(chosen, -torch.inf)
        elif not relevance and step:
            near = near.masked_fill(chosen, -1.0)
        pick = near.argmax(1)
        chosen[frames, pick] |= step < limit
        own = distance[frames, pick]
        near = own if step == 0 else torch.minimum(near, own)
    return chosen


def links(
    vectors: torch.Tensor, chosen: torch.Tensor, threshold: float, total: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Which free patches join their most similar free patch one frame earlier, bool (L, P), and which that is.

    vectors: (L, P, D), of length 1. chosen: bool (L, P), not free. Linked are cosines above `threshold`, or, where that
    leaves fewer than `total` patches, above the cosine that leaves them.
    """
    best = torch.full(chosen.shape, -1.0, device=vectors.device)
    parent = torch.zeros(chosen.shape, dtype=torch.long, device=vectors.device)
    if len(vectors) > 1:
        cosine = vectors[1:] @ vectors[:-1].mT
        cosine = cosine.masked_fill(chosen[:-1, None], -1.0)
        best[1:], parent[1:] = cosine.max(-1)
        best = best.masked_fill(chosen, -1.0)
    linked = best > threshold
    free_places = linked.numel() - total
    if free_places <= 0:
        linked = torch.zeros_like(linked)
    elif int(linked.sum()) > free_places:
        cut = best.flatten().sort(descending=True).values[free_places - 1]
        linked = best > cut.clamp(min=-1 + 1e-6)
    return linked, parent.masked_fill(~linked, -1)


def merge_links(
    features: torch.Tensor, linked: torch.Tensor, parent: torch.Tensor, *, exact: bool
) -> tuple[torch.Tensor, torch.Tensor]:
    """Every patch with what joined it, float32 (L, P, D), and the patch that each one ended up in, int64 (L*P,).

    From the last frame to the first, a linked patch adds its sum to its parent. An official sum is divided by one and
    the number of its direct children; with `exact` it is a mean over all that it holds.
    """
    frames, size, _ = features.shape
    values, held = features.clone(), torch.ones(linked.shape, device=features.device)
    for frame in range(frames - 1, 0, -1):
        own, to = linked[frame], parent[frame]
        weight = held[frame] if exact else torch.ones_like(held[frame])
        values[frame - 1].index_add_(0, to[own], values[frame][own])
        held[frame - 1].index_add_(0, to[own], weight[own])
    owner = torch.arange(frames * size, device=features.device).view(frames, size)
    for frame in range(1, frames):
        owner[frame] = torch.where(linked[frame], owner[frame - 1][parent[frame].clamp(min=0)], owner[frame])
    return values / held[..., None], owner.flatten()


def cluster(points: torch.Tensor, count: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """`count` density peaks of (n, D), the mean of the points nearest to each, and each point's peak (0..count-1)."""
    centres, nearest = nearest_peaks(points, count, NEIGHBOURS)
    if not count:
        return centres, points[:0], nearest
    sums = torch.zeros_like(points[:count]).index_add_(0, nearest, points)
    return centres, sums / torch.bincount(nearest, minlength=count)[:, None], nearest


def moved(owner: torch.Tensor, before: torch.Tensor, after: torch.Tensor) -> torch.Tensor:
    """`owner` with what belonged to the patches `before` (n,) belonging to `after` (n,), -1 for nobody."""
    target = torch.arange(len(owner), device=owner.device)
    target[before] = after
    return torch.where(owner < 0, -1, target[owner.clamp(min=0)])
