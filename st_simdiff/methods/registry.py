"""The one list of methods: the names that the API, model_args, the command line and the documentation share."""

from __future__ import annotations

import dataclasses
from typing import Any

from st_simdiff.errors import unknown
from st_simdiff.methods.base import Method
from st_simdiff.methods.divprune import DivPrune
from st_simdiff.methods.dycoke import DyCoke
from st_simdiff.methods.evs import EVS
from st_simdiff.methods.fastervlm import FasterVLM
from st_simdiff.methods.fastv import FastV
from st_simdiff.methods.fastvid import FastVID
from st_simdiff.methods.flashvid import FlashVID
from st_simdiff.methods.former_names import FORMER_NAMES
from st_simdiff.methods.framefusion import FrameFusion
from st_simdiff.methods.full import Full
from st_simdiff.methods.holitom import HoliTom
from st_simdiff.methods.importance import Importance
from st_simdiff.methods.llava_scissor import LLaVAScissor
from st_simdiff.methods.prumerge import PruMerge
from st_simdiff.methods.prumerge_plus import PruMergePlus
from st_simdiff.methods.random import Random
from st_simdiff.methods.st_simdiff import STSimDiff
from st_simdiff.methods.st_simdiff_adaptive import STSimDiffAdaptive
from st_simdiff.methods.st_simdiff_input import STSimDiffInput
from st_simdiff.methods.st_simdiff_release import STSimDiffRelease, STSimDiffReleaseRandom, STSimDiffReleaseRanked
from st_simdiff.methods.sttm import STTM
from st_simdiff.methods.unicomp import UniComp
from st_simdiff.methods.uniform_frames import UniformFrames
from st_simdiff.methods.v_cast import VCast
from st_simdiff.methods.vidcom2 import VidCom2
from st_simdiff.methods.vidcom2_vllm import VidCom2VLLM
from st_simdiff.methods.visionzip import VisionZip
from st_simdiff.methods.vispruner import VisPruner


class Registry(dict[str, type[Method]]):
    """Methods by name. It is asked by former names too, and lists the present ones."""

    def __contains__(self, name: object) -> bool:
        return super().__contains__(FORMER_NAMES.get(name, name) if isinstance(name, str) else name)

    def __missing__(self, name: str) -> type[Method]:
        if name not in FORMER_NAMES:
            raise KeyError(name)
        return self[FORMER_NAMES[name]]


METHODS = Registry(
    (method.name, method)
    for method in (
        Full,
        STSimDiff,
        STSimDiffAdaptive,
        STSimDiffInput,
        STSimDiffRelease,
        STSimDiffReleaseRanked,
        STSimDiffReleaseRandom,
        Random,
        UniformFrames,
        EVS,
        Importance,
        FastV,
        PruMerge,
        PruMergePlus,
        FasterVLM,
        VisionZip,
        VisPruner,
        FrameFusion,
        STTM,
        VidCom2,
        VidCom2VLLM,
        FastVID,
        HoliTom,
        LLaVAScissor,
        DyCoke,
        DivPrune,
        FlashVID,
        UniComp,
        VCast,
    )
)


def make_method(name: str, **settings: Any) -> Method:
    """The method called `name` with `settings`. Raises `InputError` for an unknown name, setting or value."""
    if name not in METHODS:
        raise unknown("method", name, METHODS)
    method = METHODS[name]
    valid = {field.name for field in dataclasses.fields(method)}
    for setting in settings:
        if setting not in valid:
            raise unknown(f"setting of method {name}", setting, valid)
    return method(**settings)
