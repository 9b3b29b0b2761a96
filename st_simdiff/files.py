"""Files that are there whole or not at all, also after a kill or a power cut, and what identifies them."""

from __future__ import annotations

import hashlib
import os
import secrets
from pathlib import Path

from st_simdiff.errors import InputError

USER_CACHE = Path(os.path.expanduser("~")) / ".cache" / "st_simdiff"
"""What can be made again, and is kept for later runs of this user."""


def move_whole(source: Path, target: Path) -> None:
    """Moves a written file to where it is looked for, replacing what is there; its folder is made if need be.

    Both lie on one file system. Content and name are on the disk when this returns.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    _sync(source)
    source.replace(target)
    _sync(target.parent)


def write_whole(target: Path, content: str | bytes) -> None:
    """Writes a file (text as UTF-8) beside `target`, then moves it there. A link is replaced, not followed."""
    target.parent.mkdir(parents=True, exist_ok=True)
    unfinished = _unfinished(target)
    try:
        unfinished.write_bytes(content.encode() if isinstance(content, str) else content)
        move_whole(unfinished, target)
    finally:
        unfinished.unlink(missing_ok=True)


def check_folder(folder: Path, option: str) -> None:
    """Raises `InputError` where files cannot be written below `folder`, which need not be there yet.

    option: with which another one is named.
    """
    there = next((place for place in (folder, *folder.absolute().parents) if place.exists()), None)
    if there is None or not there.is_dir():
        raise InputError(f"{folder} can be no folder, as {there} is none: name another with {option}.")
    if not os.access(there, os.W_OK | os.X_OK):
        raise InputError(f"Nothing can be written to {there}: name another folder with {option}.")


def check_writable(target: Path, option: str) -> None:
    """Raises `InputError` where `write_whole` could not write `target`: a file beside it is made and removed again.

    option: with which it was given. Where its folder is not there yet, the file is made in the one above.
    """
    if target.is_dir():
        raise InputError(f"{option} {target} is a folder: name a file in it.")
    check_folder(target.parent, option)
    there = next(place for place in target.absolute().parents if place.exists())
    trial = there / _unfinished(target).name
    try:
        with trial.open("xb") as file:
            file.write(b"\n")
        trial.unlink()
    except OSError as error:
        raise InputError(f"{option} {target} cannot be written: {error.strerror or error}.") from error


def _unfinished(target: Path) -> Path:
    """A new name beside `target`."""
    return target.with_name(f".{target.name}.{secrets.token_hex(4)}")


def read_regular(path: Path) -> str:
    """The text of a file. Raises `InputError` for a device, a pipe or a folder, which may have no end; OSError, and
    UnicodeDecodeError for what is no UTF-8."""
    if path.exists() and not path.is_file():
        raise InputError(f"{path} is no regular file.")
    return path.read_text(encoding="utf-8")


def digest_of_file(path: str | Path) -> str:
    """SHA-256 of all bytes of a file, as hex digits. Raises OSError."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _sync(path: Path) -> None:
    """A file or folder to the disk. Folders cannot be opened on Windows, which orders names by itself."""
    if os.name == "nt" and path.is_dir():
        return
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
