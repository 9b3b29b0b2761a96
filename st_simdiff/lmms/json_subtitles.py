"""The JSON subtitles of LongVideoBench: what is wrong with them, said with the form that is needed."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from st_simdiff.errors import InputError

LONGEST = 1e7
"""Seconds, some 116 days: no time in a video is later."""

_CLOCK = re.compile(r"\s*(\d{1,4}):(\d{1,2}):(\d{1,2}(?:\.\d*)?)\s*")


def check_subtitles(subtitles: Any) -> None:
    """Raises `InputError` for what is no list of subtitles in one of the two forms, with the number of the first
    one that is not."""
    if not isinstance(subtitles, list):
        raise InputError(f"a list of subtitles is needed, got {type(subtitles).__name__}")
    for number, one in enumerate(subtitles, start=1):
        try:
            times_of(one)
            key = text_key(one)
            if not isinstance(one.get(key), str):
                raise InputError(f'its text is needed under "{key}", got {_given(one, key)}')
        except InputError as error:
            raise InputError(f"subtitle {number}: {error}") from error


def times_of(subtitle: Any) -> tuple[float, float | None]:
    """When a subtitle begins and ends, in seconds; None for the end of the video. Raises `InputError`."""
    if not isinstance(subtitle, Mapping):
        form = '{"timestamp": [1.0, 2.5], "text": "..."} or {"start": "00:00:01.000", "end": ..., "line": "..."}'
        raise InputError(f"{form} is needed, got {type(subtitle).__name__}")
    if "timestamp" not in subtitle:
        return _clock(subtitle, "start"), _clock(subtitle, "end")
    given = subtitle["timestamp"]
    if (
        not isinstance(given, list)
        or len(given) != 2
        or not is_time(given[0])
        or not (given[1] is None or is_time(given[1]))
    ):
        raise InputError(f'"timestamp" is [1.0, 2.5], in seconds from 0, or [1.0, null], got {_short(given)}')
    return given[0], given[1]


def text_key(subtitle: Mapping[str, Any]) -> str:
    """Under which name a subtitle has its text."""
    return "text" if "timestamp" in subtitle else "line"


def ends_early(subtitle: Any) -> bool:
    """Whether a subtitle ends before it begins, as those of speech recognition sometimes do."""
    start, end = times_of(subtitle)
    return end is not None and end < start


def check_question(document: Mapping[str, Any]) -> None:
    """Raises `InputError` for a question whose own times cannot be those of a video."""
    duration, start = document["duration"], document["starting_timestamp_for_subtitles"]
    if not is_time(duration) or duration == 0:
        raise InputError(f"its duration is {_short(duration)}, and seconds above 0 are needed")
    if not is_time(start):
        raise InputError(f"its starting_timestamp_for_subtitles is {_short(start)}, and seconds from 0 are needed")


def is_time(value: Any) -> bool:
    """Whether `value` is a number of seconds that a video can have."""
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= LONGEST


def _clock(subtitle: Mapping[str, Any], key: str) -> float:
    given = subtitle.get(key)
    match = _CLOCK.fullmatch(given) if isinstance(given, str) else None
    if match is None:
        raise InputError(f'"{key}" is a time such as "00:00:01.000", got {_given(subtitle, key)}')
    return int(match[1]) * 3600 + int(match[2]) * 60 + float(match[3])


def _given(subtitle: Mapping[str, Any], key: str) -> str:
    return _short(subtitle[key]) if key in subtitle else "none"


def _short(value: Any) -> str:
    return ascii(value)[:60]
