"""One clear sentence for bad input: what is wrong, what was given, what is valid."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def unknown(kind: str, given: object, valid: Iterable[str]) -> ValueError:
    """A `ValueError` for a value that is not among `valid`, with the closest valid one if one is close."""
    names = list(valid)
    close = difflib.get_close_matches(str(given), names, n=1)
    hint = f" (did you mean {close[0]!r}?)" if close else ""
    return ValueError(f"Unknown {kind} {given!r}{hint}; valid: {', '.join(names)}.")
