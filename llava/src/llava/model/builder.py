"""The loader under the name and with the arguments that LLaVA wrappers use."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from st_simdiff.checkpoints.llava_video.loading import DTYPES, DeviceMap, LoadedLlavaVideo, load_llava_video
from st_simdiff.checkpoints.quantisation import quantisation
from st_simdiff.errors import unknown

_NAMES = {str(dtype).removeprefix("torch."): dtype for dtype in DTYPES}


def load_pretrained_model(
    model_path: str | Path,
    model_base: str | None,
    model_name: str,
    load_8bit: bool = False,
    load_4bit: bool = False,
    *,
    device_map: DeviceMap = "auto",
    torch_dtype: str | torch.dtype = "float16",
    attn_implementation: str = "sdpa",
    overwrite_config: Mapping[str, Any] | None = None,
) -> LoadedLlavaVideo:
    """(tokenizer, model, image_processor, max_length) of the checkpoint in `model_path`, see `load_llava_video`.

    model_base: of a LoRA adapter. model_name: not used, the checkpoint's config says what it is. load_8bit, load_4bit:
    the language model is quantised while it is loaded.
    """
    del model_name
    if isinstance(torch_dtype, str):
        if torch_dtype not in _NAMES:
            raise unknown("torch_dtype", torch_dtype, _NAMES)
        torch_dtype = _NAMES[torch_dtype]
    return load_llava_video(
        model_path,
        dtype=torch_dtype,
        device_map=device_map,
        attn_implementation=attn_implementation,
        overwrite_config=overwrite_config,
        model_base=model_base,
        quantization_config=quantisation(load_4bit, load_8bit, torch_dtype),
    )
