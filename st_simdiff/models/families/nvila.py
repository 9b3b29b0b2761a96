"""NVILA as this project's `nvila` package builds it: LLaVA-Video's embedder, with frames that may be averaged."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from torch import nn

from st_simdiff.models.families.llava_video import LlavaVideoFamily

if TYPE_CHECKING:
    from st_simdiff.checkpoints.nvila.modeling import Nvila


class NvilaFamily(LlavaVideoFamily):
    """A frame of visual tokens stands for one frame, or for the eight whose mean it is."""

    name: ClassVar[str] = "NVILA"

    def matches(self, model: nn.Module) -> bool:
        return type(model).__module__ == "st_simdiff.checkpoints.nvila.modeling" and type(model).__name__ == "Nvila"

    def frames_per_step(self, model: Nvila) -> int:
        return model.frames_per_step
