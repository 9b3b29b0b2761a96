"""What makes two checkpoints the same: all bytes of all files that are read, wherever they lie.

A file is hashed once: its digest is remembered by its place, size, times and inode.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

from tqdm import tqdm

from st_simdiff.files import USER_CACHE, write_whole

REMEMBERED = USER_CACHE / "digests.json"
CHUNK = 2**22
SETTLED = 2.0
"""Seconds. A file that changed later than so long before it is hashed may change again under the same times."""
THREADS = 4

_State = tuple[int, int, int, int, int]
"""Size, time of the last change of the content and of the inode, inode, device."""


def digest_of_files(folder: Path, names: Iterable[str], remembered: Path = REMEMBERED) -> str:
    """16 hex digits of the names and the whole content of the files `names` in `folder`.

    A link counts as the file that it leads to. Progress is shown where it takes more than a few seconds. remembered:
    file in which digests are kept. Raises OSError for a file that cannot be read.
    """
    names = sorted(set(names))
    paths = [(folder / name).resolve() for name in names]
    known = _recall(remembered)
    states = {path: _state(path) for path in paths}
    unknown = [path for path in states if known.get(str(path), {}).get("state") != list(states[path])]
    total = sum(states[path][0] for path in unknown)
    with (
        tqdm(total=total, unit="B", unit_scale=True, desc="Identifying the checkpoint", delay=3, leave=False) as bar,
        ThreadPoolExecutor(THREADS) as pool,
    ):
        fresh = dict(zip(unknown, pool.map(lambda path: _hash(path, bar), unknown), strict=True))
    settled = {path: digest for path, digest in fresh.items() if _is_settled(states[path]) and path.exists()}
    new = {str(path): {"state": list(states[path]), "digest": digest} for path, digest in settled.items()}
    if new:
        _remember(remembered, new)
    digest = hashlib.sha256()
    for name, path in zip(names, paths, strict=True):
        digest.update(f"{name} {fresh.get(path) or known[str(path)]['digest']}\n".encode())
    return digest.hexdigest()[:16]


def _state(path: Path) -> _State:
    status = path.stat()
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino, status.st_dev


def _is_settled(state: _State) -> bool:
    return time.time() - max(state[1], state[2]) / 1e9 > SETTLED


def _hash(path: Path, bar: tqdm) -> str:
    digest, buffer = hashlib.sha256(), bytearray(CHUNK)
    with path.open("rb", buffering=0) as file:
        while count := file.readinto(buffer):
            digest.update(memoryview(buffer)[:count])
            bar.update(count)
    return digest.hexdigest()


def _recall(remembered: Path) -> dict[str, dict[str, object]]:
    """What was remembered. Nothing if it cannot be read: then all is hashed again."""
    try:
        content = json.loads(remembered.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    entries = content.items() if isinstance(content, dict) else ()
    return {path: one for path, one in entries if isinstance(one, dict) and isinstance(one.get("digest"), str)}


def _remember(remembered: Path, new: dict[str, dict[str, object]]) -> None:
    """Adds to what others may have remembered meanwhile; files that are gone are forgotten."""
    with suppress(OSError):  # a home that cannot be written costs hashing again
        kept = {path: one for path, one in _recall(remembered).items() if Path(path).exists()}
        write_whole(remembered, json.dumps(kept | new))
