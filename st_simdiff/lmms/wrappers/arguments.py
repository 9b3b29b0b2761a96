"""The arguments of one of lmms-eval's wrappers: which it takes, and those that say where it computes."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

from lmms_eval.api.model import lmms

from st_simdiff.errors import InputError


def stock_defaults(wrapper: type) -> dict[str, Any]:
    """The arguments that a wrapper's `__init__` names, and their defaults.

    Where it hands on what it does not name (`**kwargs`), also those of the wrapper that it is made of.
    """
    kinds = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    found: dict[str, Any] = {}
    for one in wrapper.__mro__:
        if "__init__" not in vars(one) or one is lmms or not issubclass(one, lmms):
            continue
        parameters = inspect.signature(vars(one)["__init__"]).parameters.items()
        named = {name: each.default for name, each in parameters if name != "self" and each.kind in kinds}
        found = {**named, **found}
        if not any(each.kind is inspect.Parameter.VAR_KEYWORD for _, each in parameters):
            break
    return found


def placement(
    settings: Mapping[str, Any], processes: int, has_gpu: bool, device_map: str | None = None
) -> dict[str, str]:
    """What a wrapper must be told about where to compute; nothing where its own defaults do.

    device_map: the only one with which the wrapper loads on a CPU; None if it takes any. On a CPU (asked for, or no
    GPU): by default the wrappers move inputs to CUDA wherever the model is. On one GPU: an empty device_map, the
    default of llava_hf, is refused by transformers 5. Raises `InputError` for several processes without a GPU, which
    the wrappers place on CUDA in any case, and for a CPU where the wrapper would take the GPU.
    """
    if settings["device"] == "cpu" or not has_gpu:
        if processes > 1:
            raise InputError(
                f"lmms-eval's wrapper computes on GPUs in a run of {processes} processes; use one process."
            )
        if device_map is not None and has_gpu:
            raise InputError("lmms-eval's wrapper computes on the GPU where there is one: leave out device=cpu.")
        return {"device": "cpu", "device_map": device_map or "cpu"}
    if settings["device_map"] == "" and processes == 1:
        return {"device_map": settings["device"]}
    return {}
