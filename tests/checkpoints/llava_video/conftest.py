"""What the tests of the LLaVA-Video checkpoints share: a small checkpoint."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from st_simdiff.checkpoints.llava_video.loading import LoadedLlavaVideo, load_llava_video
from st_simdiff.checkpoints.llava_video.tiny import write_tiny_checkpoint


@pytest.fixture(scope="session")
def tiny_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Read only."""
    return write_tiny_checkpoint(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="session")
def tiny(tiny_checkpoint: Path) -> LoadedLlavaVideo:
    return load_llava_video(tiny_checkpoint, dtype=torch.float32)
