"""What methods and models are called: registry and folder names on one side, the paper's and readers' on the other."""

from __future__ import annotations

import re

from st_simdiff.report.published import LLAVA_VIDEO, NVILA, PRINTED_NAMES, QWEN
from st_simdiff.vocabulary import OURS, RELEASE, current_name

OTHER_NAMES = {
    RELEASE: "ST-SimDiff (release)",
    f"{RELEASE}_ranked": "ST-SimDiff (release, st_topk)",
    f"{RELEASE}_random": "ST-SimDiff (release, random)",
    "st_simdiff_adaptive": "ST-SimDiff (adaptive)",
    "st_simdiff_input": "ST-SimDiff (input)",
    "st_simdiff_two_steps": "ST-SimDiff (two steps)",
    "random": "Random",
    "uniform_frames": "Uniform frames",
    "evs": "EVS",
    "prumerge_plus": "PruMerge+",
    "vispruner": "VisPruner",
    "sttm": "STTM",
    "vidcom2": "VidCom2",
    "vidcom2_vllm": "VidCom2 (vLLM)",
    "fastvid": "FastVID",
    "holitom": "HoliTom",
    "llava_scissor": "LLaVA-Scissor",
    "dycoke": "DyCoke",
    "divprune": "DivPrune",
    "flashvid": "FlashVID",
    "unicomp": "UniComp",
    "v_cast": "V-CAST",
}
"""Methods that the paper does not compare."""


def display_name(variant: str) -> str:
    """A method's usual spelling; its registry name where none is known."""
    return {**PRINTED_NAMES, **OTHER_NAMES}.get(current_name(variant), variant)


def is_own(method: str) -> bool:
    """Whether a method is one of this project's own forms of ST-SimDiff, which are no rivals of each other."""
    return method.startswith(OURS)


def published_model(name: str) -> str | None:
    """The paper's name for a checkpoint folder such as `LLaVA-Video-7B-Qwen2`; None for a model it does not have."""
    plain = name.lower().replace("_", "-")
    if plain == "llava-video":  # as in the published command line
        return LLAVA_VIDEO
    parts = ((LLAVA_VIDEO, "llava-video", "7b"), (NVILA, "nvila", "8b"), (QWEN, "qwen2.5-vl", "7b"))
    return next((published for published, family, size in parts if family in plain and size in plain), None)


GENERIC = frozenset({"checkpoint", "model", "weights"})
"""Folder names that do not tell one checkpoint from another."""


def model_name(path: str) -> str:
    """What the checkpoint at `path`, a folder or a name on the Hugging Face hub, is called.

    A folder of the hub's cache has its repository's name; to a name that tells nothing the folder above is added. A
    revision, as in `owner/name@revision`, is no part of it.
    """
    name = re.fullmatch(r"([^/@]+/[^/@]+)@.+", path)
    parts = [part for part in (name[1] if name else path).split("/") if part]
    cached = next((part for part in parts if part.startswith("models--")), None)
    if cached is not None:
        return cached.split("--")[-1]
    if len(parts) > 1 and parts[-1] in GENERIC:
        return f"{parts[-2]}-{parts[-1]}"
    return parts[-1] if parts else ""
