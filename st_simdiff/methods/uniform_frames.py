"""Fewer frames at the same budget: what one gets without any compression method."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from st_simdiff.methods.base import Reduction, VisualTokens
from st_simdiff.methods.budgeted import Budgeted
from st_simdiff.selection.grid import TokenGrid, spread


@dataclass(frozen=True, kw_only=True)
class UniformFrames(Budgeted):
    """Keeps evenly spaced whole frames with their separators; the last one holds what the budget leaves for it."""

    name: ClassVar[str] = "uniform_frames"
    unpublished: ClassVar[str] = "uniform_frames is a plain baseline: nobody published a budget for it."

    def reduce_input(self, tokens: VisualTokens) -> Reduction | None:
        if self.retention == 1:
            return None
        return Reduction(kept=frame_subset(tokens.grid, self.count(tokens), tokens.features.device))


def frame_subset(grid: TokenGrid, count: int, device: torch.device | str = "cpu") -> torch.Tensor:
    """Offsets of `count` tokens in the fewest whole frames, int64 ascending.

    The frames are the integers nearest below an even spacing from the first to the last, as LLaVA-Video samples them;
    the last of them gives evenly spaced tokens. A separator at the video's end stays, unless it would be all there is.
    """
    end = grid.separator_offsets(device)[: int(grid.separators == "end" and count > 1)]
    left, length = count - end.numel(), grid.frame_length
    chosen = -(-left // length)
    frames = torch.arange(chosen, device=device) * (grid.frames - 1) // max(chosen - 1, 1)
    tokens = frames.view(-1, 1) * length + torch.arange(length, device=device)
    last = spread(tokens[-1], left - (chosen - 1) * length)
    return torch.cat([tokens[:-1].flatten(), last, end])
