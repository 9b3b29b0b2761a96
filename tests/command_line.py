"""Real command lines, run as a user runs them, on a tiny checkpoint with random weights."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest

TASKS = Path(__file__).parents[1] / "lmms_eval" / "tasks"
OFFLINE = {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1"}


@dataclass(frozen=True)
class Finished:
    """A command that has ended."""

    code: int
    output: str
    folder: Path

    def samples(self, task: str) -> dict[int, dict]:
        """The samples that lmms-eval wrote for `task`, by document."""
        (path,) = self.folder.rglob(f"*_samples_{task}.jsonl")
        rows = [json.loads(line) for line in path.read_text().splitlines()]
        assert len({row["doc_id"] for row in rows}) == len(rows)
        return {row["doc_id"]: row for row in rows}

    def results(self) -> dict:
        """What lmms-eval wrote as the results of every task."""
        (path,) = self.folder.rglob("*_results.json")
        return json.loads(path.read_text())["results"]


def finish(command: Sequence[str], folder: Path, environment: Mapping[str, str] | None = None) -> Finished:
    """Runs `command` in `folder`, offline."""
    settings = {key: value for key, value in os.environ.items() if key != "MODEL_PATH"}
    settings |= {"HF_HOME": str(folder / "hf"), "COLUMNS": "120", **OFFLINE, **(environment or {})}
    done = subprocess.run(
        [sys.executable, "-m", *command], cwd=folder, env=settings, capture_output=True, text=True, check=False
    )
    return Finished(done.returncode, done.stdout + done.stderr, folder)


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny checkpoint with random weights in the official layout."""
    from st_simdiff.checkpoints.llava_video.tiny import write_tiny_checkpoint

    folder = tmp_path_factory.mktemp("checkpoint") / "llava-video-tiny"
    write_tiny_checkpoint(folder, seed=0)
    return folder


@pytest.fixture(scope="session")
def start(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Future[Finished]]:
    """start(command, environment): runs `python -m command` in a new folder, two commands at a time."""
    with ThreadPoolExecutor(max_workers=2) as pool:

        def submit(command: Sequence[str], environment: Mapping[str, str] | None = None, folder: Path | None = None):
            place = folder or tmp_path_factory.mktemp("run")
            return pool.submit(finish, [str(part) for part in command], place, environment)

        yield submit
