"""LLaVA-NeXT-Video: a pooled square of tokens a frame, nothing between them."""

from __future__ import annotations

from typing import Any, ClassVar

from st_simdiff.models.families.grids import GridsFamily
from st_simdiff.models.transformers_api import TransformersModule
from st_simdiff.selection.grid import TokenGrid


class LlavaNextVideoFamily(GridsFamily):
    """Videos come as (videos, frames, channels, height, width), all with the same number of frames."""

    name: ClassVar[str] = "LLaVA-NeXT-Video"
    checkpoints: ClassVar[str] = "LLaVA-NeXT-Video"
    model_types: ClassVar[frozenset[str]] = frozenset({"llava_next_video"})

    def grids(self, base: TransformersModule, given: dict[str, Any]) -> list[TokenGrid]:
        pixels = given["pixel_values_videos" if "pixel_values_videos" in given else "pixel_values"]  # up to 5.17
        videos, frames, _, height, width = pixels.shape
        patch, stride = base.config.vision_config.patch_size, base.config.spatial_pool_stride
        return [TokenGrid(frames, height // patch // stride, width // patch // stride)] * videos
