"""A folder of what was computed from videos, shared by all processes of a run and by later runs.

Every entry is one safetensors file, named by a hash of all that determines its content, written under another name and
then renamed. It carries a digest of itself: an entry that is damaged or cut off counts as absent.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from filelock import BaseFileLock, FileLock, Timeout
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from st_simdiff.errors import InputError

logger = logging.getLogger(__name__)

_SUFFIX, _UNFINISHED = ".safetensors", ".unfinished"
_OWN_NAME = re.compile(r"[0-9a-f]{40}\.(safetensors|unfinished)")
SUBFOLDER, MARKER = "st_simdiff_features", "made_by_st_simdiff.txt"


@dataclass(frozen=True)
class Entry:
    """tensors: by name, on the CPU. notes: JSON."""

    tensors: Mapping[str, torch.Tensor]
    notes: Any


class EntryLock(FileLock):
    """A lock of its own: lmms-eval 0.7.3 makes all of `filelock.FileLock` on one path in a process one and the same."""


class Claim:
    """The right to compute one entry. It ends with `release`, or with the process."""

    def __init__(self, lock: BaseFileLock | None) -> None:
        self._lock = lock

    def release(self) -> None:
        """May be called more than once, and from any thread."""
        lock, self._lock = self._lock, None
        if lock is not None:
            lock.release()


class VideoCache:
    """The entries in a subfolder of `folder`, together at most `limit` bytes: the least recently used ones go first.

    Nothing but what this class has written is ever removed: see `own_folder`.
    A folder that turns out to be full or read-only costs a warning: nothing more is stored, and all goes on without.
    Raises `InputError` if the folder cannot be made, or holds anything else.
    """

    def __init__(self, folder: str | Path, limit: int) -> None:
        self.limit = limit
        self.stores = True
        self._warned: set[str] = set()
        try:
            self.folder = own_folder(folder)
            (self.folder / "locks").mkdir(exist_ok=True)
        except OSError as error:
            raise InputError(f"video_cache is a folder that can be written, got {str(folder)!r}: {error}.") from error

    def __contains__(self, key: str) -> bool:
        """Whether there is an entry called `key`; it may yet turn out to be damaged."""
        return self._path(key).exists()

    def load(self, key: str) -> Entry | None:
        """The entry called `key`; None if there is none. A damaged one is reported and removed."""
        path = self._path(key)
        try:
            entry = _read(path, key)
        except (OSError, RuntimeError, SafetensorError, ValueError, KeyError, TypeError) as error:
            if not path.exists():  # not stored, or removed by another process by now
                return None
            logger.warning("%s is damaged (%s): it is computed anew.", path, error)
            with suppress(OSError):
                path.unlink(missing_ok=True)
            return None
        with suppress(OSError):  # the folder may be another's, to read only
            os.utime(path)
        return entry

    def store(self, key: str, entry: Entry) -> None:
        """Writes an entry, in place of any that has its name."""
        if not self.stores:
            return
        try:
            data = _serialized(key, entry)
            if len(data) > self.limit:
                self._warn(f"An entry of {len(data)} bytes is more than the {self.limit} that {self.folder} may hold.")
                return
            with EntryLock(self.folder / "locks" / "folder.lock"):
                self._make_room(key, len(data))
                unfinished = self.folder / f"{key}{_UNFINISHED}"
                try:
                    self._write(unfinished, data)
                    os.replace(unfinished, self._path(key))
                finally:
                    with suppress(OSError):
                        unfinished.unlink(missing_ok=True)
        except OSError as error:
            self.stores = False
            logger.warning(
                "Nothing can be written to %s (%s): from here on what is computed there is not stored.",
                self.folder,
                error.strerror or error,
            )

    def claim(self, key: str, *, wait: bool) -> Claim | None:
        """The right to compute the entry `key`. None if another process has it, unless `wait`ing for it is asked for.

        The system takes the right away from a process that dies. Where files cannot be locked everyone gets it.
        """
        lock = EntryLock(self.folder / "locks" / f"{key}.lock", thread_local=False)
        try:
            lock.acquire(timeout=-1 if wait else 0)
        except Timeout:
            return None
        except (OSError, NotImplementedError) as error:
            self._warn(f"Files in {self.folder} cannot be locked ({error}): processes may compute an entry twice.")
            return Claim(None)
        return Claim(lock)

    def size(self) -> int:
        """Bytes that the entries take up."""
        return sum(size for _, size, _ in self._entries())

    def _path(self, key: str) -> Path:
        return self.folder / f"{key}{_SUFFIX}"

    def _write(self, path: Path, data: bytes) -> None:
        path.write_bytes(data)

    def _make_room(self, key: str, size: int) -> None:
        """Under the folder's lock, which also means that whoever left an unfinished file behind is dead."""
        for unfinished in filter(_is_own, self.folder.glob(f"*{_UNFINISHED}")):
            unfinished.unlink(missing_ok=True)
        entries = sorted(entry for entry in self._entries() if entry[2] != self._path(key))
        surplus = sum(held for _, held, _ in entries) + size - self.limit
        for _, held, path in entries:
            if surplus <= 0:
                break
            path.unlink(missing_ok=True)
            surplus -= held

    def _entries(self) -> Iterator[tuple[int, int, Path]]:
        """Time of the last use, bytes, path."""
        for path in filter(_is_own, self.folder.glob(f"*{_SUFFIX}")):
            with suppress(FileNotFoundError):
                status = path.stat()
                yield status.st_mtime_ns, status.st_size, path

    def _warn(self, message: str) -> None:
        if message not in self._warned:
            self._warned.add(message)
            logger.warning(message)


