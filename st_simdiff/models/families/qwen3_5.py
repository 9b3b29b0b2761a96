"""Qwen3.5 and 3.6: three of four layers are Gated DeltaNets; grids and timestamps as in Qwen3-VL, no deepstack."""

from __future__ import annotations

from typing import ClassVar

from st_simdiff.models.families.qwen2_vl import Qwen2VLFamily


class Qwen35Family(Qwen2VLFamily):
    name: ClassVar[str] = "Qwen3.5"
    checkpoints: ClassVar[str] = "Qwen3.5, Qwen3.6; dense and MoE"
    layers: ClassVar[str] = "3 linear (Gated DeltaNet) : 1 full; MoE"
    full_every: ClassVar[tuple[int, ...]] = (4,)
    model_types: ClassVar[frozenset[str]] = frozenset({"qwen3_5", "qwen3_5_moe"})
