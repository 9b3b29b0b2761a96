"""The supported model families. Adding one: a file with a `Family` class, and a line here.

Other packages declare theirs (docs/adding_a_family.md). They are loaded for models that no family here matches.
"""

from __future__ import annotations

from functools import cache
from importlib.metadata import EntryPoint
from typing import Any

from st_simdiff.errors import InputError
from st_simdiff.methods.base import Method
from st_simdiff.models.families.base import Family, ImagesAsFrames, VideoTokens
from st_simdiff.models.families.exaone4_5 import Exaone45Family
from st_simdiff.models.families.gemma4 import Gemma4Family
from st_simdiff.models.families.glm4v import Glm4vFamily
from st_simdiff.models.families.internvl import InternVLFamily
from st_simdiff.models.families.kimi import KimiFamily
from st_simdiff.models.families.llava_next_video import LlavaNextVideoFamily
from st_simdiff.models.families.llava_onevision import LlavaOnevisionFamily
from st_simdiff.models.families.llava_video import LlavaVideoFamily
from st_simdiff.models.families.minicpmv import MiniCPMVFamily
from st_simdiff.models.families.nvila import NvilaFamily
from st_simdiff.models.families.placeholders import Visual, video
from st_simdiff.models.families.qwen2_5_vl import Qwen25VLFamily
from st_simdiff.models.families.qwen2_vl import Qwen2VLFamily
from st_simdiff.models.families.qwen3_5 import Qwen35Family
from st_simdiff.models.families.qwen3_vl import Qwen3VLFamily
from st_simdiff.models.families.qwen_omni import Qwen3OmniFamily, Qwen25OmniFamily
from st_simdiff.models.families.smolvlm import SmolVLMFamily
from st_simdiff.models.families.transformers_family import TransformersFamily
from st_simdiff.models.families.video_llama_3 import VideoLlama3Family
from st_simdiff.models.layer_kinds import decoder_kinds
from st_simdiff.plugins import FAMILIES_GROUP, declared, load_class, package_of

__all__ = [
    "FAMILIES",
    "Family",
    "TransformersFamily",
    "VideoTokens",
    "Visual",
    "check_served",
    "declared_families",
    "family_of",
    "find_family",
    "video",
]

FAMILIES: tuple[Family, ...] = (
    LlavaVideoFamily(),
    NvilaFamily(),
    LlavaOnevisionFamily(),
    Qwen2VLFamily(),
    Qwen25VLFamily(),
    Qwen3VLFamily(),
    Qwen35Family(),
    Qwen25OmniFamily(),
    Qwen3OmniFamily(),
    Gemma4Family(),
    InternVLFamily(),
    Glm4vFamily(),
    LlavaNextVideoFamily(),
    VideoLlama3Family(),
    SmolVLMFamily(),
    MiniCPMVFamily(),
    Exaone45Family(),
    KimiFamily(),
)


@cache
def declared_families() -> tuple[tuple[Family, ...], tuple[str, ...]]:
    """The families of other packages, and a sentence for each one that cannot be used."""
    families, problems = [], []
    for entry in declared(FAMILIES_GROUP).values():
        try:
            families.append(_made(entry))
        except InputError as error:
            problems.append(str(error))
    return tuple(families), tuple(problems)


def _made(entry: EntryPoint) -> Family:
    family = load_class(entry, "model family", Family)
    try:
        return family()
    except Exception as error:  # somebody else's code: anything may be wrong with it
        who = f"The model family {entry.name!r} of the package {package_of(entry)}"
        raise InputError(f"{who} cannot be made without arguments: {type(error).__name__}: {error}") from error


_ENGINES = {"vllm": "vLLM", "sglang": "SGLang"}


def unwrapped(model: Any) -> Any:
    """The transformers model inside an adapter (PEFT), DistributedDataParallel, torch.compile(model), or the thinker of
    a Qwen-Omni.

    Calls of either reach the hooks inside. Raises `InputError` for a wrapper whose calls do not.
    """
    kind = type(model).__name__
    if hasattr(model, "get_base_model"):
        for adapter in getattr(model, "peft_config", {}).values():
            if getattr(adapter, "is_prompt_learning", False):
                raise InputError(
                    f"An adapter of kind {adapter.peft_type.value} puts tokens of its own before the prompt, which are "
                    "none of its ids: adapters of weights, such as LoRA, can be compressed."
                )
        return unwrapped(model.get_base_model())
    if kind == "DistributedDataParallel":
        return unwrapped(model.module)
    if kind in ("Qwen2_5OmniForConditionalGeneration", "Qwen3OmniMoeForConditionalGeneration"):
        return model.thinker
    if kind == "OptimizedModule":
        return unwrapped(model._orig_mod)
    if kind == "DataParallel":
        if len(model.device_ids) < 2:  # then it calls the module itself
            return unwrapped(model.module)
        raise InputError("DataParallel runs copies of the model: compress the one inside (.module) and call that.")
    return model


def check_served(config: Any, method: Method) -> None:
    """Raises `InputError` where no model with this config can serve `method`: before its weights are loaded.

    config: a transformers config. One of no family here passes: the model itself is asked.
    """
    config = getattr(config, "thinker_config", None) or config
    family = next((one for one in FAMILIES if config.model_type in getattr(one, "model_types", ())), None)
    if family is None:
        return
    family.check_version()
    decoder_kinds(config.get_text_config(decoder=True)).stages(method)
    if not method.vision_inputs <= family.records:
        raise family.no_record(method.vision_inputs)


def family_of(model: Any, images_as_frames: ImagesAsFrames = False) -> Family:
    """The family of `model`, told which images are frames. Raises `InputError` as `find_family`."""
    return find_family(model).with_images_as_frames(images_as_frames)


def find_family(model: Any) -> Family:
    """The family of `model`. Raises `InputError`, naming the supported ones, if there is none."""
    for family in FAMILIES:
        if family.matches(model):
            return family
    others, problems = declared_families()
    for family in others:
        if family.matches(model):
            return family
    names = ", ".join(family.name for family in (*FAMILIES, *others))
    supported = " ".join([f"Supported model families, as transformers models: {names}.", *problems])
    engine = _ENGINES.get(type(model).__module__.partition(".")[0])
    if engine is not None:
        raise InputError(f"{engine} runs its own model code and KV cache, which hooks cannot reach. {supported}")
    kind = type(model)
    is_part = kind.__module__.startswith("transformers.models.") and not kind.__name__.endswith("ConditionalGeneration")
    hint = "It is the whole model with its vision tower that is given, not a language model. " if is_part else ""
    raise InputError(f"{kind.__name__} is not supported. {hint}{supported}")
