"""Selection from the features alone: events by the change of a patch, the others by their distance to what is kept.

It keeps the paper's two ideas (similarity finds redundancy, difference finds events) and not its graph: a token is
redundant if it is near a kept one, in content and time. No question and no attention has a part in it.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from st_simdiff.selection.coverage import Points, farthest_in_parts, steps, tubes
from st_simdiff.selection.grid import TokenGrid, check_features, spread
from st_simdiff.selection.sketch import patch_sketch
from st_simdiff.selection.tokens import TIE


@dataclass(frozen=True)
class InputSelection:
    """What was kept of a video's N tokens, and why. All tensors are on the features' device.

    event, representative, newline: bool (N,), the kept tokens by reason: largest change; seed and farthest points;
    separators that return because the budget exceeds the patches. core: bool (N,), the first of the representatives,
    those of a smaller budget without events. seed: bool (N,), the patch that farthest points
    start from; none where all patches stay. reach: float64 (N,), how far from the seed and those chosen before in its
    part a farthest point was, NaN for what was not chosen. change: float64 (N,), distance to the same place one frame
    earlier, NaN where there is none.
    """

    event: torch.Tensor
    representative: torch.Tensor
    newline: torch.Tensor
    core: torch.Tensor
    seed: torch.Tensor
    reach: torch.Tensor
    change: torch.Tensor

    @property
    def kept(self) -> torch.Tensor:
        """Bool (N,)."""
        return self.event | self.representative | self.newline

    def summary(self) -> dict[str, int]:
        """The counts for a results file. Reads the device."""
        return {
            "representatives": int(self.representative.sum()),
            "events": int(self.event.sum()),
            "candidates": int(self.kept.sum()),
        }


@torch.no_grad()
def select_input(
    features: torch.Tensor, grid: TokenGrid, count: int, *, core: int = 0, events: bool = True
) -> InputSelection:
    """Keeps exactly `count` of the N tokens of one video.

    features: (N, D) in the order of `grid`, any floating dtype; numbers that are not finite count as 0. count: at most
    N. core: how many patches the core has, at most `count`. events: whether the min(count^2 // N, (T - 1) P) patches
    that change most come first; their share of what is kept is that of the kept in all tokens. Without events a smaller
    `count` keeps a subset.

    Of the patches that are not events come the one nearest to the middle of the video (the seed) and the farthest
    points (`farthest_in_parts`). Separators are no patches: they return, evenly spaced, only where `count` exceeds the
    patches. O(N D) for the sketch and O(N) else. Raises `InputError` unless there is one feature vector a token.
    """
    check_features(features, grid)
    where = grid.patches(features.device).flatten()
    patches = where.numel()
    nothing = torch.zeros(grid.count, dtype=torch.bool, device=features.device)
    unknown = torch.full((grid.count,), torch.nan, dtype=torch.float64, device=features.device)
    if count >= patches:
        separators = spread(grid.separator_offsets(features.device), count - patches)
        representative, newline = nothing.index_fill(0, where, True), nothing.index_fill(0, separators, True)
        first = representative
        if core < patches:
            first = select_input(features, grid, core, events=False).kept if core else nothing
        return InputSelection(nothing, representative, newline, first, nothing, unknown, unknown)

    points = Points.of_video(patch_sketch(features, where, grid.frames), grid.frames)
    change = (points.sketch.unflatten(0, (grid.frames, -1)).diff(dim=0)).norm(dim=-1).flatten()
    first_later = patches - change.numel()
    number = min(count * count // grid.count, change.numel()) if events else 0
    event = first_later + torch.sort(steps(change), descending=True, stable=True).indices[:number]
    from_middle = points.from_middle()
    seed = (from_middle <= from_middle.min() + TIE).int().argmax(0, keepdim=True)
    parts = tubes(grid.frames, grid.height, grid.width, features.device)
    # At most as many of the farthest points are events as events come before them.
    farthest, reach = farthest_in_parts(points, parts, seed, count - 1)

    kept = torch.zeros(patches, dtype=torch.bool, device=features.device).index_fill_(0, event, True)
    kept.index_fill_(0, seed, True)
    new = ~kept[farthest] & (reach >= 0)
    new &= new.cumsum(0) <= count - kept.sum()
    first = torch.cat([seed, farthest[: max(core - 1, 0)]])[:core]
    kept |= torch.zeros_like(where).index_add_(0, farthest, new.long()) > 0
    reach_of = torch.full_like(from_middle, -1.0).scatter_reduce_(0, farthest, reach, "amax")

    event = nothing.index_fill(0, where[event], True)
    return InputSelection(
        event,
        nothing.index_copy(0, where, kept) & ~event,
        nothing,
        nothing.index_fill(0, where[first], True),
        nothing.index_fill(0, where[seed], True),
        unknown.index_copy(0, where, reach_of.masked_fill(reach_of < 0, torch.nan)),
        unknown.index_copy(0, where[first_later:], change),
    )
