"""The supported model families. Adding one: a file with a `Family` class, and a line here."""

from __future__ import annotations

from typing import Any

from st_simdiff.errors import InputError
from st_simdiff.models.families.base import Family, ImagesAsFrames
from st_simdiff.models.families.internvl import InternVLFamily
from st_simdiff.models.families.llava_onevision import LlavaOnevisionFamily
from st_simdiff.models.families.llava_video import LlavaVideoFamily
from st_simdiff.models.families.nvila import NvilaFamily
from st_simdiff.models.families.qwen2_5_vl import Qwen25VLFamily
from st_simdiff.models.families.qwen2_vl import Qwen2VLFamily
from st_simdiff.models.families.qwen3_vl import Qwen3VLFamily

FAMILIES: tuple[Family, ...] = (
    LlavaVideoFamily(),
    NvilaFamily(),
    LlavaOnevisionFamily(),
    Qwen2VLFamily(),
    Qwen25VLFamily(),
    Qwen3VLFamily(),
    InternVLFamily(),
)

_ENGINES = {"vllm": "vLLM", "sglang": "SGLang"}


def unwrapped(model: Any) -> Any:
    """The transformers model inside an adapter (PEFT), DistributedDataParallel, or torch.compile(model).

    Calls of either reach the hooks inside. Raises `InputError` for a wrapper whose calls do not.
    """
    kind = type(model).__name__
    if hasattr(model, "get_base_model"):
        return unwrapped(model.get_base_model())
    if kind == "DistributedDataParallel":
        return unwrapped(model.module)
    if kind == "OptimizedModule":
        return unwrapped(model._orig_mod)
    if kind == "DataParallel":
        raise InputError("DataParallel runs copies of the model: compress the one inside (.module) and call that.")
    return model


def family_of(model: Any, images_as_frames: ImagesAsFrames = False) -> Family:
    """The family of `model`, told which images are frames. Raises `InputError` as `find_family`."""
    return find_family(model).with_images_as_frames(images_as_frames)


def find_family(model: Any) -> Family:
    """The family of `model`. Raises `InputError`, naming the supported ones, if there is none."""
    for family in FAMILIES:
        if family.matches(model):
            return family
    supported = f"Supported model families, as transformers models: {', '.join(family.name for family in FAMILIES)}."
    engine = _ENGINES.get(type(model).__module__.partition(".")[0])
    if engine is not None:
        raise InputError(f"{engine} runs its own model code and KV cache, which hooks cannot reach. {supported}")
    raise InputError(f"{type(model).__name__} is not supported. {supported}")
