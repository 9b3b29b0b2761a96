"""A clip whose events are known: an object that appears and disappears, a flash, and a cut."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

FRAMES = 16
CELLS = 14
_CELL = 32


@dataclass(frozen=True)
class KnownEvents:
    """frames: uint8 (T, h, w, 3). changed: bool (T, 14, 14), patches that differ from the frame before by an event."""

    frames: np.ndarray
    changed: np.ndarray


OBJECT = (slice(6, 11), slice(3, 6))
OBJECT_FRAMES = range(3, 8)
FLASH = (slice(2, 4), slice(9, 12))
FLASH_FRAME = 5
CUT_FRAME = 11


def draw_known_events(seed: int = 0) -> KnownEvents:
    """The clip and its ground truth. What is no event changes as well: light drifts, and every pixel is noisy.

    A red and white object stands in `OBJECT` during `OBJECT_FRAMES`, a lamp flashes in `FLASH` at `FLASH_FRAME`, and
    from `CUT_FRAME` on there is another scene.
    """
    random = np.random.default_rng(seed)
    side = CELLS * _CELL
    down, across = np.mgrid[0:side, 0:side] / side
    day = np.stack([90 + 40 * across, 120 + 30 * down, 60 + 20 * across * down], -1)
    night = np.stack([205 - 30 * down, 190 - 20 * across, 235 - 25 * down], -1)
    stripes = (np.indices((side, side)).sum(0) // 16 % 2)[..., None]
    thing = np.where(stripes, (235, 225, 220), (185, 20, 35)).astype(float)

    frames, changed = [], np.zeros((FRAMES, CELLS, CELLS), dtype=bool)
    for index in range(FRAMES):
        picture = (day if index < CUT_FRAME else night) + 8 * np.sin(index / 3)
        if index in OBJECT_FRAMES:
            picture[_pixels(OBJECT)] = thing[_pixels(OBJECT)]
        if index == FLASH_FRAME:
            picture[_pixels(FLASH)] = 250
        noisy = picture + random.normal(0, 5, picture.shape)
        frames.append(noisy.clip(0, 255).round().astype(np.uint8))
    for index in (OBJECT_FRAMES.start, OBJECT_FRAMES.stop):
        changed[index][OBJECT] = True
    for index in (FLASH_FRAME, FLASH_FRAME + 1):
        changed[index][FLASH] = True
    changed[CUT_FRAME] = True
    return KnownEvents(np.stack(frames), changed)


def write_known_events(path: str | Path, seed: int = 0) -> KnownEvents:
    """Writes the clip as an MP4 of two frames a second and returns it with its ground truth."""
    clip = draw_known_events(seed)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=Fraction(2), options={"crf": "12"})
        stream.height, stream.width = clip.frames.shape[1:3]
        stream.pix_fmt = "yuv420p"
        for frame in clip.frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())
    return clip


def _pixels(cells: tuple[slice, slice]) -> tuple[slice, slice]:
    return tuple(slice(part.start * _CELL, part.stop * _CELL) for part in cells)
