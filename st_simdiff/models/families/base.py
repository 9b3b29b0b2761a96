"""What a model family has to say for compression: where its decoder is, and where its video tokens are."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar, Protocol

import torch
from torch import nn

from st_simdiff.errors import InputError
from st_simdiff.methods.base import VisionInput, VisionRecord
from st_simdiff.selection.grid import TokenGrid

ImagesAsFrames = bool | Sequence[int]
"""False; True: all images of a row are the frames of one video; or the sizes of groups of consecutive images."""


@dataclass(frozen=True)
class VideoTokens:
    """The visual tokens of one video in a prompt.

    positions: int64 (N,), ascending, in its row of the batch as the decoder sees it, padding included.
    first, last: positions[0] and positions[-1], as numbers.
    """

    grid: TokenGrid
    positions: torch.Tensor
    first: int
    last: int
    vision: VisionRecord | None = None

    @property
    def contiguous(self) -> bool:
        """Whether nothing stands between the tokens, which saves a copy of the features."""
        return self.last - self.first + 1 == self.grid.count


Report = Callable[[list[list[VideoTokens]]], None]
"""Called once a prompt, before the decoder sees it, with the videos of every row of the batch."""


class Removable(Protocol):
    def remove(self) -> None: ...


class Family(ABC):
    """One model family. Adding one: a file with such a class, and a line in `families/__init__.py`."""

    name: ClassVar[str]
    decoder_arguments: ClassVar[frozenset[str]] = frozenset()
    """What the decoder takes beside embeddings, mask, positions and cache, and hooks must follow."""

    @abstractmethod
    def matches(self, model: nn.Module) -> bool:
        """Whether `model` is of this family."""

    @abstractmethod
    def text_model(self, model: nn.Module) -> nn.Module:
        """The decoder: has `layers`, `config` and `rotary_emb`, and takes `inputs_embeds`."""

    def head(self, model: nn.Module) -> nn.Module:
        """The module around the decoder whose forward takes `logits_to_keep`."""
        return model

    @abstractmethod
    def watch(self, model: nn.Module, report: Report, vision_inputs: frozenset[VisionInput]) -> list[Removable]:
        """Starts reporting the videos of every prompt, with what the vision tower is asked to record.

        Raises `InputError` if the family cannot record one of `vision_inputs`.
        """

    def with_images_as_frames(self, images_as_frames: ImagesAsFrames) -> Family:
        """This family, told which images are frames of a video. Raises `InputError` where videos need no telling."""
        if images_as_frames is not False:
            raise InputError(
                f"images_as_frames is for families that see a video as single images; {self.name} is told its videos."
            )
        return self
