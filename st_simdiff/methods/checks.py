"""One sentence for a setting out of range."""

from __future__ import annotations

from st_simdiff.errors import InputError


def check_range(name: str, value: float, low: float, high: float, meaning: str) -> None:
    """Raises `InputError` unless `value` is a number in [low, high]."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not low <= value <= high:
        raise InputError(f"{name} is {meaning}, in [{low}, {high}], got {value!r}.")


def check_whole(name: str, value: int, least: int, meaning: str) -> None:
    """Raises `InputError` unless `value` is a whole number, `least` or more."""
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise InputError(f"{name} is {meaning}, a whole number from {least} on, got {value!r}.")
