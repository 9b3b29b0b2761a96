"""One clear sentence for bad input: what is wrong, what was given, what is valid."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class InputError(ValueError):
    """Something the caller gave cannot be used. The message is one sentence meant for that caller."""


def unknown(kind: str, given: object, valid: Iterable[str], meant: str | None = None) -> InputError:
    """An `InputError` for a name that is not among `valid`, with the closest valid name if one is close.

    meant: the valid name for the same thing, where that is known.
    """
    names = sorted(map(str, valid))
    close = [meant] if meant else difflib.get_close_matches(str(given), names, n=1)
    hint = f" Did you mean {close[0]!r}?" if close else ""
    return InputError(f"Unknown {kind} {given!r}.{hint} Valid: {', '.join(names)}.")


def printable(text: object) -> str:
    """`text` with the bytes of a file name that are not UTF-8 escaped, so that any log and terminal can show it."""
    return str(text).encode("utf-8", "backslashreplace").decode()


class RunFailed(RuntimeError):
    """What was started has ended without results. code: a non-zero exit code to end with."""

    def __init__(self, message: str, code: int) -> None:
        super().__init__(message)
        self.code = code
