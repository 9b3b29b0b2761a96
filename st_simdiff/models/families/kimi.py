"""Kimi-K2.5: every chunk of frames is one grid of tokens, a timestamp before it."""

from __future__ import annotations

from typing import Any, ClassVar

import torch

from st_simdiff.errors import InputError
from st_simdiff.models.families.placeholders import Visual, video
from st_simdiff.models.families.transformers_family import TransformersFamily
from st_simdiff.models.transformers_api import TransformersModule
from st_simdiff.models.vision import SiglipRecorder
from st_simdiff.selection.grid import TokenGrid


class KimiFamily(TransformersFamily):
    """The model is told chunks, not which of them are a video: those of a row are taken for one."""

    name: ClassVar[str] = "Kimi"
    checkpoints: ClassVar[str] = "Kimi-K2.5"
    layers: ClassVar[str] = "full (MLA), MoE"
    note: ClassVar[str] = "one video a row"
    model_types: ClassVar[frozenset[str]] = frozenset({"kimi_k25"})

    def encoded_tokens(self, base: TransformersModule, given: dict[str, Any]) -> int:
        return sum(height * width for height, width in _chunks(base, given))

    def visuals(
        self, base: TransformersModule, given: dict[str, Any], rows: list[torch.Tensor], recorder: SiglipRecorder | None
    ) -> list[Visual]:
        del recorder
        chunks, grids, first = _chunks(base, given), [], 0
        for row in (row for row in rows if row.numel()):
            height, width = chunks[first]
            frames = row.numel() // (height * width)
            if chunks[first : first + frames] != [(height, width)] * frames:
                raise InputError("Kimi is told no videos, only chunks of frames: give one video of one size a row.")
            grids.append(video(TokenGrid(frames, height, width)))
            first += frames
        return grids


def _chunks(base: TransformersModule, given: dict[str, Any]) -> list[tuple[int, int]]:
    """Rows and columns of tokens of every chunk."""
    rows, columns = base.vision_tower.merge_kernel_size
    return [(height // rows, width // columns) for _, height, width in given["video_grid_thw"].tolist()]
