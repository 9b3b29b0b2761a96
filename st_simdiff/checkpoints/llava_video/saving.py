"""Writes a LLaVA-Video model in the layout that it was published in, for checkpoints of our own."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from transformers import PreTrainedTokenizerBase

from st_simdiff.checkpoints.files import SINGLE_FILE
from st_simdiff.checkpoints.llava_video.config import ARCHITECTURE, CONFIG_FILE, LlavaVideoConfig
from st_simdiff.checkpoints.llava_video.layout import POOL_STRIDE
from st_simdiff.checkpoints.llava_video.modeling import LlavaVideo
from st_simdiff.checkpoints.llava_video.weights import official_name

_TEXT_ENTRIES = (
    "hidden_act",
    "hidden_size",
    "intermediate_size",
    "max_position_embeddings",
    "num_attention_heads",
    "num_hidden_layers",
    "num_key_value_heads",
    "rms_norm_eps",
    "tie_word_embeddings",
)
_VISION_ENTRIES = (
    "hidden_act",
    "hidden_size",
    "image_size",
    "intermediate_size",
    "layer_norm_eps",
    "num_attention_heads",
    "num_hidden_layers",
    "patch_size",
)


def save_llava_video(folder: str | Path, model: LlavaVideo, tokenizer: PreTrainedTokenizerBase) -> None:
    """Write weights (in the model's dtype), configs and tokenizer into `folder`, which is made if need be.

    `loading.load_llava_video` reads it back; config.json holds the tower's shape as `vision_config`. The
    vocabulary must be the tokenizer's: ValueError if not.
    """
    folder = Path(folder)
    vocabulary = model.get_input_embeddings().weight.shape[0]
    if vocabulary != len(tokenizer):
        raise ValueError(f"The model has embeddings for {vocabulary} tokens, the tokenizer has {len(tokenizer)}.")
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save_pretrained(str(folder))
    _write_json(folder / "generation_config.json", model.generation_config.to_diff_dict())
    weights = {
        official_name(name): parameter.detach().cpu().contiguous() for name, parameter in model.named_parameters()
    }
    save_file(weights, folder / SINGLE_FILE, metadata={"format": "pt"})
    # Last: a folder with a config.json is a whole checkpoint.
    _write_json(folder / CONFIG_FILE, config_entries(model.config, model.dtype, vocabulary))


def config_entries(config: LlavaVideoConfig, dtype: torch.dtype, vocabulary: int) -> dict[str, Any]:
    """The entries of config.json that describe `config`."""
    text, vision = config.text, config.vision
    return {
        "architectures": [ARCHITECTURE],
        "model_type": "llava_qwen",
        "torch_dtype": str(dtype).removeprefix("torch."),
        "vocab_size": vocabulary,
        **{key: getattr(text, key) for key in _TEXT_ENTRIES},
        "rope_theta": text.rope_parameters["rope_theta"],
        "mm_hidden_size": vision.hidden_size,
        "mm_newline_position": config.newline,
        "mm_patch_merge_type": "spatial_unpad",
        "mm_projector_type": "mlp2x_gelu",
        "mm_resampler_type": None,
        "mm_spatial_pool_mode": config.pool_mode,
        "mm_spatial_pool_stride": POOL_STRIDE,
        "mm_use_im_start_end": config.mm_use_im_start_end,
        "mm_vision_select_feature": "patch",
        "mm_vision_select_layer": -2,
        "tokenizer_model_max_length": text.max_position_embeddings,
        "vision_config": {
            "model_type": "siglip_vision_model",
            **{key: getattr(vision, key) for key in _VISION_ENTRIES},
        },
    }


def _write_json(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2, sort_keys=True) + "\n", encoding="utf-8")
