"""What every bad input must come to: one sentence, in time, and nothing else on the disk is touched."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from pathlib import Path

LONGEST = 20.0
"""Seconds that a refusal may take."""
REFUSALS = (ValueError, OSError, SystemExit)


def contents(folder: Path) -> dict[str, str]:
    """The digest of every file below `folder`, by its path."""
    paths = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}


def faults_of(act: Callable[[], object], untouched: Path, names: Path | None = None) -> list[str]:
    """What is wrong with how `act` refuses its input; empty if nothing is.

    untouched: folder in which no byte may change. names: what the sentence must name.
    """
    before, started, said, faults = contents(untouched), time.monotonic(), "", []
    try:
        act()
        faults.append("accepted in silence")
    except REFUSALS as error:
        said = str(error)
    except Exception as error:  # whatever else comes is what the audit looks for
        faults.append(f"a traceback: {type(error).__name__}: {error}")
    if said and "\n" in said.strip():
        faults.append(f"more than a line: {said[:200]!r}")
    if said and not said.rstrip().endswith((".", "!")):
        faults.append(f"no sentence: {said[:200]!r}")
    if said and names is not None and str(names) not in said:
        faults.append(f"{names} is not named: {said[:200]!r}")
    seconds = time.monotonic() - started
    if seconds > LONGEST:
        faults.append(f"took {seconds:.0f} s")
    if contents(untouched) != before:
        faults.append("files were changed")
    return faults
