"""What was found out about large files, kept for later runs: it holds while size, times and inode stay the same."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from st_simdiff.files import USER_CACHE, write_whole

REMEMBERED = USER_CACHE / "digests.json"
SETTLED = 2.0
"""Seconds. A file that changed later than so long before it is read may change again under the same times."""

State = tuple[int, int, int, int, int]
"""Size, time of the last change of the content and of the inode, inode, device."""


def state_of(path: Path) -> State:
    """What identifies the content of a file as far as the file system tells. Raises OSError."""
    status = path.stat()
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino, status.st_dev


def recall(states: Mapping[Path, State], remembered: Path | None = None) -> dict[Path, dict[str, Any]]:
    """What is known of every file in `states` if it is in this state; nothing where that cannot be read.

    remembered: the file in which it is kept, `REMEMBERED` by default.
    """
    entries = _read(remembered or REMEMBERED)
    known = {path: entries.get(str(path), {}) for path in states}
    return {path: one if one.get("state") == list(states[path]) else {} for path, one in known.items()}


def remember(
    facts: Mapping[Path, Mapping[str, Any]], states: Mapping[Path, State], remembered: Path | None = None
) -> None:
    """Adds `facts` about files, read from them in `states`, to what others may have remembered meanwhile.

    Nothing is kept of a file that changed a moment ago, and files that are gone are forgotten.
    """
    target = remembered or REMEMBERED
    settled = {path: dict(new) for path, new in facts.items() if _is_settled(states[path]) and path.exists()}
    if not settled:
        return
    known = recall({path: states[path] for path in settled}, target)
    new = {str(path): {**known[path], **one, "state": list(states[path])} for path, one in settled.items()}
    with suppress(OSError):  # a home that cannot be written costs finding it out again
        kept = {path: one for path, one in _read(target).items() if Path(path).exists()}
        write_whole(target, json.dumps(kept | new))


def _is_settled(state: State) -> bool:
    return time.time() - max(state[1], state[2]) / 1e9 > SETTLED


def _read(remembered: Path) -> dict[str, dict[str, Any]]:
    try:
        content = json.loads(remembered.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    entries = content.items() if isinstance(content, dict) else ()
    return {path: one for path, one in entries if isinstance(one, dict)}
