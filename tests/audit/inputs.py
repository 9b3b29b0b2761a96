"""What a bad input is, and how a command line is tried in this process.

A bad input is a text that tells what it is, and an act that raises what a user would be told: what a command prints,
and what is logged where a line of a journal or an entry of a cache is set aside.
"""

from __future__ import annotations

import io
import random
from collections.abc import Callable, Iterator
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path

from st_simdiff.cli import main
from st_simdiff.errors import InputError


@dataclass(frozen=True)
class BadInput:
    """told: what it is. act: of an empty folder, to be changed as the act likes; raises what the user is told."""

    told: str
    act: Callable[[Path], object]


Number = random.Random
Generator = Callable[[Number, Path], Iterator[BadInput]]
"""Endless. Of the folder of a checkpoint."""

NO_NUMBERS = ["", "many", "1,5;2", "0x10", "nan", "½", "[1]", "None", "1e", "--", "1 000", "True"]
TOO_MANY = ["-1", "0", "1e400", "9" * 40, "-inf", "1.5e300", "inf", "1000000000000"]
WORDS = ["", "no_such_thing", "*", "a\nb", "ü" * 300, "../../etc", "null", "1", "<b>", "$(ls)", "st simdiff", "…"]


def command(*arguments: str) -> None:
    """Runs the command line in this process. Raises `InputError` with what it prints where it refuses."""
    out, error = io.StringIO(), io.StringIO()
    try:
        with redirect_stdout(out), redirect_stderr(error):
            main(arguments)
    except SystemExit as end:
        if end.code != 2:
            raise RuntimeError(f"exit code {end.code}: {error.getvalue()}") from end
        raise InputError(error.getvalue().strip().removeprefix("st-simdiff: ")) from end


def typo(number: Number, word: str) -> str:
    """`word` with one letter missing, doubled or two exchanged."""
    place = number.randrange(1, len(word) - 1)
    ways = [word[:place] + word[place + 1 :], word[:place] + word[place] + word[place:]]
    exchanged = word[: place - 1] + word[place] + word[place - 1] + word[place + 1 :]
    return number.choice([*ways, exchanged] if exchanged != word else ways)
