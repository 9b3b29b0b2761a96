"""VideoLLaMA3: a grid for every video, merged as its processor says; a timestamp in text before every frame."""

from __future__ import annotations

from typing import Any, ClassVar

from st_simdiff.models.families.grids import GridsFamily
from st_simdiff.models.transformers_api import TransformersModule
from st_simdiff.selection.grid import TokenGrid


class VideoLlama3Family(GridsFamily):
    name: ClassVar[str] = "VideoLLaMA3"
    checkpoints: ClassVar[str] = "VideoLLaMA3"
    note: ClassVar[str] = "with `use_token_compression=False`: its processor's own dropping is refused"
    model_types: ClassVar[frozenset[str]] = frozenset({"video_llama_3"})
    mismatch: ClassVar[str] = "VideoLLaMA3's processor drops tokens itself unless it has use_token_compression=False."

    def grids(self, base: TransformersModule, given: dict[str, Any]) -> list[TokenGrid]:
        del base
        merged = zip(given["video_grid_thw"].tolist(), given["video_merge_sizes"].tolist(), strict=True)
        return [TokenGrid(t, h // merge, w // merge) for (t, h, w), merge in merged]
