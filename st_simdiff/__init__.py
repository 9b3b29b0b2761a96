"""ST-SimDiff: training-free compression of the visual tokens of a video inside a multimodal LLM.

    with compress(model, STSimDiff(retention=0.3)) as trace:
        model.generate(**inputs)

`compress` runs a method on a transformers model inside a block, `attach` in every thread of a process that serves.
`make_method` makes one by its name in `METHODS`. A new method is a subclass of `Method` (or of `PatchMethod` or
`Budgeted`): it turns `VisualTokens`, laid out on a `TokenGrid`, into a `Reduction`.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:  # what a type checker and an editor see; at run time each name is imported when it is first used
    from st_simdiff.errors import InputError as InputError
    from st_simdiff.methods.base import Method as Method
    from st_simdiff.methods.base import Reduction as Reduction
    from st_simdiff.methods.base import StageRecord as StageRecord
    from st_simdiff.methods.base import VisionRecord as VisionRecord
    from st_simdiff.methods.base import VisualTokens as VisualTokens
    from st_simdiff.methods.budgeted import Budgeted as Budgeted
    from st_simdiff.methods.composed import Composed as Composed
    from st_simdiff.methods.divprune import DivPrune as DivPrune
    from st_simdiff.methods.dycoke import DyCoke as DyCoke
    from st_simdiff.methods.evs import EVS as EVS
    from st_simdiff.methods.fastervlm import FasterVLM as FasterVLM
    from st_simdiff.methods.fastv import FastV as FastV
    from st_simdiff.methods.fastvid import FastVID as FastVID
    from st_simdiff.methods.flashvid import FlashVID as FlashVID
    from st_simdiff.methods.framefusion import FrameFusion as FrameFusion
    from st_simdiff.methods.full import Full as Full
    from st_simdiff.methods.holitom import HoliTom as HoliTom
    from st_simdiff.methods.importance import Importance as Importance
    from st_simdiff.methods.llava_scissor import LLaVAScissor as LLaVAScissor
    from st_simdiff.methods.patches import PatchMethod as PatchMethod
    from st_simdiff.methods.prumerge import PruMerge as PruMerge
    from st_simdiff.methods.prumerge_plus import PruMergePlus as PruMergePlus
    from st_simdiff.methods.random import Random as Random
    from st_simdiff.methods.registry import METHODS as METHODS
    from st_simdiff.methods.registry import make_method as make_method
    from st_simdiff.methods.st_simdiff import STSimDiff as STSimDiff
    from st_simdiff.methods.st_simdiff_adaptive import STSimDiffAdaptive as STSimDiffAdaptive
    from st_simdiff.methods.st_simdiff_adaptive import STSimDiffTwoSteps as STSimDiffTwoSteps
    from st_simdiff.methods.st_simdiff_input import STSimDiffInput as STSimDiffInput
    from st_simdiff.methods.st_simdiff_release import STSimDiffRelease as STSimDiffRelease
    from st_simdiff.methods.st_simdiff_release import STSimDiffReleaseRandom as STSimDiffReleaseRandom
    from st_simdiff.methods.st_simdiff_release import STSimDiffReleaseRanked as STSimDiffReleaseRanked
    from st_simdiff.methods.sttm import STTM as STTM
    from st_simdiff.methods.unicomp import UniComp as UniComp
    from st_simdiff.methods.uniform_frames import UniformFrames as UniformFrames
    from st_simdiff.methods.v_cast import VCast as VCast
    from st_simdiff.methods.vidcom2 import VidCom2 as VidCom2
    from st_simdiff.methods.vidcom2_vllm import VidCom2VLLM as VidCom2VLLM
    from st_simdiff.methods.visionzip import VisionZip as VisionZip
    from st_simdiff.methods.vispruner import VisPruner as VisPruner
    from st_simdiff.models.attach import Attachment as Attachment
    from st_simdiff.models.attach import attach as attach
    from st_simdiff.models.attach import compress as compress
    from st_simdiff.models.trace import Trace as Trace
    from st_simdiff.models.trace import VideoTrace as VideoTrace
    from st_simdiff.selection.grid import TokenGrid as TokenGrid

_NAMES = {
    "st_simdiff.errors": ["InputError"],
    "st_simdiff.methods.base": ["Method", "Reduction", "StageRecord", "VisionRecord", "VisualTokens"],
    "st_simdiff.methods.budgeted": ["Budgeted"],
    "st_simdiff.methods.composed": ["Composed"],
    "st_simdiff.methods.divprune": ["DivPrune"],
    "st_simdiff.methods.dycoke": ["DyCoke"],
    "st_simdiff.methods.evs": ["EVS"],
    "st_simdiff.methods.fastervlm": ["FasterVLM"],
    "st_simdiff.methods.fastv": ["FastV"],
    "st_simdiff.methods.fastvid": ["FastVID"],
    "st_simdiff.methods.flashvid": ["FlashVID"],
    "st_simdiff.methods.framefusion": ["FrameFusion"],
    "st_simdiff.methods.full": ["Full"],
    "st_simdiff.methods.holitom": ["HoliTom"],
    "st_simdiff.methods.importance": ["Importance"],
    "st_simdiff.methods.llava_scissor": ["LLaVAScissor"],
    "st_simdiff.methods.patches": ["PatchMethod"],
    "st_simdiff.methods.prumerge": ["PruMerge"],
    "st_simdiff.methods.prumerge_plus": ["PruMergePlus"],
    "st_simdiff.methods.random": ["Random"],
    "st_simdiff.methods.registry": ["METHODS", "make_method"],
    "st_simdiff.methods.st_simdiff": ["STSimDiff"],
    "st_simdiff.methods.st_simdiff_adaptive": ["STSimDiffAdaptive", "STSimDiffTwoSteps"],
    "st_simdiff.methods.st_simdiff_input": ["STSimDiffInput"],
    "st_simdiff.methods.st_simdiff_release": ["STSimDiffRelease", "STSimDiffReleaseRandom", "STSimDiffReleaseRanked"],
    "st_simdiff.methods.sttm": ["STTM"],
    "st_simdiff.methods.unicomp": ["UniComp"],
    "st_simdiff.methods.uniform_frames": ["UniformFrames"],
    "st_simdiff.methods.v_cast": ["VCast"],
    "st_simdiff.methods.vidcom2": ["VidCom2"],
    "st_simdiff.methods.vidcom2_vllm": ["VidCom2VLLM"],
    "st_simdiff.methods.visionzip": ["VisionZip"],
    "st_simdiff.methods.vispruner": ["VisPruner"],
    "st_simdiff.models.attach": ["Attachment", "attach", "compress"],
    "st_simdiff.models.trace": ["Trace", "VideoTrace"],
    "st_simdiff.selection.grid": ["TokenGrid"],
}
_MODULES = {name: module for module, names in _NAMES.items() for name in names}

__all__ = ["__version__", *sorted(_MODULES)]


def __getattr__(name: str) -> Any:
    """Imports torch and transformers only when something that needs them is asked for."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(_MODULES[name]), name)
    return value


def __dir__() -> list[str]:
    return [*__all__, *(name for name in globals() if name.startswith("__") and name not in __all__)]
