"""UniComp. "UniComp: Rethinking Video Compression Through Informational Uniqueness", CVPR 2026, arXiv 2512.03575;
github.com/TimeMarker-LLM/UniComp."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from st_simdiff.checks import check_range
from st_simdiff.methods.base import VisionInput
from st_simdiff.methods.budgeted import largest_remainder
from st_simdiff.methods.patches import Choice, Patches, PatchMethod, finite, unit
from st_simdiff.methods.ranking import rank


@dataclass(frozen=True, kw_only=True)
class UniComp(PatchMethod):
    """Merges runs of like frames into their mean, and keeps more of unusual groups: patches unlike those kept there.

    same_frame: a frame of a smaller difference (1 - cosine of means) from a group's first joins it. same_patch: patches
    of a smaller difference (of keys) stand for each other. A frame is told by the vision tower's pooling head where
    the tower has one, else by its mean.
    as_published: at most int(r N) tokens, usually fewer, and the newline tokens of rows that keep a patch.
    """

    name: ClassVar[str] = "unicomp"

    same_frame: float = 0.005
    same_patch: float = 0.2

    def __post_init__(self) -> None:
        super().__post_init__()
        check_range("same_frame", self.same_frame, 0, 2, "a difference, 1 - cosine")
        check_range("same_patch", self.same_patch, 0, 2, "a difference, 1 - cosine")

    @property
    def vision_inputs(self) -> frozenset[VisionInput]:
        return frozenset({"keys"})

    def choose(self, patches: Patches, count: int) -> Choice:
        size = patches.features.shape[1]
        longest = int(1 / self.retention)
        group = group_frames(patches.features, self.same_frame, longest, fewest=-(-count // size))
        fused, starts = fuse(patches.features, group)
        told = patches.pooled[starts] if patches.pooled is not None else fused.mean(1)
        order, taken, _ = unlike_patches(patches.keys[starts], self.same_patch)
        cap = min(size, max(1, 2 * (count // len(starts))))
        capacity = torch.full((len(starts),), cap)
        counts = largest_remainder(torch.softmax(uniqueness(told), 0).cpu(), count, capacity)
        # The unlike patches first, then the ones that they stand for.
        sequence = order.gather(1, rank(taken.gather(1, order).float()))
        return self.keep(patches, group, fused, starts, sequence, counts.to(order.device))

    def choose_published(self, patches: Patches) -> Choice:
        frames, size, _ = patches.features.shape
        budget = int(self.retention * frames * size)
        group = group_frames(patches.features, self.same_frame, int(1 / self.retention))
        fused, starts = fuse(patches.features, group)
        if len(starts) * size <= budget:
            kept = (starts[:, None] * size + torch.arange(size, device=starts.device)).flatten()
            return Choice(kept, fused.flatten(0, 1), representatives(group, starts, size, kept))
        told = patches.pooled[starts] if patches.pooled is not None else fused.mean(-1)
        order, taken, found = unlike_patches(patches.keys[starts], self.same_patch)
        budgets = published_budgets(uniqueness(told), budget, size)
        counts = given(budgets, found)
        sequence = order.gather(1, rank(taken.gather(1, order).float()))
        return self.keep(patches, group, fused, starts, sequence, counts)

    def keep(
        self,
        patches: Patches,
        group: torch.Tensor,
        fused: torch.Tensor,
        starts: torch.Tensor,
        sequence: torch.Tensor,
        counts: torch.Tensor,
    ) -> Choice:
        """The first `counts` (F,) patches of each group's `sequence` (F, P), averaged with those like them."""
        size = fused.shape[1]
        stays = torch.zeros_like(sequence, dtype=torch.bool)
        stays.scatter_(1, sequence, torch.arange(size, device=sequence.device) < counts[:, None])
        values = with_alike(fused, patches.keys[starts], self.same_patch)
        kept = (starts[:, None] * size + torch.arange(size, device=starts.device))[stays]
        return Choice(kept, values[stays], representatives(group, starts, size, kept))


def group_frames(features: torch.Tensor, same: float, longest: int, fewest: int = 1) -> torch.Tensor:
    """The group (0..F-1) of every frame, int64 (T,) on the CPU.

    features: (T, P, D). A frame joins the group before it if its mean differs from that of the group's first frame by
    at most `same` and the group has at most `longest` frames (so one more than that fit, as published). fewest: no
    frame joins any more where that would leave fewer groups.
    """
    means = unit(features.float().mean(1))
    close = (1 - means @ means.T <= same).tolist()
    first, group, spare = 0, [0], len(features) - fewest
    for frame in range(1, len(features)):
        joins = close[first][frame] and frame - first <= longest and spare > 0
        spare -= joins
        first = first if joins else frame
        group.append(group[-1] + (not joins))
    return torch.tensor(group)


