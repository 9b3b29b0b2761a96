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
    "Qwen2_5_VLForConditionalGeneration": f"{_PACKAGE}.qwen2_5_vl:PrunedQwen2_5_VL",
    "Qwen3VLForConditionalGeneration": f"{_PACKAGE}.qwen3_vl:PrunedQwen3VL",
    "Qwen3VLMoeForConditionalGeneration": f"{_PACKAGE}.qwen3_vl:PrunedQwen3VLMoe",
    "Qwen3_5ForConditionalGeneration": f"{_PACKAGE}.qwen3_5:PrunedQwen3_5",
    "Qwen3_5MoeForConditionalGeneration": f"{_PACKAGE}.qwen3_5:PrunedQwen3_5Moe",
    "LlavaOnevisionForConditionalGeneration": f"{_PACKAGE}.llava_onevision:PrunedLlavaOnevision",
}
"""The class that serves each architecture, as `module:class`."""


def register() -> None:
    """Puts a subclass in the place of each of vLLM's classes of `MODELS`.

    In a version of vLLM that this plugin does not know, a subclass that only refuses to prune.
    """
    from vllm import ModelRegistry, __version__

    problem = unknown_version(__version__)
    if problem:
        logger.warning("%s Videos are not pruned by st-simdiff.", problem)
    for architecture, location in MODELS.items():
        ModelRegistry.register_model(architecture, f"{_PACKAGE}.refusal:{architecture}" if problem else location)
