"""Qwen2.5-VL: placed like Qwen2-VL; its tower's windows and its timing change nothing for the decoder's tokens."""

from __future__ import annotations

from typing import ClassVar

from st_simdiff.models.families.qwen2_vl import Qwen2VLFamily


class Qwen25VLFamily(Qwen2VLFamily):
    name: ClassVar[str] = "Qwen2.5-VL"
    checkpoints: ClassVar[str] = "Qwen2.5-VL"
    model_types: ClassVar[frozenset[str]] = frozenset({"qwen2_5_vl"})