def fuse(features: torch.Tensor, group: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The mean of each group's frames, float32 (F, P, D), and its first frame, int64 (F,)."""
    group = group.to(features.device)
    sizes = torch.bincount(group)
    sums = features.new_zeros((len(sizes), *features.shape[1:]), dtype=torch.float32)
    sums.index_add_(0, group, finite(features))
    return sums / sizes[:, None, None], sizes.cumsum(0) - sizes


def uniqueness(told: torch.Tensor) -> torch.Tensor:
    """How unlike the others each group is, (F,): (mean s - s) sqrt(F), s its mean cosine to all. told: (F, G)."""
    vectors = unit(told)
    likeness = (vectors @ vectors.T).mean(1)
    return (likeness.mean() - likeness) * len(told) ** 0.5


def published_budgets(unique: torch.Tensor, budget: int, size: int) -> torch.Tensor:
    """Tokens of each group by a softmax of its uniqueness, int64 (F,): at most twice the mean, at most `budget`."""
    groups = len(unique)
    cap = min(size, max(1, 2 * (budget // groups)))
    if groups <= budget // cap:
        return torch.full((groups,), cap, device=unique.device)
    counts = (torch.softmax(unique, 0) * budget).floor().long().cpu()
    while True:
        full = counts > cap
        counts = counts.clamp(max=cap)
        share = max(0, budget - int(counts.sum())) // max(1, int((~full).sum()))
        if not (bool(full.any()) and share > 0):
            return counts.to(unique.device)
        counts[~full] += share


def unlike_patches(keys: torch.Tensor, same: float) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """The patches of each group from the least typical on, which of them are unlike all taken before, and their number.

    keys: (F, P, d). Returns order int64 (F, P), by mean cosine; taken bool (F, P), by patch; found int64 (F,).
    A patch is taken if none taken before it is within `same` (1 - cosine). All groups are worked on at once: whatever
    comes before all undecided patches like it is taken, round by round.
    """
    vectors = unit(keys)
    cosine = vectors @ vectors.mT
    order = rank(-cosine.mean(-1))
    place = order.argsort(1)
    alike = 1 - cosine < same
    alike.diagonal(dim1=1, dim2=2).fill_(False)
    earlier = alike & (place[:, None] < place[:, :, None])  # [i, j]: j is like i and comes before it
    taken = torch.zeros_like(place, dtype=torch.bool)
    open_ = torch.ones_like(taken)
    while bool(open_.any()):
        new = open_ & ~(earlier & open_[:, None]).any(-1)
        taken |= new
        open_ &= ~new & ~(earlier & new[:, None]).any(-1)
    return order, taken, taken.sum(1)


def given(budgets: torch.Tensor, found: torch.Tensor) -> torch.Tensor:
    """How many patches each group gets, int64 (F,): at most as many as were found, the surplus shared by the others."""
    short = found < budgets
    if int(found.sum()) > int(budgets.sum()) and bool(short.any()):
        surplus = int((budgets - found)[short].sum())
        budgets = torch.where(short, found, budgets + surplus // max(1, int((~short).sum())))
    return budgets.minimum(found)


def with_alike(fused: torch.Tensor, keys: torch.Tensor, same: float) -> torch.Tensor:
    """The mean of every patch and of the mean of all patches like it, itself included: float32 (F, P, D)."""
    vectors = unit(keys)
    alike = (1 - vectors @ vectors.mT < same).float()
    alike.diagonal(dim1=1, dim2=2).fill_(1.0)
    return (fused + alike @ fused / alike.sum(-1, keepdim=True)) / 2


def representatives(group: torch.Tensor, starts: torch.Tensor, size: int, kept: torch.Tensor) -> torch.Tensor:
    """The slot that took each of T*P patches in, int64: the same place in its group's first frame, -1 if dropped."""
    first = starts[group.to(starts.device)]
    slot = (first[:, None] * size + torch.arange(size, device=starts.device)).flatten()
    stays = torch.zeros(len(slot), dtype=torch.bool, device=slot.device).index_fill_(0, kept, True)
    return torch.where(stays[slot], slot, -1)
