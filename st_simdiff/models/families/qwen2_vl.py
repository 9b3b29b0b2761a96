"""Qwen2-VL: video_grid_thw gives every video's grid, and the tokens of a video are contiguous."""

from __future__ import annotations

from typing import Any, ClassVar

from st_simdiff.models.families.grids import GridsFamily
from st_simdiff.models.transformers_api import TransformersModule
from st_simdiff.selection.grid import TokenGrid


class Qwen2VLFamily(GridsFamily):
    """The grid counts patches of the vision tower; a visual token merges a square of them."""

    name: ClassVar[str] = "Qwen2-VL"
    checkpoints: ClassVar[str] = "Qwen2-VL"
    model_types: ClassVar[frozenset[str]] = frozenset({"qwen2_vl"})

    def grids(self, base: TransformersModule, given: dict[str, Any]) -> list[TokenGrid]:
        merge = base.config.vision_config.spatial_merge_size
        return [TokenGrid(t, h // merge, w // merge) for t, h, w in given["video_grid_thw"].tolist()]
