"""InternVL: the model sees a video as single images, so the caller has to say that they are frames."""

from __future__ import annotations

from typing import Any, ClassVar

from st_simdiff.models.families.frames import FramesFamily
from st_simdiff.models.transformers_api import TransformersModule


class InternVLFamily(FramesFamily):
    """Every image, or tile of one, is a square of tokens."""

    name: ClassVar[str] = "InternVL"
    checkpoints: ClassVar[str] = "InternVL 3, 3.5 (the -HF checkpoints)"
    model_types: ClassVar[frozenset[str]] = frozenset({"internvl"})

    def images(self, base: TransformersModule, given: dict[str, Any]) -> tuple[int, int, int]:
        patch, ratio = base.config.vision_config.patch_size, base.config.downsample_ratio
        height, width = given["pixel_values"].shape[-2:]
        return len(given["pixel_values"]), int(height // patch[0] * ratio), int(width // patch[1] * ratio)
