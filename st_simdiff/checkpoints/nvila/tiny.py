"""A small NVILA checkpoint with random weights, in the published layout: for tests, and where none is at hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import (
    PreTrainedTokenizerBase,
    Qwen2Config,
    Qwen2ForCausalLM,
    SiglipVisionConfig,
    SiglipVisionModel,
)

from st_simdiff.checkpoints.llava_video.image_processing import build_image_processor
from st_simdiff.checkpoints.llava_video.tiny import byte_tokenizer
from st_simdiff.checkpoints.nvila.config import DEFAULT_POOL_FRAMES, PROJECTOR_TYPE, VideoPath
from st_simdiff.checkpoints.nvila.projector import build_projector

_ENCODER_NAMES = {"tsp": "llava.model.encoders.TSPVideoEncoder", "frames": "llava.model.encoders.BasicVideoEncoder"}


def write_tiny_checkpoint(
    path: str | Path,
    *,
    seed: int = 0,
    dtype: torch.dtype = torch.float32,
    tokenizer: PreTrainedTokenizerBase | None = None,
    video: VideoPath = "tsp",
    num_video_frames: int = 64,
    hidden: int = 64,
    layers: int = 4,
    vision_hidden: int = 32,
    vision_layers: int = 4,
    image_size: int = 56,
    patch_size: int = 14,
) -> Path:
    """Write a random checkpoint into the folder `path`: the same weights for the same arguments. Returns the folder.

    tokenizer: else one token a byte. By default a frame has 4 x 4 patches and becomes 2 x 2 visual tokens.
    """
    folder = Path(path)
    tokenizer = tokenizer if tokenizer is not None else byte_tokenizer()
    text = Qwen2Config(
        vocab_size=len(tokenizer),
        hidden_size=hidden,
        intermediate_size=2 * hidden,
        num_hidden_layers=layers,
        num_attention_heads=4,
        num_key_value_heads=2,
        tie_word_embeddings=False,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
    )
    vision = SiglipVisionConfig(
        hidden_size=vision_hidden,
        intermediate_size=2 * vision_hidden,
        num_hidden_layers=vision_layers,
        num_attention_heads=4,
        image_size=image_size,
        patch_size=patch_size,
    )
    projector = nn.ModuleDict({"layers": build_projector(vision_hidden, hidden)})
    parts = {"llm": Qwen2ForCausalLM(text), "vision_tower": SiglipVisionModel(vision), "mm_projector": projector}
    for number, part in enumerate(parts.values()):
        _randomize(part, seed + number)
        part.to(dtype)
    for name in ("llm", "vision_tower"):
        parts[name].save_pretrained(folder / name)
    _restore_official_names(folder / "vision_tower" / "model.safetensors")
    tokenizer.save_pretrained(folder / "llm")
    build_image_processor(vision).save_pretrained(folder / "vision_tower")
    (folder / "mm_projector").mkdir(exist_ok=True)
    save_file(projector.state_dict(), folder / "mm_projector" / "model.safetensors", metadata={"format": "pt"})
    _write_json(
        folder / "mm_projector" / "config.json", {"mm_projector_type": PROJECTOR_TYPE, "model_type": "v2l_projector"}
    )
    encoder: dict[str, Any] = {"_target_": _ENCODER_NAMES[video]}
    if video == "tsp":
        encoder["pool_sizes"] = [[DEFAULT_POOL_FRAMES, 1, 1]]
    root = {
        "architectures": ["LlavaLlamaModel"],
        "model_type": "llava_llama",
        "llm_cfg": text.to_diff_dict(),
        "vision_tower_cfg": vision.to_diff_dict(),
        "mm_projector_cfg": {"mm_projector_type": PROJECTOR_TYPE},
        "mm_vision_select_layer": -2,
        "mm_vision_select_feature": "cls_patch",
        "image_aspect_ratio": "resize",
        "num_video_frames": num_video_frames,
        "video_encoder": json.dumps(encoder),
    }
    _write_json(folder / "config.json", root)
    return folder


def _restore_official_names(file: Path) -> None:
    """The published towers name their weights vision_model.*; newer transformers leaves that out."""
    weights = {f"vision_model.{name.removeprefix('vision_model.')}": value for name, value in load_file(file).items()}
    save_file(weights, file, metadata={"format": "pt"})


def _randomize(part: nn.Module, seed: int) -> None:
    """Weights that keep the signal's size, so that tokens differ and attention is not uniform."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in sorted(part.named_parameters()):
            noise = torch.randn(parameter.shape, generator=generator)
            if parameter.dim() == 1:
                is_gain = "norm" in name or name == "layers.1.weight"
                parameter.copy_(float(is_gain and name.endswith("weight")) + 0.02 * noise)
            elif name.endswith(("embed_tokens.weight", "position_embedding.weight")):
                parameter.copy_(0.5 * noise)
            else:
                parameter.copy_(noise * parameter[0].numel() ** -0.5)


def _write_json(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2, sort_keys=True) + "\n", encoding="utf-8")
