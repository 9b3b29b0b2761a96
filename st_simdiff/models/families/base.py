"""What a model family has to say for compression: where its decoder is, and where its video tokens are."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import nn

from st_simdiff.methods.base import VisionInput, VisionRecord
from st_simdiff.selection.grid import TokenGrid


@dataclass(frozen=True)
class VideoTokens:
    """The visual tokens of one video in a prompt.

    positions: int64 (N,), ascending, in its row of the batch as the decoder sees it, padding included.
    start: the first position if they are contiguous, which saves a copy of the features; else None.
    """

    grid: TokenGrid
    positions: torch.Tensor
    start: int | None = None
    vision: VisionRecord | None = None


Report = Callable[[list[list[VideoTokens]]], None]
"""Called once a prompt, before the decoder sees it, with the videos of every row of the batch."""


class Removable(Protocol):
    def remove(self) -> None: ...


class Family(Protocol):
    """One model family. Adding one: a file with such a class, and a line in `families/__init__.py`."""

    name: str

    def matches(self, model: nn.Module) -> bool:
        """Whether `model` is of this family."""
        ...

    def text_model(self, model: nn.Module) -> nn.Module:
        """The decoder: has `layers`, `config` and `rotary_emb`, and takes `inputs_embeds`."""
        ...

    def watch(self, model: nn.Module, report: Report, vision_inputs: frozenset[VisionInput]) -> list[Removable]:
        """Starts reporting the videos of every prompt, with what the vision tower is asked to record.

        Raises `InputError` if the family cannot record one of `vision_inputs`.
        """
        ...
