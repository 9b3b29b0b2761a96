"""What makes two checkpoints the same: all bytes of all files that are read, wherever they lie.

A file is hashed once: its digest is remembered by its place, size, times and inode, and so is whether the weights in it
are finite, which is seen in the same reading.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from tqdm import tqdm

from st_simdiff.checkpoints.finite import AS_STORED, StoredValues
from st_simdiff.checkpoints.remembered import recall, remember, state_of

CHUNK = 2**22
THREADS = 4


def digest_of_files(folder: Path, names: Iterable[str], remembered: Path | None = None) -> str:
    """16 hex digits of the names and the whole content of the files `names` in `folder`.

    A link counts as the file that it leads to. Progress is shown where it takes more than a few seconds. remembered: as
    for `remembered.recall`. Raises OSError for a file that cannot be read.
    """
    names = sorted(set(names))
    paths = [(folder / name).resolve() for name in names]
    states = {path: state_of(path) for path in paths}
    known = recall(states, remembered)
    unknown = [path for path, facts in known.items() if not isinstance(facts.get("digest"), str)]
    total = sum(states[path][0] for path in unknown)
    with (
        tqdm(total=total, unit="B", unit_scale=True, desc="Identifying the checkpoint", delay=3, leave=False) as bar,
        ThreadPoolExecutor(THREADS) as pool,
    ):
        fresh = dict(zip(unknown, pool.map(lambda path: _read(path, bar), unknown), strict=True))
    remember(fresh, states, remembered)
    known |= fresh
    digest = hashlib.sha256()
    for name, path in zip(names, paths, strict=True):
        digest.update(f"{name} {known[path]['digest']}\n".encode())
    return digest.hexdigest()[:16]


def _read(path: Path, bar: tqdm) -> dict[str, Any]:
    """The digest of a file, and whether its weights are finite where that can be told."""
    digest, buffer, position = hashlib.sha256(), bytearray(CHUNK), 0
    values = StoredValues(path)
    with path.open("rb") as file:
        while count := file.readinto(buffer):
            digest.update(memoryview(buffer)[:count])
            values.see(buffer, count, position)
            position += count
            bar.update(count)
    return {"digest": digest.hexdigest()} | ({"finite": [AS_STORED]} if values.finite else {})
