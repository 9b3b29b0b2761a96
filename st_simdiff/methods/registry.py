"""The one list of methods: the names that the API, model_args, the command line and the documentation share."""

from __future__ import annotations

import dataclasses
from typing import Any

from st_simdiff.errors import InputError, unknown
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
from st_simdiff.methods.st_simdiff_release import STSimDiffRelease, STSimDiffReleaseRandom, STSimDiffReleaseRanked
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
        STSimDiffReleaseRanked,
        STSimDiffReleaseRandom,
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


def check_method(method: Any) -> Any:
    """`method`, or what stands in for one. Raises `InputError`, saying how to make one, for anything else."""
    if isinstance(method, str):
        if method not in METHODS:
            raise unknown("method", method, METHODS)
        raise InputError(f"A method comes with its settings: make_method({method!r}, retention=0.3), got {method!r}.")
    if isinstance(method, type) and issubclass(method, Method):
        raise InputError(f"A method comes with its settings: {method.__name__}(retention=0.3), got the class.")
    if isinstance(method, type) or not hasattr(method, "reduce_input"):
        raise InputError(
            f"A method is an object such as STSimDiff(retention=0.3) or make_method('fastv', retention=0.3), got "
            f"{method!r}."
        )
    return method
