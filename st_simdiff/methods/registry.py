"""The one list of methods: the names that the API, model_args, the command line and the documentation share."""

from __future__ import annotations

import dataclasses
from typing import Any

from st_simdiff.errors import unknown
from st_simdiff.methods.base import Method
from st_simdiff.methods.full import Full
from st_simdiff.methods.st_simdiff import STSimDiff

METHODS: dict[str, type[Method]] = {method.name: method for method in (Full, STSimDiff)}


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
