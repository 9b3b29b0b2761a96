"""SubRip files, taken apart as lmms-eval takes those of VideoMME, and what of them no prompt shows."""

from __future__ import annotations

import re
from dataclasses import dataclass

from st_simdiff.errors import InputError

_TIME = r"\s*(\d{1,4}):(\d{1,2}):(\d{1,2})[,.](\d{1,6})\s*"
_TIMES = re.compile(f"{_TIME}-->{_TIME}")
_SHOWN = re.compile(r'<font color="white" size=".72c">(.*?)</font>')
"""What is shown of a subtitle in VideoMME's files."""


@dataclass(frozen=True)
class Entry:
    """A subtitle. line: of its times in the file, from 1. start, end: in seconds. text: its lines, joined by spaces."""

    line: int
    start: float
    end: float
    text: str

    @property
    def shown(self) -> str | None:
        """What a prompt has of it; None where that is nothing."""
        match = _SHOWN.search(self.text)
        return match and match[1]

    @property
    def is_shown_whole(self) -> bool:
        return bool(self.shown) and self.start < self.end and not _SHOWN.sub("", self.text, count=1).strip()


@dataclass(frozen=True)
class Subtitles:
    """entries: in the file's order; of several with the same times the last one, as in lmms-eval. in_all: how many the
    file has, with those that lmms-eval passes over."""

    entries: tuple[Entry, ...]
    in_all: int

    @property
    def loss(self) -> str:
        """Of how many entries a prompt shows everything; empty where that is all of them."""
        shown = sum(entry.is_shown_whole for entry in self.entries)
        return "" if 0 < shown == self.in_all else f"{shown:,} of {self.in_all:,}"


def parse_srt(text: str) -> Subtitles:
    """The entries of a file. Raises `InputError`, with the line, where lmms-eval would not find the times of one.

    lmms-eval parts the text at empty lines, and takes a part of two lines or fewer for no subtitle without a word. More
    than one empty line, and a point in times, are taken besides.
    """
    entries: dict[tuple[float, float], Entry] = {}
    first, in_all, found = 1, 0, False
    for part in text.split("\n\n"):
        if part.strip():
            at, lines = _lines(part, first)
            times = _TIMES.fullmatch(lines[1]) if len(lines) > 1 else None
            if len(lines) > 2:
                if times is None:
                    needed = "00:00:01,000 --> 00:00:02,000 is needed"
                    raise InputError(f"line {at + 1}: {needed}, got {lines[1][:40]!r}")
                start, end = _seconds(times.groups()[:4]), _seconds(times.groups()[4:])
                entries[start, end] = Entry(at + 1, start, end, " ".join(lines[2:]))
            found = found or times is not None
            in_all += max(1, sum(_TIMES.fullmatch(line) is not None for line in lines))
        first += part.count("\n") + 2
    if not found and text.strip():
        raise InputError(f"no subtitle is in it, line 1 is {text.splitlines()[0][:40]!r}")
    return Subtitles(tuple(entries.values()), in_all)


def _lines(part: str, first: int) -> tuple[int, list[str]]:
    """The lines of `part` and the number of their first one, without the empty ones that it begins with: these come
    from more than one empty line between entries. An entry whose number is an empty line keeps it."""
    lines = part.split("\n")
    if len(lines) > 1 and _TIMES.fullmatch(lines[1]):
        return first, lines
    kept = part.lstrip("\n")
    return first + len(part) - len(kept), kept.split("\n")


def _seconds(parts: tuple[str, ...]) -> float:
    hours, minutes, seconds, thousandths = map(int, parts)
    return hours * 3600 + minutes * 60 + seconds + thousandths / 1000
