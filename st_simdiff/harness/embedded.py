"""The evaluation that needs no download: a small checkpoint of our own, asked about real clips."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

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
    """The embedded checkpoint, written under `cache` when it is not there yet. The same bytes every time."""
    folder = cache / "llava-video-random"
    if not (folder / "config.json").exists():
        write_tiny_checkpoint(folder, seed=0, image_size=224)
    return EmbeddedCheckpoint(folder, trained=False)
