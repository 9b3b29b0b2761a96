"""The text of lmms-eval's `--model_args`, `key=value,...`, and the values that its parts spell."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from st_simdiff.errors import InputError


def split_model_args(text: str) -> dict[str, str]:
    """`"a=1,b=x"` as a dict of strings. Raises `InputError` for a part that is not key=value or a key given twice."""
    settings: dict[str, str] = {}
    for part in filter(None, (part.strip() for part in text.split(","))):
        key, separator, value = part.partition("=")
        if not separator or not key:
            raise InputError(f"model_args are key=value pairs separated by commas, got {part!r}.")
        if key in settings:
            raise InputError(f"{key} is given twice: {settings[key]} and {value}.")
        settings[key] = value
    return settings


def join_model_args(settings: Mapping[str, Any]) -> str:
    """The inverse of `split_model_args`."""
    return ",".join(f"{key}={value}" for key, value in settings.items())


def read_value(value: Any) -> Any:
    """Text as the None, boolean, integer or number it spells, else unchanged."""
    if not isinstance(value, str):
        return value
    if value == "None":
        return None
    if value.lower() in ("true", "false"):
        return value.lower() == "true"
    for number in (int, float):
        try:
            return number(value)
        except ValueError:
            continue
    return value