def own_folder(folder: str | Path) -> Path:
    """The subfolder of `folder` that a cache of videos has for itself, made if need be, with a file that marks it.

    Raises `InputError` for an empty name, and for a folder with anything that no cache of videos has made; OSError
    where it cannot be made.
    """
    if not str(folder).strip():
        raise InputError("video_cache is the name of a folder, got an empty one.")
    place, own = Path(folder), Path(folder) / SUBFOLDER
    if own.is_symlink():
        raise InputError(f"video_cache is a folder for itself; {own} is a link to another one.")
    if not (own / MARKER).is_file():
        held = [path for part in (place, own) if part.is_dir() for path in part.iterdir()]
        others = sorted(path.name for path in held if path != own and not _is_own(path))
        if others:
            raise InputError(
                f"video_cache is a folder for itself, as what is old in it is removed; {place} holds {others[0]!r}: "
                "choose a new or empty one."
            )
    own.mkdir(parents=True, exist_ok=True)
    if not (own / MARKER).exists():
        (own / MARKER).write_text("The features of videos, written by st_simdiff; they may be removed at any time.\n")
    return own


def _is_own(path: Path) -> bool:
    """Whether the name of `path` is one that a cache gives: an entry, whole or not, the folder of locks, the marker."""
    return path.name in ("locks", MARKER) or _OWN_NAME.fullmatch(path.name) is not None


def key_of(description: Mapping[str, Any]) -> str:
    """The name of the entry that `description`, JSON, determines: 40 hex digits."""
    return hashlib.sha256(json.dumps(description, sort_keys=True).encode()).hexdigest()[:40]


def digest_of_tensors(tensors: Mapping[str, torch.Tensor], *more: str) -> str:
    """Of names, shapes, dtypes and values, and of `more` text."""
    digest = hashlib.sha256(json.dumps(more).encode())
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        digest.update(json.dumps([name, str(tensor.dtype), list(tensor.shape)]).encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()


def _serialized(key: str, entry: Entry) -> bytes:
    tensors: dict[str, torch.Tensor] = {}
    for name, tensor in entry.tensors.items():
        own = tensor.detach().cpu().contiguous()
        if any(own.data_ptr() == other.data_ptr() for other in tensors.values()):
            own = own.clone()  # safetensors writes no two tensors that share memory
        tensors[name] = own
    notes = json.dumps(entry.notes)
    return save(tensors, {"key": key, "notes": notes, "digest": digest_of_tensors(tensors, key, notes)})


def _read(path: Path, key: str) -> Entry:
    with safe_open(path, "pt") as file:
        metadata = file.metadata() or {}
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    if metadata["digest"] != digest_of_tensors(tensors, key, metadata["notes"]) or metadata["key"] != key:
        raise ValueError("its digest is another")
    return Entry(tensors, json.loads(metadata["notes"]))
