"""The trained model as a checkpoint in the official LLaVA-Video layout."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from st_simdiff.checkpoints.llava_video.layout import POOL_STRIDE
from st_simdiff.synth.vocabulary import END, PAD, build_tokenizer, write_tokenizer
from studies.synthevents.model import TinyLlavaVideo

_TOWER = "model.vision_tower.vision_tower.vision_model."
# This module's names -> the official ones. The projector's layers are numbered 0 and 2 in both.
_PREFIXES = {
    "vision.tower.": _TOWER,
    "vision.projector.": "model.mm_projector.",
    "language.model.": "model.",
    "language.lm_head.": "lm_head.",
}


def official_state_dict(model: TinyLlavaVideo) -> dict[str, Tensor]:
    """The weights by their official names. The tower has all layers but the last, which no feature passes through."""
    weights = {}
    for name, value in model.state_dict().items():
        if name == "newline":
            weights["model.image_newline"] = value
            continue
        prefix = next(prefix for prefix in _PREFIXES if name.startswith(prefix))
        weights[_PREFIXES[prefix] + name.removeprefix(prefix)] = value
    return weights


def start_from(folder: Path, model: TinyLlavaVideo) -> dict[str, Tensor]:
    """The weights of a checkpoint that `export` wrote, by `model`'s names and in its shapes, float32: where the model's
    patches are smaller, its patch filters are the checkpoint's summed over blocks of pixels, and its positions lie
    between the checkpoint's (bilinear)."""
    from safetensors.torch import load_file

    weights = load_file(folder / "model.safetensors")
    names = dict(zip(official_state_dict(model), model.state_dict(), strict=True))
    shaped = {ours: weights[name].float() for name, ours in names.items()}
    embeddings = "vision.tower.embeddings."
    filters, places = (f"{embeddings}{name}.weight" for name in ("patch_embedding", "position_embedding"))
    factor = shaped[filters].shape[-1] // model.shape.patch
    if factor > 1:
        shaped[filters] = functional.avg_pool2d(shaped[filters], factor) * factor**2
        old = int(shaped[places].shape[0] ** 0.5)
        planes = shaped[places].T.unflatten(1, (old, old))[None]
        planes = functional.interpolate(planes, scale_factor=factor, mode="bilinear")
        shaped[places] = planes[0].flatten(1).T.contiguous()
    return shaped


def export(model: TinyLlavaVideo, folder: Path) -> None:
    """Write config.json, generation_config.json, the tokenizer and float16 weights into `folder`."""
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    write_tokenizer(folder)
    ids = build_tokenizer().convert_tokens_to_ids([PAD, END])
    _write_json(folder / "config.json", _config(model, *ids))
    _write_json(folder / "generation_config.json", {"do_sample": False, "eos_token_id": ids[1], "pad_token_id": ids[0]})
    halves = {name: value.detach().to(torch.float16).contiguous() for name, value in official_state_dict(model).items()}
    save_file(halves, folder / "model.safetensors", metadata={"format": "pt"})


def _config(model: TinyLlavaVideo, pad: int, end: int) -> dict[str, Any]:
    shape, language = model.shape, model.language.config
    tower = shape.tower_config()
    return {
        "architectures": ["LlavaQwenForCausalLM"],
        "model_type": "llava_qwen",
        "attention_dropout": 0.0,
        "bos_token_id": pad,
        "eos_token_id": end,
        "pad_token_id": pad,
        "hidden_act": "silu",
        "hidden_size": shape.hidden,
        "intermediate_size": shape.intermediate,
        "max_position_embeddings": language.max_position_embeddings,
        "num_attention_heads": shape.heads,
        "num_hidden_layers": shape.layers,
        "num_key_value_heads": shape.kv_heads,
        "rms_norm_eps": language.rms_norm_eps,
        "rope_theta": language.rope_parameters["rope_theta"],
        "rope_scaling": None,
        "sliding_window": None,
        "use_sliding_window": False,
        "tie_word_embeddings": False,
        "torch_dtype": "float16",
        "use_cache": True,
        "vocab_size": language.vocab_size,
        "tokenizer_model_max_length": language.max_position_embeddings,
        "tokenizer_padding_side": "right",
        "force_sample": True,
        "add_time_instruction": True,
        "image_aspect_ratio": "anyres_max_9",
        "image_grid_pinpoints": [[tower.image_size, tower.image_size]],
        "mm_hidden_size": shape.tower_hidden,
        "mm_newline_position": "grid",
        "mm_patch_merge_type": "spatial_unpad",
        "mm_projector_type": "mlp2x_gelu",
        "mm_resampler_type": None,
        "mm_spatial_pool_mode": "bilinear",
        "mm_spatial_pool_stride": POOL_STRIDE,
        "mm_tunable_parts": "mm_vision_tower,mm_mlp_adapter,mm_language_model",
        "mm_use_im_patch_token": False,
        "mm_use_im_start_end": False,
        "mm_vision_select_feature": "patch",
        "mm_vision_select_layer": -2,
        "mm_vision_tower": f"siglip-synthevents-patch{shape.patch}-{tower.image_size}",
        "use_mm_proj": True,
        "vision_config": {
            "model_type": "siglip_vision_model",
            "hidden_size": tower.hidden_size,
            "image_size": tower.image_size,
            "intermediate_size": tower.intermediate_size,
            "num_attention_heads": tower.num_attention_heads,
            "num_hidden_layers": tower.num_hidden_layers,
            "patch_size": tower.patch_size,
        },
    }


def _write_json(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2) + "\n")
