"""Videos whose features are known: so many of the tokens are candidates, whatever the random weights make of pixels."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch

from st_simdiff.checkpoints.llava_video.modeling import LlavaVideo
from st_simdiff.selection.grid import TokenGrid
from st_simdiff.selection.select import select


@dataclass(frozen=True)
class PlantedVideo:
    """pixels: (T, 3, S, S), noise. tokens: (T, H, W, D), what leaves projector and pooling instead of their result.

    candidates: the share of all tokens, newlines included, that ST-SimDiff lets in at retention 0.3.
    """

    pixels: torch.Tensor
    tokens: torch.Tensor
    candidates: float


@torch.no_grad()
def plant(
    model: LlavaVideo, frames: int, *, candidates: float = 0.6, retention: float = 0.3, seed: int = 0
) -> PlantedVideo:
    """A still picture of four regions in which single tokens are different in every frame.

    How many, is searched for: the share of candidates at `retention` comes as near to `candidates` as it can.
    """
    generator = torch.Generator(model.device).manual_seed(seed)
    config, options = model.config, {"generator": generator, "device": model.device, "dtype": model.dtype}
    size = config.vision.image_size
    pixels = torch.randn(frames, 3, size, size, **options)
    side = model.pool(pixels.new_zeros(1, config.patches_per_side**2, 1)).shape[1]
    hidden = config.text.hidden_size
    half = torch.arange(side, device=model.device) * 2 // side
    still = torch.randn(4, hidden, **options)[half[:, None] * 2 + half]
    other = torch.randn(frames, side, side, hidden, **options)
    place = torch.rand(frames, side, side, generator=generator, device=model.device)

    def video(share: float) -> torch.Tensor:
        return torch.where((place < share).unsqueeze(-1), other, still + 0.2 * other)

    def entering(tokens: torch.Tensor) -> float:
        grid = TokenGrid(frames, side, side, "row")
        return select(model.add_newlines(tokens), grid, retention).candidate.float().mean().item()

    low, high = 0.0, 1.0
    for _ in range(10):
        middle = (low + high) / 2
        low, high = (middle, high) if entering(video(middle)) < candidates else (low, middle)
    tokens = video(high)
    return PlantedVideo(pixels, tokens, entering(tokens))


@contextmanager
def planted(model: LlavaVideo, videos: list[PlantedVideo]) -> Iterator[None]:
    """Inside, the model encodes pixels as ever, then goes on with the planted tokens of the same video instead.

    Nothing is copied, so that time and memory are those of the model. Videos are told apart by their pixels' address.
    """
    tokens = {video.pixels.data_ptr(): video.tokens for video in videos}
    encode = model.embedder.encode

    def encode_and_replace(pixel_values: torch.Tensor, frames_per_chunk: int | None = None) -> torch.Tensor:
        encode(pixel_values, frames_per_chunk)
        return tokens[pixel_values.data_ptr()]

    model.embedder.encode = encode_and_replace
    try:
        yield
    finally:
        del model.embedder.encode
