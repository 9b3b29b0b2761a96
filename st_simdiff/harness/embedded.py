"""The evaluation that needs no download: a small checkpoint of our own, asked about real clips."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from llava.tiny import write_tiny_checkpoint

TASK = "clips"
RETENTIONS = (0.5, 0.3)
MODEL_ARGS = {"max_frames_num": 16, "fps": 2}
CACHE_FOLDER = Path(".cache") / "embedded"


@dataclass(frozen=True)
class EmbeddedCheckpoint:
    """folder: in the official LLaVA-Video layout. trained: whether a score of it means anything."""

    folder: Path
    trained: bool


def embedded_checkpoint(cache: Path = CACHE_FOLDER) -> EmbeddedCheckpoint:
    """The embedded checkpoint, written under `cache` when it is not there as this version writes it."""
    folder = cache / "llava-video-random"
    cache.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=cache) as scratch:
        fresh = write_tiny_checkpoint(Path(scratch) / "fresh", seed=0, image_size=224)
        if _contents(fresh) != _contents(folder):
            shutil.rmtree(folder, ignore_errors=True)
            fresh.rename(folder)
    return EmbeddedCheckpoint(folder, trained=False)


def _contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.glob("*")}
