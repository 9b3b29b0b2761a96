"""Stands for the models under an unknown version of vLLM: its own classes, which refuse a server that asks to prune.

Any attribute of this module that is named as an architecture is such a class, made when vLLM asks for it.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

from st_simdiff.errors import InputError
from st_simdiff.serve.vllm.settings import OVERRIDE
from st_simdiff.serve.vllm.versions import unknown_version

_MODULES = {
    "Qwen2_5_VLForConditionalGeneration": "qwen2_5_vl",
    "Qwen3VLForConditionalGeneration": "qwen3_vl",
    "Qwen3VLMoeForConditionalGeneration": "qwen3_vl_moe",
    "Qwen3_5ForConditionalGeneration": "qwen3_5",
    "Qwen3_5MoeForConditionalGeneration": "qwen3_5",
    "LlavaOnevisionForConditionalGeneration": "llava_onevision",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from vllm import __version__

    base = getattr(import_module(f"vllm.model_executor.models.{_MODULES[name]}"), name)

    def refuse_pruning(self: Any, *, vllm_config: Any, prefix: str = "") -> None:
        if getattr(vllm_config.model_config.hf_config, OVERRIDE, None) is not None:
            raise InputError(unknown_version(__version__))
        base.__init__(self, vllm_config=vllm_config, prefix=prefix)

    made = type(name, (base,), {"__init__": refuse_pruning, "__module__": __name__})
    globals()[name] = made
    return made
