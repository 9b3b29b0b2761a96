"""What subtitle files of every form share: how they are read, what identifies them, and what their text may not do."""

from __future__ import annotations

import hashlib
import re
import stat
from pathlib import Path

from st_simdiff.errors import InputError
from st_simdiff.files import digest_of_file

MOST_BYTES = 16 * 2**20
"""Of a subtitle file; those of a film have some 200,000."""

_PLACEHOLDER = re.compile(
    r"<(?=\|[\w/-]+\|?>|\w+\|>"
    r"|(?:image|video|audio|/?img|IMG_CONTEXT|vila/\w+|(?:start|end)_of_\w+|\w+_soft_token)>)"
)
"""The beginning of what stands for an image, a video or a turn in the prompts of the models here."""

PLACEHOLDERS_PARTED = "what a model would take for an image or a turn is told with a space in it (< image>), in"
"""What the log says of the places where `without_placeholders` changes a text."""


def read_subtitles(path: Path) -> str:
    """The text of a file without a byte order mark. Raises `InputError` for a pipe, a folder or the like, which may
    have no end, and for a file above `MOST_BYTES`; OSError, and UnicodeDecodeError for what is no UTF-8."""
    _check_readable(path)
    return path.read_text(encoding="utf-8-sig")


def digest_of_folder(folder: Path, suffix: str) -> str:
    """16 hex digits of the names and contents of all files with `suffix` in `folder`; others are not opened."""
    digest = hashlib.sha256()
    for path in sorted(folder.glob(f"*{suffix}")):
        try:
            _check_readable(path)
            content = digest_of_file(path)
        except (InputError, OSError):
            content = "not read"
        digest.update(f"{path.name}\0{content}\n".encode("utf-8", "surrogateescape"))
    return digest.hexdigest()[:16]


def _check_readable(path: Path) -> None:
    """Raises `InputError` as `read_subtitles`, and OSError."""
    status = path.stat()
    if not stat.S_ISREG(status.st_mode):
        raise InputError("it is no regular file")
    if status.st_size > MOST_BYTES:
        raise InputError(f"it has {status.st_size:,} bytes, and {MOST_BYTES:,} at most are read")


def has_placeholder(text: str) -> bool:
    """Whether a model would take a part of `text` for an image, a video or the end of a turn."""
    return _PLACEHOLDER.search(text) is not None


def without_placeholders(text: str) -> str:
    """`text` with a space in every such part, as in `< image>`: no model takes that for more than text."""
    return _PLACEHOLDER.sub("< ", text)
