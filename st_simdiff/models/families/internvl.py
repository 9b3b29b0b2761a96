"""InternVL: the model sees a video as single images, so the caller has to say that they are frames."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch

from st_simdiff.errors import InputError
from st_simdiff.models.families.base import ImagesAsFrames
from st_simdiff.models.families.placeholders import Visual, video
from st_simdiff.models.families.transformers_family import TransformersFamily
from st_simdiff.models.transformers_api import TransformersModule
from st_simdiff.models.vision import SiglipRecorder
from st_simdiff.selection.grid import TokenGrid


@dataclass(frozen=True)
class InternVLFamily(TransformersFamily):
    """Every image, or tile of one, is a square of tokens.

    images_as_frames: True, all images of a row are the frames of one video; or the sizes of groups of consecutive
    images, through all rows of the batch: a group of one passes as an image, a larger one is a video.
    """

    images_as_frames: ImagesAsFrames = True

    name: ClassVar[str] = "InternVL"
    model_types: ClassVar[frozenset[str]] = frozenset({"internvl"})
    modality: ClassVar[str] = "image"

    def with_images_as_frames(self, images_as_frames: ImagesAsFrames) -> InternVLFamily:
        if images_as_frames is False:
            raise InputError(
                "InternVL sees a video as single images: say that they are frames with "
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
        return len(given["pixel_values"]) * math.prod(_frame(base, given))

    def visuals(
        self, base: TransformersModule, given: dict[str, Any], rows: list[torch.Tensor], recorder: SiglipRecorder | None
    ) -> list[Visual]:
        del recorder
        height, width = _frame(base, given)
        if self.images_as_frames is True:
            return [video(TokenGrid(row.numel() // (height * width), height, width)) for row in rows if row.numel()]
        images, groups = len(given["pixel_values"]), self.images_as_frames or ()
        if sum(groups) != images:
            raise InputError(f"images_as_frames adds up to {sum(groups)} images, but the prompt has {images}.")
        return [video(TokenGrid(n, height, width)) if n > 1 else Visual(height * width) for n in groups]


def _frame(base: TransformersModule, given: dict[str, Any]) -> tuple[int, int]:
    """Rows and columns of tokens of one image."""
    patch = base.config.vision_config.patch_size
    height, width = given["pixel_values"].shape[-2:]
    ratio = base.config.downsample_ratio
    return int(height // patch[0] * ratio), int(width // patch[1] * ratio)
