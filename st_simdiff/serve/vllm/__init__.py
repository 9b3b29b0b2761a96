"""The plugin for vLLM: video tokens are pruned at the language model's input, by the methods of this project.

vLLM calls `register` in each of its processes (entry-point group `vllm.general_plugins`). It names classes and imports
no model. A server whose `--hf-overrides` have no `st_simdiff` runs vLLM's own code.
"""

from __future__ import annotations

import logging

from st_simdiff.serve.vllm.versions import unknown_version

logger = logging.getLogger(__name__)

_PACKAGE = "st_simdiff.serve.vllm"
MODELS = {
    "Qwen2_5_VLForConditionalGeneration": "qwen2_5_vl",
    "Qwen3VLForConditionalGeneration": "qwen3_vl",
    "Qwen3VLMoeForConditionalGeneration": "qwen3_vl",
    "Qwen3_5ForConditionalGeneration": "qwen3_5",
    "Qwen3_5MoeForConditionalGeneration": "qwen3_5",
    "LlavaOnevisionForConditionalGeneration": "llava_onevision",
}
"""The module here whose class serves each architecture. The class is named as vLLM's own, since vLLM looks at names of
classes too, to decode speculatively."""


def register() -> None:
    """Puts a subclass in the place of each of vLLM's classes of `MODELS`.

    In a version of vLLM that this plugin does not know, one that only refuses to prune.
    """
    from vllm import ModelRegistry, __version__

    problem = unknown_version(__version__)
    if not problem:
        for architecture, module in MODELS.items():
            ModelRegistry.register_model(architecture, f"{_PACKAGE}.{module}:{architecture}")
        return
    logger.warning("%s Videos are not pruned by st-simdiff.", problem)
    registered = getattr(ModelRegistry, "models", {})
    for architecture in MODELS:
        module, name = (getattr(registered.get(architecture), part, None) for part in ("module_name", "class_name"))
        if module and name and not module.startswith(_PACKAGE):
            ModelRegistry.register_model(architecture, f"{_PACKAGE}.refusal:{module}.{name}@{__version__}")
