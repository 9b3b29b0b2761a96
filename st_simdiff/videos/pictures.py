"""Decoded frames as RGB pictures of one size, upright, as FFmpeg's command line shows them."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from st_simdiff.videos.containers import open_video
from st_simdiff.videos.errors import VideoError
from st_simdiff.videos.settings import ReadSettings

if TYPE_CHECKING:
    from av.video.frame import VideoFrame

Allocate = Callable[[tuple[int, ...]], np.ndarray]
"""Makes an array of uint8."""

MAX_BYTES = 8 * 2**30
"""Of all frames that are taken of one video."""

_FULL_RANGE = 2
"""FFmpeg's number."""

_DEFAULT_MATRIX = 5
"""FFmpeg's number of BT.601, which is what it takes where a video names no matrix."""


class Pictures:
    """The pictures of the frames `numbers` of a video, which all have the size of the first one that is taken.

    frames: uint8 (T, H, W, 3), made by `allocate` when its size is known. rescaled: how many frames were brought to
    another size than their own.
    """

    def __init__(self, path: str | Path, numbers: Sequence[int], settings: ReadSettings, allocate: Allocate) -> None:
        self.path, self.settings = path, settings
        self.rescaled = 0
        self.frames: np.ndarray | None = None
        self._allocate = allocate
        self._size: tuple[int, int] | None = None
        self._places: dict[int, list[int]] = {}
        for place, number in enumerate(numbers):
            self._places.setdefault(number, []).append(place)

    @property
    def wanted(self) -> list[int]:
        """The numbers, ascending, each once."""
        return sorted(self._places)

    def take(self, number: int, frame: VideoFrame) -> None:
        """Makes `frame` the picture of the frame `number`.

        Raises `VideoError` for pictures that are larger than is allowed.
        """
        size = allowed_size(self.path, frame.width, frame.height, self.settings)
        self._size = self._size or size
        self.rescaled += (frame.width, frame.height) != self._size
        picture = upright(to_rgb(frame, *self._size), frame)
        places = self._places[number]
        if self.frames is None:
            count = sum(map(len, self._places.values()))
            check_memory(self.path, count, *self._size)
            self.frames = self._allocate((count, *picture.shape))
        if picture.shape != self.frames.shape[1:]:
            raise VideoError(f"{self.path}: the frames are not all upright the same way.")
        self.frames[places] = picture


def allowed_size(path: str | Path, width: int, height: int, settings: ReadSettings) -> tuple[int, int]:
    """Width and height in which a frame of `width` x `height` is taken. Raises `VideoError` if it is too large."""
    pixels = width * height
    if pixels <= settings.max_frame_pixels:
        return width, height
    if not settings.shrink_frames:
        raise VideoError(
            f"{path}: a frame has {width} x {height} pixels, and {settings.max_frame_pixels:,} are read at most; "
            f"a higher max_frame_pixels reads it, and shrink_frames=True makes it smaller."
        )
    factor = math.sqrt(settings.max_frame_pixels / pixels)
    return max(1, int(width * factor)), max(1, int(height * factor))


def check_memory(path: str | Path, count: int, width: int, height: int) -> None:
    """Raises `VideoError` if `count` frames of this size are more than `MAX_BYTES`."""
    if 3 * count * width * height > MAX_BYTES:
        raise VideoError(
            f"{path}: {count} frames of {width} x {height} pixels take {3 * count * width * height / 2**30:.1f} GiB, "
            f"more than the {MAX_BYTES // 2**30} that one video may; take fewer frames, or shrink them."
        )


def to_rgb(frame: VideoFrame, width: int, height: int) -> np.ndarray:
    """uint8 (height, width, 3), converted by the frame's own matrix and range; BT.601 where it names none."""
    full = int(frame.color_range) == _FULL_RANGE or frame.format.name.startswith("yuvj")
    matrix = int(frame.colorspace)
    is_default = matrix in (0, 2, 3) and not full
    colours = (
        {}
        if is_default
        else {
            "src_colorspace": _DEFAULT_MATRIX if matrix in (0, 2, 3) else matrix,
            "dst_colorspace": _DEFAULT_MATRIX,
            "src_color_range": _FULL_RANGE if full else 1,
            "dst_color_range": 1,
        }
    )
    picture = frame.reformat(width, height, format="rgb24", interpolation="BICUBIC", **colours)
    plane = picture.planes[0]
    return (
        np.frombuffer(plane, np.uint8).reshape(plane.height, plane.line_size)[:, : 3 * width].reshape(height, width, 3)
    )


def upright(picture: np.ndarray, frame: VideoFrame) -> np.ndarray:
    """`picture`, (H, W, 3), turned and mirrored as the display matrix of `frame` says; quarter turns only."""
    matrix = _display_matrix(frame)
    if matrix is None:
        return picture
    across, down = np.sign(matrix[0]), np.sign(matrix[4])
    if abs(matrix[0]) < abs(matrix[1]):  # rows become columns
        across, down = np.sign(matrix[3]), np.sign(matrix[1])
        picture = picture.transpose(1, 0, 2)
    return picture[:: int(down) or 1, :: int(across) or 1]


def is_mirrored(path: str | Path) -> bool:
    """Whether the display matrix of the video mirrors its pictures, rather than only turns them."""
    with open_video(path) as (container, stream):
        matrix = _display_matrix(next(container.decode(stream)))
    return matrix is not None and int(matrix[0]) * int(matrix[4]) < int(matrix[1]) * int(matrix[3])


def _display_matrix(frame: VideoFrame) -> np.ndarray | None:
    """The 9 numbers of the frame's display matrix, row by row, if it has one."""
    from av.sidedata.sidedata import Type

    data = frame.side_data.get(Type.DISPLAYMATRIX)
    return None if data is None else np.frombuffer(data, np.int32, 9)
