"""Stands for the models under an unknown version of vLLM: its own classes, which refuse a server that asks to prune.

An attribute `LOCATION@VERSION` of this module is the class at that location with this refusal. vLLM remembers between
runs, by the name of a class, what it can do: the version in the name keeps an upgrade from finding what is outdated.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

from st_simdiff.errors import InputError
from st_simdiff.serve.vllm.settings import OVERRIDE
from st_simdiff.serve.vllm.versions import unknown_version


def __getattr__(name: str) -> Any:
    location, is_location, version = name.partition("@")
    if not is_location:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module, _, class_name = location.rpartition(".")
    made = refusing(getattr(import_module(module), class_name), version)
    globals()[name] = made
    return made


def refusing(base: type, version: str) -> type:
    """A model class of vLLM `version` that raises `InputError` for a server whose settings are this plugin's."""

    def refuse_pruning(self: Any, *, vllm_config: Any, prefix: str = "") -> None:
        if getattr(vllm_config.model_config.hf_config, OVERRIDE, None) is not None:
            raise InputError(unknown_version(version))
        base.__init__(self, vllm_config=vllm_config, prefix=prefix)  # type: ignore[misc]

    return type(base.__name__, (base,), {"__init__": refuse_pruning, "__module__": __name__})
