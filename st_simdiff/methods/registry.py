"""The one list of methods: the names that the API, model_args, the command line and the documentation share."""

from __future__ import annotations

import dataclasses
from typing import Any

from st_simdiff.errors import unknown
from st_simdiff.methods.base import Method
from st_simdiff.methods.fastervlm import FasterVLM
from st_simdiff.methods.fastv import FastV
from st_simdiff.methods.fastvid import FastVID
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
from st_simdiff.methods.st_simdiff_release import STSimDiffRelease
from st_simdiff.methods.sttm import STTM
from st_simdiff.methods.temporal_drop import TemporalDrop
from st_simdiff.methods.uniform_frames import UniformFrames
from st_simdiff.methods.vidcom2 import VidCom2
from st_simdiff.methods.visionzip import VisionZip
from st_simdiff.methods.vispruner import VisPruner

METHODS: dict[str, type[Method]] = {
    method.name: method
    for method in (
        Full,
        STSimDiff,
        STSimDiffAdaptive,
        STSimDiffInput,
        STSimDiffRelease,
        Random,
        UniformFrames,
        TemporalDrop,
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
        FastVID,
        HoliTom,
        LLaVAScissor,
    )
}


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
