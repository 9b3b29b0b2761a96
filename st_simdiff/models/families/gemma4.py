"""Gemma 4: frames of pooled patches, a timestamp in text before every one; the base model makes the masks."""

from __future__ import annotations

from typing import Any, ClassVar

import torch

from st_simdiff.models.families.grids import GridsFamily
from st_simdiff.models.transformers_api import TransformersModule, unknown_version
from st_simdiff.selection.grid import TokenGrid


class Gemma4Family(GridsFamily):
    """The E models have features for every layer and share keys, the large ones see a frame whole in sliding layers."""

    name: ClassVar[str] = "Gemma 4"
    checkpoints: ClassVar[str] = "Gemma 4 E2B, E4B, 26B-A4B, 31B"
    layers: ClassVar[str] = "5 sliding : 1 full (E2B: 4 : 1); MoE in 26B-A4B"
    full_every: ClassVar[tuple[int, ...]] = (6, 5)
    since: ClassVar[str] = "5.23"
    note: ClassVar[str] = "E models: methods that act after the layers whose keys later ones share are refused"
    model_types: ClassVar[frozenset[str]] = frozenset({"gemma4"})
    decoder_arguments: ClassVar[frozenset[str]] = frozenset({"per_layer_inputs"})

    def grids(self, base: TransformersModule, given: dict[str, Any]) -> list[TokenGrid]:
        counts = given.get("num_frames_per_video")
        if counts is None:
            raise unknown_version("its videos come without num_frames_per_video")
        side, first, grids = base.config.vision_config.pooling_kernel_size, 0, []
        sizes = (given["video_position_ids"].amax(1) + 1).tolist()  # columns and rows of patches; padding is -1
        for count in counts.tolist():
            width, height = sizes[first]
            grids.append(TokenGrid(count, height // side, width // side))
            first += count
        return grids

    def blocks(self, base: TransformersModule, given: dict[str, Any]) -> torch.Tensor | None:
        types = given.get("mm_token_type_ids")
        if types is None or getattr(base.config.text_config, "use_bidirectional_attention", None) != "vision":
            return None
        visual = (types == 1) | (types == 2)
        before = visual.roll(1, -1)
        before[..., 0] = False
        return ((visual & ~before).cumsum(1) - 1).masked_fill(~visual, -1)
