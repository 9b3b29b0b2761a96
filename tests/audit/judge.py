"""What every bad input must come to: one sentence, in time, and nothing else on the disk is touched."""

from __future__ import annotations

import hashlib
import resource
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

LONGEST = 20.0
"""Seconds that a refusal may take."""
MOST_MEMORY = 4 * 2**30
"""Bytes that a refusal may take beside what the process has."""
REFUSALS = (ValueError, OSError, SystemExit)


def contents(folder: Path) -> dict[str, str]:
    """The digest of every file below `folder`, by its path."""
    paths = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}


@contextmanager
def little_memory() -> Iterator[None]:
    """Inside the block more than `MOST_MEMORY` is a MemoryError."""
    limits = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (psutil.Process().memory_info().vms + MOST_MEMORY, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, limits)


def faults_of(act: Callable[[], object], untouched: Path, names: Path | None = None) -> list[str]:
    """What is wrong with how `act` refuses its input; empty if nothing is.

    untouched: folder in which no byte may change. names: what the sentence must name.
    """
    before, started, said, faults = contents(untouched), time.monotonic(), "", []
    try:
        with little_memory():
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
