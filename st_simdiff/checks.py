"""One sentence for a setting out of range. Booleans are no numbers here."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from typing import Any, TypeGuard, get_args

from st_simdiff.errors import InputError, unknown
from st_simdiff.vocabulary import ALL_FRAMES

MOST_FRAMES = 100_000
"""Of one video, that a model or a picture is given."""
MOST_RUNS = 10_000
"""Of one grid of evaluations."""
MOST_REPEATS = 1_000
"""Of one question or measurement."""
MOST_PROCESSES = 1_024
"""On one machine."""


def is_number(value: Any) -> TypeGuard[int | float]:
    """Whether `value` is an integer or a float; a boolean is neither."""
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def is_whole(value: Any, least: int) -> TypeGuard[int]:
    """Whether `value` is an integer, `least` or more."""
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


def check_range(name: str, value: Any, low: float, high: float, meaning: str) -> None:
    """Raises `InputError` unless `value` is a number in [low, high]."""
    if not is_number(value) or not low <= value <= high:
        raise InputError(f"{name} is {meaning}, in [{low}, {high}], got {value!r}.")


def check_whole(name: str, value: Any, least: int, meaning: str) -> int:
    """`value`. Raises `InputError` unless it is a whole number, `least` or more."""
    if not is_whole(value, least):
        raise InputError(f"{name} is {meaning}, a whole number from {least} on, got {value!r}.")
    return value


def check_frames(name: str, value: Any) -> None:
    """Raises `InputError` unless `value` is a number of frames that can be taken from a video."""
    if not is_whole(value, 1) or value > MOST_FRAMES:
        raise InputError(f"{name} is a number of frames, a whole number from 1 to {MOST_FRAMES:,}, got {value!r}.")


def read_frame_budget(value: Any) -> int | str:
    """A number of frames, or `ALL_FRAMES`, as a number or a text. Raises `InputError` for anything else."""
    if value == ALL_FRAMES:
        return ALL_FRAMES
    number = int(value) if isinstance(value, str) and re.fullmatch(r"[0-9]{1,9}", value) else value
    if not is_whole(number, 1) or number > MOST_FRAMES:
        raise InputError(f"a number of frames from 1 to {MOST_FRAMES:,}, or {ALL_FRAMES}, is needed, got {value!r}.")
    return number


def check_names(kind: str, given: Iterable[str], valid: Iterable[str]) -> None:
    """Raises `InputError` for the first of the names `given` that is not among `valid`."""
    names = set(valid)
    for name in given:
        if name not in names:
            raise unknown(kind, name, names)


def check_index(name: str, value: Any) -> None:
    """Raises `InputError` unless `value` is a whole number, 0 or more."""
    if not is_whole(value, 0):
        raise InputError(f"{name} is a whole number, 0 or more, got {value!r}.")


def check_cosine_bound(name: str, value: Any) -> None:
    """Raises `InputError` unless `value` is a finite number."""
    if not is_number(value) or not math.isfinite(value):
        raise InputError(f"{name} is a number that cosines are compared with, got {value!r}.")


def check_retention(retention: Any) -> None:
    """Raises `InputError` unless 0 < retention <= 1."""
    if not is_number(retention) or not 0 < retention <= 1:
        raise InputError(f"retention is the share of visual tokens to keep, in (0, 1], got {retention!r}.")


def check_flag(name: str, value: Any) -> None:
    """Raises `InputError` unless `value` is True or False."""
    if not isinstance(value, bool):
        raise InputError(f"{name} is True or False, got {value!r}.")


def check_choice(name: str, value: Any, valid: Any) -> None:
    """Raises `InputError` unless `value` is one of the names of the Literal `valid`."""
    if value not in get_args(valid):
        raise unknown(name, str(value), get_args(valid))


def check_bits(load_4bit: bool, load_8bit: bool) -> None:
    """Raises `InputError` where weights are to be quantised in two ways."""
    if load_4bit and load_8bit:
        raise InputError("load_4bit and load_8bit are both given: weights have 4 or 8 bits.")
