"""What can be wrong with a video."""

from __future__ import annotations


class VideoError(ValueError):
    """A video that cannot be read. The message is one sentence that names the file."""


class CannotDecode(VideoError):
    """A video that one decoder cannot read, and another one may."""
