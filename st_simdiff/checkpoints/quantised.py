"""Language models whose weights are quantised while they are loaded, by the libraries that transformers knows.

As in LLaVA's own loader, the linear layers of the decoder's blocks are quantised; embeddings, the output layer, the
vision tower and the projector stay as they are.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from transformers import GenerationConfig, Qwen2Config, Qwen2ForCausalLM

from st_simdiff.checkpoints.quantisation import QuantizationConfig
from st_simdiff.errors import InputError


class LanguageModelPart(Qwen2ForCausalLM):
    """The language model alone of a checkpoint that has a vision tower beside it."""

    _keys_to_ignore_on_load_unexpected = (r"^model\.(vision_tower|mm_projector|image_newline)",)


def load_quantised(
    folder: Path,
    config: Qwen2Config,
    vocabulary: int,
    quantization_config: QuantizationConfig,
    device: torch.device | str,
    **options: Any,
) -> Qwen2ForCausalLM:
    """The language model in the weight files of `folder`, quantised, on `device`.

    config: as the files have it. vocabulary: so many rows of the embeddings are kept. options: dtype and
    attn_implementation. That the files hold its weights, in finite numbers, has been looked at. Raises `InputError` for
    a quantisation that cannot be done here.
    """
    try:
        model, report = LanguageModelPart.from_pretrained(
            folder,
            config=config,
            quantization_config=quantization_config,
            device_map={"": device},
            local_files_only=True,
            output_loading_info=True,
            **options,
        )
    except ImportError as error:
        reason = " ".join(str(error).split()).rstrip(".")
        raise InputError(f"The weights cannot be quantised as asked for ({reason}).") from error
    if report["missing_keys"] or report["mismatched_keys"]:
        names = sorted(map(str, (*report["missing_keys"], *report["mismatched_keys"])))
        raise ValueError(f"The weights in {folder} do not fit the model: {', '.join(names[:3])}.")
    if vocabulary < config.vocab_size:
        model.resize_token_embeddings(vocabulary, mean_resizing=False)
    model.generation_config = GenerationConfig()
    return model
