"""MiniCPM-V 4.6: frames of any size, each by itself; a decoder like that of Qwen3.5."""

from __future__ import annotations

from typing import Any, ClassVar

import torch

from st_simdiff.errors import InputError
from st_simdiff.models.families.placeholders import Visual, video
from st_simdiff.models.families.transformers_family import TransformersFamily
from st_simdiff.models.transformers_api import TransformersModule
from st_simdiff.models.vision import SiglipRecorder
from st_simdiff.selection.grid import TokenGrid


class MiniCPMVFamily(TransformersFamily):
    """The model is told frames, not which of them are a video: those of a row are taken for one."""

    name: ClassVar[str] = "MiniCPM-V"
    checkpoints: ClassVar[str] = "MiniCPM-V 4.6"
    layers: ClassVar[str] = "3 linear (Gated DeltaNet) : 1 full"
    full_every: ClassVar[tuple[int, ...]] = (4,)
    note: ClassVar[str] = "one video a row; frames that are cut into slices are refused"
    model_types: ClassVar[frozenset[str]] = frozenset({"minicpmv4_6"})

    def encoded_tokens(self, base: TransformersModule, given: dict[str, Any]) -> int:
        return sum(height * width for height, width in _frames(base, given))

    def visuals(
        self, base: TransformersModule, given: dict[str, Any], rows: list[torch.Tensor], recorder: SiglipRecorder | None
    ) -> list[Visual]:
        del recorder
        frames, grids, first = _frames(base, given), [], 0
        for row in (row for row in rows if row.numel()):
            height, width = frames[first]
            count = row.numel() // (height * width)
            if frames[first : first + count] != [(height, width)] * count:
                raise InputError(
                    "MiniCPM-V is told no videos, only frames and slices of them: give one video a row, and the "
                    "processor max_slice_nums=1."
                )
            grids.append(video(TokenGrid(count, height, width)))
            first += count
        return grids


def _frames(base: TransformersModule, given: dict[str, Any]) -> list[tuple[int, int]]:
    """Rows and columns of tokens of every frame."""
    inside = 1 if (given.get("downsample_mode") or base.config.downsample_mode) == "4x" else 2
    rows, columns = (inside * side**base.config.merger_times for side in base.config.merge_kernel_size)
    return [(height // rows, width // columns) for height, width in given["target_sizes_videos"].tolist()]
