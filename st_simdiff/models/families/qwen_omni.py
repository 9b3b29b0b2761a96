"""The thinkers of Qwen2.5-Omni and Qwen3-Omni: grids as in Qwen2-VL.

Audio is no part of a video: its tokens pass, as text does, also between those of a video."""

from __future__ import annotations

from typing import ClassVar

from st_simdiff.models.families.qwen2_vl import Qwen2VLFamily
from st_simdiff.models.transformers_api import TransformersModule


class Qwen25OmniFamily(Qwen2VLFamily):
    """Up to transformers 5.17 the thinker itself encodes, and its base model is the decoder."""

    name: ClassVar[str] = "Qwen2.5-Omni"
    checkpoints: ClassVar[str] = "Qwen2.5-Omni (the thinker)"
    note: ClassVar[str] = "audio between a video's tokens (`use_audio_in_video`) stays as it is"
    model_types: ClassVar[frozenset[str]] = frozenset({"qwen2_5_omni_thinker"})

    def base(self, model: TransformersModule) -> TransformersModule:
        return model.base_model if hasattr(model.base_model, self.decoder) else model

    def matches(self, model: TransformersModule) -> bool:
        return getattr(getattr(model, "config", None), "model_type", None) in self.model_types

    def text_model(self, model: TransformersModule) -> TransformersModule:
        return getattr(self.base(model), self.decoder, None) or model.model


class Qwen3OmniFamily(Qwen25OmniFamily):
    """With deepstack features, as in Qwen3-VL."""

    name: ClassVar[str] = "Qwen3-Omni"
    checkpoints: ClassVar[str] = "Qwen3-Omni (the thinker)"
    layers: ClassVar[str] = "full, MoE"
    model_types: ClassVar[frozenset[str]] = frozenset({"qwen3_omni_moe_thinker"})
    decoder_arguments: ClassVar[frozenset[str]] = frozenset({"deepstack_visual_embeds", "visual_pos_masks"})
