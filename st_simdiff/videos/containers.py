"""Opening a video file: regular files of known containers only, since others name further files to be read."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from st_simdiff.errors import InputError
from st_simdiff.videos.errors import CannotDecode, VideoError

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.video.stream import VideoStream

RAW_STREAMS = frozenset({"h264", "hevc", "mpegvideo", "m4v", "mjpeg", "vc1", "av1", "obu", "dirac"})
"""Formats without times: FFmpeg makes them up from a frame rate that it guesses."""

CONTAINERS = (
    "mov",
    "mp4",
    "m4a",
    "3gp",
    "3g2",
    "mj2",
    "matroska",
    "webm",
    "avi",
    "mpegts",
    "mpeg",
    "flv",
    "asf",
    "ogg",
    "ivf",
    "gif",
    "apng",
    "nut",
    "mxf",
    "rm",
    "dv",
    "wtv",
    *sorted(RAW_STREAMS),
)
"""FFmpeg's names. Playlists (hls, concat, dash, sdp), image sequences and devices are not among them."""

_BEGINNINGS = (
    *((4, name, "MP4 or MOV") for name in (b"ftyp", b"moov", b"mdat", b"free", b"skip", b"wide")),
    (0, b"\x1a\x45\xdf\xa3", "Matroska or WebM"),
    (8, b"AVI ", "AVI"),
    (0, b"FLV\x01", "Flash video"),
    (0, b"OggS", "Ogg"),
    (0, b"\x30\x26\xb2\x75\x8e\x66\xcf\x11", "ASF"),
    (0, b"\x00\x00\x01\xba", "MPEG"),
    (0, b"GIF8", "GIF"),
)
"""Bytes at a place of a file that tell its container."""

_OPTIONS = {"format_whitelist": ",".join(CONTAINERS), "protocol_whitelist": "file"}


def check_file(path: str | Path) -> None:
    """Raises `VideoError` unless `path` is a regular file with something in it. Opens nothing."""
    try:
        status = os.stat(path)
    except OSError as error:
        reason = "there is no such video file" if isinstance(error, FileNotFoundError) else error.strerror
        raise VideoError(f"{path}: {reason}.") from error
    except ValueError as error:  # a null character in the name
        raise VideoError(f"{path!r}: there is no such video file.") from error
    if stat.S_ISDIR(status.st_mode):
        raise VideoError(f"{path}: this is a folder; a video file is needed.")
    if not stat.S_ISREG(status.st_mode):
        raise VideoError(f"{path}: this is no regular file (a pipe, device or socket); a video file is needed.")
    if not status.st_size:
        raise VideoError(f"{path}: no video can be read from this file: it is empty.")


@contextmanager
def open_video(path: str | Path, threads: int = 1) -> Iterator[tuple[InputContainer, VideoStream]]:
    """The file and its best video stream, ready to be read by PyAV.

    Raises `VideoError` for a file that is missing, no regular file, of a container that is not read, or without a
    picture; `CannotDecode` where PyAV has no decoder for it; `InputError` without PyAV.
    """
    check_file(path)
    try:
        import av
    except ModuleNotFoundError as error:
        raise InputError("Reading a video needs PyAV: pip install 'st-simdiff[video]'.") from error
    try:
        container = av.open(os.path.abspath(path), container_options=dict(_OPTIONS), metadata_errors="replace")
    except (av.FFmpegError, ValueError, OSError) as error:
        raise VideoError(f"{path}: no video can be read from this file: {_why_not(path)}.") from error
    with container:
        pictures = [stream for stream in container.streams.video if not _is_cover(stream)]
        if not pictures:
            raise VideoError(f"{path}: no video can be read from this file: it has no picture.")
        stream = container.streams.best("video")
        if stream is None or stream not in pictures:
            stream = pictures[0]
        if stream.codec_context is None:
            raise CannotDecode(f"{path}: no decoder is known for the video in this file.")
        stream.codec_context.thread_count = threads
        stream.thread_type = "AUTO" if threads > 1 else "SLICE"
        yield container, stream


def _is_cover(stream: VideoStream) -> bool:
    """Whether it is the picture of a sound file."""
    return bool(stream.disposition & stream.disposition.__class__.attached_pic)


def _why_not(path: str | Path) -> str:
    """Why FFmpeg reads no container from a file, by how the file begins."""
    with open(path, "rb") as file:
        start = file.read(512)
    text = start.lstrip(b"\xef\xbb\xbf \r\n\t")
    kinds = {b"#EXTM3U": "HLS playlist", b"ffconcat": "ffconcat playlist", b"v=0": "SDP session", b"[Input": "playlist"}
    for head, kind in kinds.items():
        if text.startswith(head):
            return f"it is a list of other files ({kind})"
    if b"<MPD" in text:
        return "it is a list of other files (DASH)"
    for place, mark, container in _BEGINNINGS:
        if start.startswith(mark, place):
            return f"it begins as {container} and is cut off or damaged"
    return "it is no video of a kind that is read"
