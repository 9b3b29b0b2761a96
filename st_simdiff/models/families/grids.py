"""Models whose inputs give the grid of every video."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

import torch

from st_simdiff.models.families.placeholders import Visual, video
from st_simdiff.models.families.transformers_family import TransformersFamily
from st_simdiff.models.transformers_api import TransformersModule
from st_simdiff.models.vision import SiglipRecorder
from st_simdiff.selection.grid import TokenGrid


class GridsFamily(TransformersFamily):
    """Every video is one grid of tokens, known without the prompt and the vision tower's record."""

    @abstractmethod
    def grids(self, base: TransformersModule, given: dict[str, Any]) -> list[TokenGrid]:
        """The grids of the videos that the encoder method was `given`, in their order."""

    def encoded_tokens(self, base: TransformersModule, given: dict[str, Any]) -> int:
        return sum(grid.count for grid in self.grids(base, given))

    def visuals(
        self, base: TransformersModule, given: dict[str, Any], rows: list[torch.Tensor], recorder: SiglipRecorder | None
    ) -> list[Visual]:
        del rows, recorder
        return [video(grid) for grid in self.grids(base, given)]
