"""LLaVA-OneVision: a pooled square of tokens a frame, and one newline token at the end of every video."""

from __future__ import annotations

from typing import Any, ClassVar

import torch

from st_simdiff.errors import InputError
from st_simdiff.methods.base import VisionInput, VisionRecord
from st_simdiff.models.families.placeholders import Visual, video
from st_simdiff.models.families.transformers_family import TransformersFamily
from st_simdiff.models.transformers_api import TransformersModule
from st_simdiff.models.vision import SiglipRecorder
from st_simdiff.selection.grid import TokenGrid


class LlavaOnevisionFamily(TransformersFamily):
    """Videos come as (videos, frames, channels, height, width), all with the same number of frames."""

    name: ClassVar[str] = "LLaVA-OneVision"
    checkpoints: ClassVar[str] = "LLaVA-OneVision (the -hf checkpoints)"
    records: ClassVar[frozenset[VisionInput]] = frozenset({"attention", "keys"})
    model_types: ClassVar[frozenset[str]] = frozenset({"llava_onevision"})

    def encoded_tokens(self, base: TransformersModule, given: dict[str, Any]) -> int:
        return len(_frames(given)) * _grid(base, given).count

    def visuals(
        self, base: TransformersModule, given: dict[str, Any], rows: list[torch.Tensor], recorder: SiglipRecorder | None
    ) -> list[Visual]:
        del rows
        grid, count = _grid(base, given), len(_frames(given))
        if recorder is None:
            return [video(grid)] * count
        record = recorder.take()
        frames = [record.frames(i * grid.frames, (i + 1) * grid.frames) for i in range(count)]
        return [
            video(grid, VisionRecord(_pooled(base, own.attention), _pooled(base, own.keys), own.pooled))
            for own in frames
        ]

    def recorder(self, model: TransformersModule, vision_inputs: frozenset[VisionInput]) -> SiglipRecorder:
        base = model.base_model
        kind, layer = base.config.vision_config.model_type, base.config.vision_feature_layer
        if kind != "siglip_vision_model" or not isinstance(layer, int):
            raise InputError(
                f"The vision tower's {' and '.join(sorted(vision_inputs))} can be recorded in a SigLIP tower with one "
                f"feature layer, this model has {kind} and layer {layer}."
            )
        layers = base.vision_tower.encoder.layers
        # hidden_states[0] are the embeddings, hidden_states[i] the output of layer i - 1
        index = layer - 1 if layer >= 0 else layer
        head = getattr(base.vision_tower, "head", None)
        return SiglipRecorder(layers[index].self_attn, head=head)


def _grid(base: TransformersModule, given: dict[str, Any]) -> TokenGrid:
    vision = base.config.vision_config
    side = -(-(vision.image_size // vision.patch_size) // 2)
    return TokenGrid(_frames(given).shape[1], side, side, "end")


def _frames(given: dict[str, Any]) -> torch.Tensor:
    """(videos, frames, channels, height, width); named `pixel_values` in older transformers."""
    return given["pixel_values_videos" if "pixel_values_videos" in given else "pixel_values"]


def _pooled(base: TransformersModule, values: torch.Tensor | None) -> torch.Tensor | None:
    """(T, n, d) per patch of the tower -> (T*H*W, d) per visual token, or (T*H*W,) if d is 1."""
    return None if values is None else base.apply_pooling(values).flatten(0, 1).squeeze(-1)
