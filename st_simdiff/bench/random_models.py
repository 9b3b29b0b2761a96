"""LLaVA-Video models with random weights: the published architecture, and one that a CPU can run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch

from st_simdiff.checkpoints.llava_video.config import LlavaVideoConfig
from st_simdiff.checkpoints.llava_video.modeling import LlavaVideo
from st_simdiff.checkpoints.llava_video.tiny import random_config
from st_simdiff.errors import unknown
from st_simdiff.vocabulary import QWEN2_7B, QWEN2_VOCABULARY, SIGLIP


def published_config() -> LlavaVideoConfig:
    """LLaVA-Video-7B: SigLIP so400m of 27 layers, the last not used, and Qwen2-7B; 210 tokens a frame."""
    return _config(
        text=(*QWEN2_7B.values(), QWEN2_VOCABULARY),
        vision=(*SIGLIP.values(), 384),
    )


def scaled_config() -> LlavaVideoConfig:
    """A model whose FLOPs are shared out as in LLaVA-Video-7B at 128 frames, for one CPU core; 30 tokens a frame.

    There encoding takes 15 % of the FLOPs, causal attention 25 % and the decoder's matrices 60 %: here 13, 25 and 62 %.
    """
    return _config(
        text=(12, 512, 2688, 8, 2, 8192),
        vision=(5, 256, 960, 4, 140),
    )


def smallest_config() -> LlavaVideoConfig:
    """For tests of the benchmark itself; 6 tokens a frame."""
    return _config(text=(4, 32, 64, 4, 2, 96), vision=(3, 16, 32, 2, 56))


@dataclass(frozen=True)
class RandomModel:
    """name: as the command line calls it. title: as a table does."""

    name: str
    title: str
    config: Callable[[], LlavaVideoConfig]


RANDOM_MODELS = {
    model.name: model
    for model in (
        RandomModel("7b", "LLaVA-Video-7B, random weights", published_config),
        RandomModel("scaled", "LLaVA-Video scaled down for one CPU core, random weights", scaled_config),
        RandomModel("smallest", "LLaVA-Video for tests, random weights", smallest_config),
    )
}


def build(name: str, device: torch.device, dtype: torch.dtype, frames_per_chunk: int = 16) -> LlavaVideo:
    """The model called `name`, made on the device itself; on "meta" its sizes alone. Raises `InputError` for others."""
    if name not in RANDOM_MODELS:
        raise unknown("model", name, RANDOM_MODELS)
    config = RANDOM_MODELS[name].config()
    usual = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        with torch.device(device):
            model = LlavaVideo(config, frames_per_chunk=frames_per_chunk)
    finally:
        torch.set_default_dtype(usual)
    if device.type == "meta":
        return model.eval()
    generator = torch.Generator(device).manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.normal_(0, parameter[0].numel() ** -0.5, generator=generator)
    return model.eval()


def _config(text: tuple[int, ...], vision: tuple[int, ...]) -> LlavaVideoConfig:
    """text: layers, hidden, intermediate, heads, KV heads, vocabulary. vision: ..., heads, image size."""
    layers, hidden, intermediate, heads, kv_heads, vocabulary = text
    vision_layers, vision_hidden, vision_intermediate, vision_heads, image_size = vision
    return random_config(
        vocabulary,
        layers=layers,
        hidden=hidden,
        intermediate=intermediate,
        heads=heads,
        kv_heads=kv_heads,
        max_length=1 << 17,
        vision_layers=vision_layers,
        vision_hidden=vision_hidden,
        vision_intermediate=vision_intermediate,
        vision_heads=vision_heads,
        image_size=image_size,
    )
