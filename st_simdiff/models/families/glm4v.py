"""GLM-4.1V, 4.5V and 4.6V: a video's frames are images between its begin and end, a timestamp behind every one."""

from __future__ import annotations

from typing import ClassVar

from st_simdiff.models.families.qwen2_vl import Qwen2VLFamily


class Glm4vFamily(Qwen2VLFamily):
    """transformers itself takes images or videos in a prompt, not both: their placeholders are the same."""

    name: ClassVar[str] = "GLM-V"
    checkpoints: ClassVar[str] = "GLM-4.1V, GLM-4.5V, GLM-4.6V"
    layers: ClassVar[str] = "full; MoE in 4.5V"
    note: ClassVar[str] = "images beside a video: not in transformers either"
    model_types: ClassVar[frozenset[str]] = frozenset({"glm4v", "glm46v", "glm4v_moe"})
    placeholder: ClassVar[str] = "image"
    mismatch: ClassVar[str] = "Images beside a video have the same placeholders: transformers does not take both."
