"""How weights are to be quantised while they are loaded. No model is imported here: evaluations are planned with it."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec
from typing import Any

import torch
from transformers import BitsAndBytesConfig
from transformers.utils.quantization_config import QuantizationConfigMixin

from st_simdiff.checks import check_bits
from st_simdiff.errors import InputError
from st_simdiff.extras import missing_package

EXTRA = "quantised"
QuantizationConfig = QuantizationConfigMixin | Mapping[str, Any] | None


def quantisation(load_4bit: bool, load_8bit: bool, dtype: torch.dtype) -> BitsAndBytesConfig | None:
    """What LLaVA's `load_4bit` and `load_8bit` mean: NF4 with doubly quantised scales, or LLM.int8(), by bitsandbytes.

    dtype: in which 4-bit weights compute. None for neither. Raises `InputError` for both. Dettmers et al., 2022 and
    2023, https://arxiv.org/abs/2208.07339 and https://arxiv.org/abs/2305.14314.
    """
    check_bits(load_4bit, load_8bit)
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
