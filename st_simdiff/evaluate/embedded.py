"""The evaluation that needs no download: small checkpoints of our own, and questions that can be asked offline."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from filelock import FileLock

from st_simdiff.errors import InputError
from st_simdiff.files import USER_CACHE
from st_simdiff.lmms.task_names import refuse_unknown_tasks
from st_simdiff.synth.dataset import TASK
from st_simdiff.synth.embedded import CHECKPOINT, prepare

RETENTIONS = (0.5, 0.3)
CACHE_FOLDER = USER_CACHE / "embedded"
QUESTIONS, ALL_QUESTIONS = 300, 1000
"""About the clips of SynthEvents: of a usual run, and of one with `--full`."""
TASKS_FOLDER = Path(__file__).parents[1] / "lmms" / "tasks"
"""This project's lmms-eval tasks; in the checkout a link to lmms_eval/tasks."""
CLIPS_TASKS = frozenset({"clips", "clips_likelihood"})


@dataclass(frozen=True)
class Embedded:
    """A checkpoint in the official LLaVA-Video layout and what it is asked.

    tasks: of lmms-eval. model_args: how it sees a video. trained: whether its score means anything.
    """

    checkpoint: Path
    tasks: str
    model_args: Mapping[str, Any]
    trained: bool


def embedded_evaluation(tasks: str | None, cache: Path = CACHE_FOLDER, included: Iterable[Path] = ()) -> Embedded:
    """What is evaluated without a checkpoint: the trained tiny model on SynthEvents, where no tasks are named.

    Tasks on real clips get a checkpoint with random weights, written under `cache`: the trained one knows its own small
    world only. included: folders of the user's own tasks. Raises `InputError` for a task that does not exist, and for
    other tasks, which need a checkpoint.
    """
    names = {TASK} if tasks is None else set(tasks.split(","))
    if names == {TASK}:
        return Embedded(CHECKPOINT, TASK, {"max_frames_num": 16, "force_sample": True}, trained=True)
    if names <= CLIPS_TASKS:
        random = random_checkpoint(cache)
        return Embedded(random, ",".join(sorted(names)), {"max_frames_num": 16, "fps": 2}, trained=False)
    refuse_unknown_tasks(names, [TASKS_FOLDER, *included], drawn=[TASK])
    raise InputError(
        f"Tasks {tasks} need a checkpoint: add --model_path CHECKPOINT, or set MODEL_PATH. Without one the tasks are "
        f"{TASK}, or {' and '.join(sorted(CLIPS_TASKS))}."
    )


def tasks_folder(tasks: str, questions: int, cache: Path = CACHE_FOLDER) -> Path:
    """The folder in which lmms-eval finds this project's tasks among `tasks`, for its `--include_path`.

    The clips of SynthEvents, and `questions` questions about them, are drawn under `cache` when they are not there yet.
    Raises `InputError` where SynthEvents is not the only task: lmms-eval looks in one folder.
    """
    names = tasks.split(",")
    if TASK not in names:
        return TASKS_FOLDER
    if len(names) > 1:
        raise InputError(f"{TASK} is asked by itself, as its clips lie in a folder of their own, got {tasks}.")
    with _claimed(cache):
        return prepare(cache, questions)[1]


def random_checkpoint(cache: Path = CACHE_FOLDER) -> Path:
    """A checkpoint with random weights, written under `cache` when it is not there as this version writes it."""
    # Imported here, as it takes longer to load than all that a usual run is planned with.
    from st_simdiff.checkpoints.llava_video.tiny import write_tiny_checkpoint

    folder = cache / "llava-video-random"
    with _claimed(cache), TemporaryDirectory(dir=cache) as scratch:
        fresh = write_tiny_checkpoint(Path(scratch) / "fresh", seed=0, image_size=224)
        if _contents(fresh) != _contents(folder):
            shutil.rmtree(folder, ignore_errors=True)
            fresh.rename(folder)
    return folder


def _claimed(cache: Path) -> FileLock:
    """Keeps other commands of this user from writing there at the same time."""
    cache.mkdir(parents=True, exist_ok=True)
    return FileLock(cache / "lock")


def _contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.glob("*")}
