"""ST-SimDiff: training-free compression of the visual tokens of a video inside a multimodal LLM."""

from __future__ import annotations

from importlib import import_module
from typing import Any

_HOMES = {
    "Composed": "st_simdiff.methods.composed",
    "InputError": "st_simdiff.errors",
    "METHODS": "st_simdiff.methods.registry",
    "STSimDiff": "st_simdiff.methods.st_simdiff",
    "attach": "st_simdiff.models.attach",
    "compress": "st_simdiff.models.attach",
    "make_method": "st_simdiff.methods.registry",
}

__all__ = ["METHODS", "Composed", "InputError", "STSimDiff", "attach", "compress", "make_method"]


def __getattr__(name: str) -> Any:
    """Loads torch and transformers only when something that needs them is asked for."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
