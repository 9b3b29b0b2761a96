"""Language models whose weights are quantised while they are loaded, by the libraries that transformers knows.

As in LLaVA's own loader, the linear layers of the decoder's blocks are quantised; embeddings, the output layer, the
vision tower and the projector stay as they are.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

import torch
from transformers import BitsAndBytesConfig, GenerationConfig, Qwen2Config, Qwen2ForCausalLM
from transformers.utils.quantization_config import QuantizationConfigMixin

from st_simdiff.errors import InputError
from st_simdiff.extras import missing_package

EXTRA = "quantised"
Bits = Literal[4, 8]
QuantizationConfig = QuantizationConfigMixin | Mapping[str, Any] | None


class LanguageModelPart(Qwen2ForCausalLM):
    """The language model alone of a checkpoint that has a vision tower beside it."""

    _keys_to_ignore_on_load_unexpected = (r"^model\.(vision_tower|mm_projector|image_newline)",)


def quantisation(load_4bit: bool, load_8bit: bool, dtype: torch.dtype) -> BitsAndBytesConfig | None:
    """What LLaVA's `load_4bit` and `load_8bit` mean: NF4 with doubly quantised scales, or LLM.int8(), by bitsandbytes.

    dtype: in which 4-bit weights compute. None for neither. Raises `InputError` for both. Dettmers et al., 2022 and
    2023, https://arxiv.org/abs/2208.07339 and https://arxiv.org/abs/2305.14314.
    """
    if load_4bit and load_8bit:
        raise InputError("load_4bit and load_8bit are both given: weights have 4 or 8 bits.")
    if load_8bit:
        return BitsAndBytesConfig(load_in_8bit=True)
    if load_4bit:
        return BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=dtype,
        )
    return None


def check_quantisation(given: Any) -> None:
    """Raises `InputError` for what is no quantisation config, and for bitsandbytes' where that is not installed."""
    if given is not None and not isinstance(given, QuantizationConfigMixin | Mapping):
        raise InputError(
            f"quantization_config is one of transformers' configs, such as BitsAndBytesConfig, got {given!r}."
        )
    if isinstance(given, BitsAndBytesConfig) and find_spec("bitsandbytes") is None:
        raise missing_package("Loading in 4 or 8 bits", ModuleNotFoundError(name="bitsandbytes"), EXTRA)


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
