"""What methods and models are called: registry and folder names on one side, the paper's and readers' on the other."""

from __future__ import annotations

from st_simdiff.report.published import LLAVA_VIDEO, NVILA, PRINTED_NAMES, QWEN

RELEASE = "st_simdiff_release"
FAMILY = "st_simdiff"
"""Registry names of this project's own methods begin with it."""

OTHER_NAMES = {
    RELEASE: "ST-SimDiff (release)",
    "st_simdiff_adaptive": "ST-SimDiff (adaptive)",
    "random": "Random",
    "uniform_frames": "Uniform frames",
    "temporal_drop": "Temporal drop",
    "prumerge_plus": "PruMerge+",
    "vispruner": "VisPruner",
    "sttm": "STTM",
    "vidcom2": "VidCom2",
    "fastvid": "FastVID",
    "holitom": "HoliTom",
    "llava_scissor": "LLaVA-Scissor",
}
"""Methods that the paper does not compare."""


def display_name(variant: str) -> str:
    """A method's usual spelling; its registry name where none is known."""
    return {**PRINTED_NAMES, **OTHER_NAMES}.get(variant, variant)


def is_own(method: str) -> bool:
    """Whether a method is one of this project's own forms of ST-SimDiff, which are no rivals of each other."""
    return method.startswith(FAMILY)


def published_model(name: str) -> str | None:
    """The paper's name for a checkpoint folder such as `LLaVA-Video-7B-Qwen2`; None for a model it does not have."""
    plain = name.lower().replace("_", "-")
    if plain == "llava-video":  # as in the published command line
        return LLAVA_VIDEO
    parts = ((LLAVA_VIDEO, "llava-video", "7b"), (NVILA, "nvila", "8b"), (QWEN, "qwen2.5-vl", "7b"))
    return next((published for published, family, size in parts if family in plain and size in plain), None)


def stock_task(name: str) -> str:
    """lmms-eval's task with the same questions as this project's task `name`; any other name as it is."""
    return name.removesuffix("_local")
