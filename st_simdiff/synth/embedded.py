"""What the evaluation that needs no download uses: the trained tiny model, and questions about held-out clips."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from st_simdiff.errors import InputError
from st_simdiff.synth.dataset import TASK, write_dataset

CHECKPOINT = Path(__file__).parent / "checkpoint"
_NEEDED = {"sklearn": "scikit-learn", "av": "av", "pyarrow": "pyarrow"}


def prepare(
    cache_dir: Path | str, questions: int = 1000, *, world: str = "plain", split: str = "test", seed: int = 0
) -> tuple[Path, Path, str]:
    """The trained checkpoint, the folder for lmms-eval's `--include_path`, and the name of the task in it.

    The clips and questions are drawn into `cache_dir` when they are not there yet; the same ones every time. Raises
    InputError for an unknown world or split, for fewer than one question and for a package that is missing.
    """
    missing = [package for module, package in _NEEDED.items() if importlib.util.find_spec(module) is None]
    if missing:
        raise InputError(f"SynthEvents needs {', '.join(missing)}: pip install 'st-simdiff[synth]'.")
    folder = Path(cache_dir).resolve() / f"{TASK}-{world}-{split}-{questions}-{seed}"
    if not (folder / "test.parquet").exists():
        write_dataset(folder, world, split, questions, seed)
    return CHECKPOINT, folder, TASK
