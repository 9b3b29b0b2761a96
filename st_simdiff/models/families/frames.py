"""Models that see a video as single images: the caller has to say which images are frames."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self

import torch

from st_simdiff.errors import InputError
from st_simdiff.models.families.base import ImagesAsFrames
from st_simdiff.models.families.placeholders import Visual, video
from st_simdiff.models.families.transformers_family import TransformersFamily
from st_simdiff.models.transformers_api import TransformersModule
from st_simdiff.models.vision import SiglipRecorder
from st_simdiff.selection.grid import TokenGrid


@dataclass(frozen=True)
class FramesFamily(TransformersFamily):
    """Every image becomes a grid of tokens, all of one size.

    images_as_frames: True, all images of a row are the frames of one video; or the sizes of groups of consecutive
    images, through all rows of the batch: a group of one passes as an image, a larger one is a video.
    """

    images_as_frames: ImagesAsFrames = True

    modality: ClassVar[str] = "image"
    note: ClassVar[str] = "sees a video as images: `compress(..., images_as_frames=True)`"

    @abstractmethod
    def images(self, base: TransformersModule, given: dict[str, Any]) -> tuple[int, int, int]:
        """How many images the encoder method was `given`, and rows and columns of tokens of each."""

    def with_images_as_frames(self, images_as_frames: ImagesAsFrames) -> Self:
        if images_as_frames is False:
            raise InputError(
                f"{self.name} sees a video as single images: say that they are frames with "
                "compress(model, method, images_as_frames=True), or give the sizes of groups of consecutive images."
            )
        if images_as_frames is not True:
            images_as_frames = tuple(images_as_frames)
            if not images_as_frames or any(type(size) is not int or size < 1 for size in images_as_frames):
                raise InputError(
                    f"images_as_frames is True or the sizes of groups of images (at least 1), got {images_as_frames}."
                )
        return replace(self, images_as_frames=images_as_frames)

    def encoded_tokens(self, base: TransformersModule, given: dict[str, Any]) -> int:
        count, height, width = self.images(base, given)
        return count * height * width

    def visuals(
        self, base: TransformersModule, given: dict[str, Any], rows: list[torch.Tensor], recorder: SiglipRecorder | None
    ) -> list[Visual]:
        del recorder
        count, height, width = self.images(base, given)
        if self.images_as_frames is True:
            return [video(TokenGrid(row.numel() // (height * width), height, width)) for row in rows if row.numel()]
        groups = self.images_as_frames or ()
        if sum(groups) != count:
            raise InputError(f"images_as_frames adds up to {sum(groups)} images, but the prompt has {count}.")
        return [video(TokenGrid(n, height, width)) if n > 1 else Visual(height * width) for n in groups]
