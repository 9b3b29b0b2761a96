"""lmms-eval's own wrappers that are compressed here: `st_simdiff_NAME` is the wrapper NAME. Plain data.

Adding one: a row in `STOCK_WRAPPERS`, a manifest in `lmms/manifests.py` and an entry point in pyproject.toml.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec

from st_simdiff.errors import InputError
from st_simdiff.extras import extra_command
from st_simdiff.vocabulary import WRAPPER

SIMPLE, CHAT = "simple", "chat"
"""The two kinds of lmms-eval's wrapper classes: for tasks that give a text and visuals, and for those with messages."""


FRAME_COUNTS = ("max_frames_num", "max_num_frames", "num_frames")
"""Arguments of wrappers that say how many frames a model is given."""


@dataclass(frozen=True)
class StockWrapper:
    """A wrapper of lmms-eval.

    models: what it runs, as their makers call them. model_types: those of config.json that it loads and that a family
    here knows. kinds: its classes, as far as they work. extra: of this project, with `modules`, which it imports.
    device_map: the only one with which it loads where there is no GPU; None for one that takes any.
    """

    models: str
    model_types: frozenset[str]
    kinds: tuple[str, ...] = (CHAT, SIMPLE)
    extra: str = ""
    modules: tuple[str, ...] = ()
    device_map: str | None = None

    def check_modules(self, name: str) -> None:
        """Raises `InputError` where a package of the extra is missing. name: of the harness model."""
        missing = [module for module in self.modules if find_spec(module) is None]
        if missing:
            raise InputError(f"{name} needs the packages {', '.join(missing)}: {extra_command(self.extra)}.")


STOCK_WRAPPERS = {
    "qwen2_vl": StockWrapper("Qwen2-VL", frozenset({"qwen2_vl"}), (SIMPLE,)),
    "qwen2_5_vl": StockWrapper("Qwen2.5-VL", frozenset({"qwen2_5_vl"})),
    "qwen3_vl": StockWrapper("Qwen3-VL, dense and MoE", frozenset({"qwen3_vl", "qwen3_vl_moe"})),
    "qwen3_5": StockWrapper("Qwen3.5 and 3.6, dense and MoE", frozenset({"qwen3_5", "qwen3_5_moe"})),
    "qwen3_omni": StockWrapper(
        "Qwen3-Omni",
        frozenset({"qwen3_omni_moe"}),
        extra="omni",
        modules=("librosa", "moviepy", "qwen_omni_utils"),
        device_map="auto",
    ),
    "llava_hf": StockWrapper("LLaVA-OneVision (-hf)", frozenset({"llava_onevision"}), (SIMPLE,)),
    "internvl_hf": StockWrapper("InternVL 3 and 3.5 (-HF)", frozenset({"internvl"}), (CHAT,)),
    "gemma4": StockWrapper("Gemma 4", frozenset({"gemma4"}), (SIMPLE,)),
}
"""By lmms-eval's names. llava_hf for messages takes every frame of a video, and fails on a question without images."""

_NO_FAMILY = "{} is no supported model family"
_OWN_CODE = "it runs the checkpoint's own code, which is no model of transformers"
_ENGINE = "its engine runs model code and a KV cache of its own"

REFUSED_WRAPPERS = {
    "gemma3": _NO_FAMILY.format("Gemma 3"),
    "glm4v": "it gives its processor a video file as an image",
    "huggingface": "it loads models without the head that generates",
    "qwen2_5_omni": "transformers 5 refuses how it calls generate, and every answer is empty",
    "video_llava": _NO_FAMILY.format("Video-LLaVA"),
    **dict.fromkeys(("internvl2", "internvl3", "internvl3_5", "llava_onevision1_5"), _OWN_CODE),
    **dict.fromkeys(("llava_onevision2", "minicpm_v", "minicpm_o", "videollama3"), _OWN_CODE),
    **dict.fromkeys(("vllm", "vllm_generate", "sglang"), _ENGINE),
}
"""Wrappers that run videos on models of such families, and why they are not compressed in lmms-eval 0.7.3."""


def refused_wrapper(model: str) -> InputError | None:
    """Why the harness model called `model` does not exist, if it would be a wrapper that cannot be compressed."""
    stock = model.removeprefix(WRAPPER)
    if stock == model or stock not in REFUSED_WRAPPERS:
        return None
    names = ", ".join(WRAPPER + name for name in STOCK_WRAPPERS)
    reason = REFUSED_WRAPPERS[stock]
    return InputError(f"lmms-eval's wrapper {stock} cannot be compressed: {reason}. Those that can: {names}.")
