"""Qwen3-VL: grids as in Qwen2-VL, with a timestamp in text before every frame.

A video's tokens are therefore not contiguous; the timestamps stay. The features that the decoder adds to visual tokens
after its first layers (deepstack) follow the kept tokens: see `models/deepstack.py`.
"""

from __future__ import annotations

from typing import ClassVar

from st_simdiff.models.families.qwen2_vl import Qwen2VLFamily


class Qwen3VLFamily(Qwen2VLFamily):
    name: ClassVar[str] = "Qwen3-VL"
    checkpoints: ClassVar[str] = "Qwen3-VL; dense and MoE"
    layers: ClassVar[str] = "full; MoE"
    model_types: ClassVar[frozenset[str]] = frozenset({"qwen3_vl", "qwen3_vl_moe"})
    decoder_arguments: ClassVar[frozenset[str]] = frozenset({"deepstack_visual_embeds", "visual_pos_masks"})
