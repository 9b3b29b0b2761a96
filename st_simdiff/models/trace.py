"""What happened to the visual tokens: the account that every compressed prefill leaves behind."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch

from st_simdiff.errors import InputError
from st_simdiff.methods.base import StageRecord
from st_simdiff.selection.budget import ModelShape, layer_averaged_share
from st_simdiff.selection.grid import TokenGrid


@dataclass(repr=False)
class VideoTrace:
    """One video's way through the prefill.

    row: its sequence in the batch. grid: its N tokens. offsets: int64, those that are left at the end, ascending.
    stages: the reductions that took place. shape: the decoder's sizes. asked: whether the last query's attention had a
    part in them, so that another question may keep other tokens.
    """

    row: int
    grid: TokenGrid
    shape: ModelShape
    offsets: torch.Tensor
    stages: list[StageRecord] = field(default_factory=list)
    asked: bool = False

    def __repr__(self) -> str:
        counts = ", ".join(f"{name}={value}" for name, value in self.summary().items())
        return f"VideoTrace(row={self.row}, {counts})"

    @property
    def kept(self) -> int:
        """Visual tokens left after the last reduction."""
        return self.offsets.numel()

    @property
    def places(self) -> torch.Tensor:
        """Where the kept tokens stand in the video: int64 (kept, 3), frame, row and column from 0.

        A separator, such as a newline, has the row and column of no patch, -1. After merging, a token is in the place
        of the one that took in the others.
        """
        grid, device = self.grid, self.offsets.device
        places = torch.full((grid.count, 3), -1, device=device)
        places[:, 0] = grid.frame_of(device)
        axes = (torch.arange(size, device=device) for size in (grid.frames, grid.height, grid.width))
        places[grid.patches(device).flatten()] = torch.cartesian_prod(*axes)
        return places[self.offsets]

    @property
    def tokens_per_layer(self) -> list[int]:
        """Visual tokens that each decoder layer processes and stores."""
        counts = [self.grid.count] * self.shape.layers
        for stage in self.stages:
            counts[stage.layer + 1 :] = [stage.after] * (self.shape.layers - stage.layer - 1)
        return counts

    def summary(self) -> dict[str, int | float]:
        """The counts that a results file wants. Reads the device."""
        counts: dict[str, int | float] = {"visual_tokens": self.grid.count}
        for stage in self.stages:
            if hasattr(stage.reduction.details, "summary"):
                counts |= stage.reduction.details.summary()
        per_layer = self.tokens_per_layer
        return counts | {
            "visual_tokens_kept": self.kept,
            "realised_retention": self.kept / self.grid.count,
            "layer_averaged_share": layer_averaged_share(per_layer, self.grid.count),
            "kv_bytes": self.shape.kv_bytes(per_layer),
        }


@dataclass
class Trace:
    """The videos of the last prompt, in order of row and place: none if it had only text and images, which pass.

    A second turn without a video leaves those of the turns before.
    """

    videos: list[VideoTrace] = field(default_factory=list)

    @property
    def last(self) -> VideoTrace:
        """The last video. Raises `InputError` if the last prompt had none."""
        if not self.videos:
            raise InputError("The trace is empty: no prompt was compressed yet, or the last one had no video.")
        return self.videos[-1]
