"""DyCoke, the stage before the LLM. Tao et al., "DyCoke: Dynamic Compression of Tokens for Fast Video Large Language
Models", CVPR 2025; github.com/KD-TAO/DyCoke."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from st_simdiff.checks import check_range
from st_simdiff.errors import InputError
from st_simdiff.methods.budgeted import even_quotas
from st_simdiff.methods.patches import Choice, Patches, PatchMethod, highest_per_frame, unit
from st_simdiff.selection.grid import TokenGrid

WINDOW = 4


@dataclass(frozen=True, kw_only=True)
class DyCoke(PatchMethod):
    """Keeps the first of every four frames whole, and of the other three what is least like an earlier one of them.

    A budget below the whole frames, about 25 %, is refused. k: share that a thinned frame loses, for `as_published`
    alone; there `retention` only says that tokens go, and what the official code does at the end of a video is kept.
    """

    name: ClassVar[str] = "dycoke"

    k: float = 0.7

    def __post_init__(self) -> None:
        super().__post_init__()
        check_range("k", self.k, 0, 1, "the share that a thinned frame loses")

    def fewest(self, grid: TokenGrid) -> int:
        return -(-grid.frames // WINDOW) * grid.height * grid.width

    def choose(self, patches: Patches, count: int) -> Choice:
        frames, size, _ = patches.features.shape
        thinned = [frame for frame in range(frames) if frame % WINDOW]
        quotas = torch.full((frames,), size)
        rest = count - size * (frames - len(thinned))
        quotas[thinned] = torch.tensor(even_quotas(rest, len(thinned)), dtype=torch.long)
        references = [frame - 1 if frame % WINDOW == 3 else frame - frame % WINDOW for frame in range(frames)]
        return thin(patches.features, references, quotas)

    def choose_published(self, patches: Patches) -> Choice:
        frames, size, _ = patches.features.shape
        if frames <= WINDOW:
            raise InputError(f"DyCoke's official code fails on videos of up to {WINDOW} frames, this one has {frames}.")
        references = published_references(frames)
        quotas = torch.full((frames,), int((1 - self.k) * size))
        quotas[[frame for frame, reference in enumerate(references) if reference == frame]] = size
        if frames % 2:
            quotas[-1] = 0
        return thin(patches.features, references, quotas)


def published_references(frames: int) -> list[int]:
    """The frame that each frame is compared with in the official code, itself if it stays whole.

    Its windows end before the last four frames: there the third of a window stays whole. (An odd last frame is lost.)
    """
    references = list(range(frames))
    for frame in range(1, frames):
        if frame % 2:
            references[frame] = frame - 1
        elif frame % WINDOW and frame - 2 < frames - WINDOW:
            references[frame] = frame - 2
    return references


def thin(features: torch.Tensor, references: list[int], quotas: torch.Tensor) -> Choice:
    """Keeps of each frame the `quotas` (T,) patches least like the same place of its reference. features: (T, P, D)."""
    vectors = unit(features)
    likeness = (vectors * vectors[references]).sum(-1)
    kept = highest_per_frame(-likeness, quotas.to(features.device))
    return Choice(kept.flatten().nonzero().flatten(), details=1 - likeness)
