"""Dataclasses of tensors as plain JSON and named tensors, and back: what a method chose, in a file without code."""

from __future__ import annotations

import dataclasses
import importlib
from collections.abc import Mapping
from typing import Any

import torch

_PACKAGE = "st_simdiff."


def to_plain(value: Any, tensors: dict[str, torch.Tensor]) -> Any:
    """`value` as JSON, its tensors put into `tensors` under numbers.

    value: None, numbers, text, tensors, and lists, tuples, dicts (of text) and this package's dataclasses of those.
    Raises TypeError for anything else.
    """
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, torch.Tensor):
        name = str(len(tensors))
        tensors[name] = value
        return {"tensor": name}
    if type(value) in (list, tuple):
        return {type(value).__name__: [to_plain(part, tensors) for part in value]}
    if type(value) is dict and all(isinstance(key, str) for key in value):
        return {"dict": {key: to_plain(part, tensors) for key, part in value.items()}}
    kind = type(value)
    if dataclasses.is_dataclass(value) and kind.__module__.startswith(_PACKAGE):
        fields = {field.name: to_plain(getattr(value, field.name), tensors) for field in dataclasses.fields(value)}
        return {"dataclass": [kind.__module__, kind.__qualname__], "fields": fields}
    raise TypeError(f"{kind.__module__}.{kind.__qualname__} has no plain form")


def from_plain(plain: Any, tensors: Mapping[str, torch.Tensor]) -> Any:
    """What `to_plain` was given. Raises ValueError, KeyError, TypeError or AttributeError for what is not from it."""
    if not isinstance(plain, dict):
        return plain
    if "tensor" in plain:
        return tensors[plain["tensor"]]
    for kind in (list, tuple):
        if kind.__name__ in plain:
            return kind(from_plain(part, tensors) for part in plain[kind.__name__])
    if "dict" in plain:
        return {key: from_plain(part, tensors) for key, part in plain["dict"].items()}
    module, name = plain["dataclass"]
    kind = getattr(importlib.import_module(module), name) if module.startswith(_PACKAGE) else None
    if not dataclasses.is_dataclass(kind):
        raise ValueError(f"{module}.{name} is no dataclass of this package")
    return kind(**{key: from_plain(part, tensors) for key, part in plain["fields"].items()})


def moved(value: Any, device: torch.device | str) -> Any:
    """`value`, made of dataclasses, lists, tuples and dicts, with its tensors on `device`."""
    if isinstance(value, torch.Tensor):
        return value.to(device)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {field.name: moved(getattr(value, field.name), device) for field in dataclasses.fields(value)}
        return dataclasses.replace(value, **fields)
    if type(value) in (list, tuple):
        return type(value)(moved(part, device) for part in value)
    if type(value) is dict:
        return {key: moved(part, device) for key, part in value.items()}
    return value
