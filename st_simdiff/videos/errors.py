"""What can be wrong with a video."""

from __future__ import annotations

from st_simdiff.errors import printable


class VideoError(ValueError):
    """A video that cannot be read. The message is one sentence that names the file, in characters that can be shown."""

    def __init__(self, message: str) -> None:
        super().__init__(printable(message))


class CannotDecode(VideoError):
    """A video that one decoder cannot read, and another one may."""
