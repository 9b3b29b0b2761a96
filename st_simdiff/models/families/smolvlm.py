"""SmolVLM: frames are images of a fixed number of tokens; rows of a batch are filled up with empty images."""

from __future__ import annotations

from typing import Any, ClassVar

from st_simdiff.models.families.frames import FramesFamily
from st_simdiff.models.transformers_api import TransformersModule


class SmolVLMFamily(FramesFamily):
    """Images of zeros alone are padding: the model does not encode them."""

    name: ClassVar[str] = "SmolVLM"
    checkpoints: ClassVar[str] = "SmolVLM2"
    model_types: ClassVar[frozenset[str]] = frozenset({"smolvlm"})
    decoder: ClassVar[str] = "text_model"

    def images(self, base: TransformersModule, given: dict[str, Any]) -> tuple[int, int, int]:
        vision, side = base.config.vision_config, base.config.scale_factor
        tokens = vision.image_size // vision.patch_size // side
        return int(given["pixel_values"].flatten(0, 1).flatten(1).any(1).sum()), tokens, tokens
