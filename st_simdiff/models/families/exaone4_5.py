"""EXAONE 4.5: grids as in Qwen2.5-VL, positions of one axis; the full layers have no rotary embedding."""

from __future__ import annotations

from typing import ClassVar

from st_simdiff.models.families.qwen2_vl import Qwen2VLFamily


class Exaone45Family(Qwen2VLFamily):
    name: ClassVar[str] = "EXAONE 4.5"
    checkpoints: ClassVar[str] = "EXAONE 4.5"
    layers: ClassVar[str] = "3 sliding : 1 full"
    full_every: ClassVar[tuple[int, ...]] = (4,)
    model_types: ClassVar[frozenset[str]] = frozenset({"exaone4_5"})
