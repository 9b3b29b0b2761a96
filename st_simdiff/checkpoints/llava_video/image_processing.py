"""Frames -> pixels, exactly as the reference: PIL's bicubic resize straight to the tower's square, then [-1, 1]."""

from __future__ import annotations

from transformers import SiglipImageProcessorPil, SiglipVisionConfig


def build_image_processor(vision: SiglipVisionConfig) -> SiglipImageProcessorPil:
    """The processor of a tower. `preprocess(frames, return_tensors="pt")["pixel_values"]` is float32 (T, 3, S, S).

    frames: uint8 RGB (T, H, W, 3) or a list of images. transformers' default processor resizes with torchvision, which
    differs by one level on some pixels.
    """
    side = vision.image_size
    return SiglipImageProcessorPil(
        size={"height": side, "width": side}, image_mean=[0.5, 0.5, 0.5], image_std=[0.5, 0.5, 0.5]
    )
