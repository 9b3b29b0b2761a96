"""NVILA as this project's `nvila` package builds it: LLaVA-Video's embedder, with frames that may be averaged."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from st_simdiff.models.families.llava_video import LlavaVideoFamily
from st_simdiff.models.transformers_api import TransformersModule

if TYPE_CHECKING:
    pass


class NvilaFamily(LlavaVideoFamily):
    """A frame of visual tokens stands for one frame, or for the eight whose mean it is."""

    name: ClassVar[str] = "NVILA"
    checkpoints: ClassVar[str] = "NVILA-8B-Video"

    def matches(self, model: TransformersModule) -> bool:
        return type(model).__module__ == "st_simdiff.checkpoints.nvila.modeling" and type(model).__name__ == "Nvila"

    def frames_per_step(self, model: TransformersModule) -> int:
        return model.frames_per_step
