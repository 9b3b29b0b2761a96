"""The subtitled tasks: their subtitle files, and for how many frames of a video a prompt has the subtitles."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from st_simdiff.checks import read_frame_budget
from st_simdiff.errors import InputError
from st_simdiff.lmms.subtitle_files import digest_of_folder
from st_simdiff.lmms.task_names import load_task_file
from st_simdiff.lmms.video_folders import FOLDERS
from st_simdiff.vocabulary import ALL_FRAMES, TASKS, WRAPPER

SUBTITLED = {task.name: task for task in TASKS if task.subtitles}
"""This project's subtitled tasks, by name."""
BUDGET = "frame_num"
"""The entry of `lmms_eval_specific_kwargs` with the number of frames; lmms-eval's own name."""
SUBTITLE_FRAMES = "subtitle_frames"
"""The protocol's name for it."""
_EVERY_FRAME = -1

Frames = int | str
"""So many, or `ALL_FRAMES`."""


def check_has_effect(given: Any, tasks: Iterable[str]) -> None:
    """Raises `InputError` for a budget that is `given` where none of `tasks` has subtitles."""
    if given is not None and not any(task in SUBTITLED for task in tasks):
        raise InputError(f"{SUBTITLE_FRAMES} is for the subtitled tasks, which are {' and '.join(SUBTITLED)}.")


def read_budget(task: str, own: Any, common: Frames | None) -> Frames | None:
    """The budget that is given for `task`; None where none is, and for a task without subtitles.

    own: of one run, a number, text or None. common: of all runs. Raises `InputError` for both together, for what is no
    number of frames, and for one that the task cannot meet.
    """
    if own is not None and common is not None:
        raise InputError(f"{SUBTITLE_FRAMES} is given twice: {own} and --{SUBTITLE_FRAMES} {common}.")
    try:
        given = common if own is None else read_frame_budget(own)
    except InputError as error:
        raise InputError(f"{SUBTITLE_FRAMES}: {error}") from error
    if task not in SUBTITLED:
        return None
    if given == ALL_FRAMES and SUBTITLED[task].interleaved:
        raise InputError(f"{task} puts subtitles between frames: {SUBTITLE_FRAMES} is their number, got {given}.")
    return given


def budget_of(task: str, model: str, given: Frames | None) -> Frames | None:
    """For how many frames of a video `task` has the subtitles when it asks `model`; None for a task without any.

    Evenly spaced over the video; a subtitle that is shown at one of them is in the prompt. given: what the user wants;
    None for what lmms-eval gives the model.
    """
    if task not in SUBTITLED:
        return None
    if given is not None:
        return given
    blocks = _blocks(task)
    frames = blocks.get(model.removeprefix(WRAPPER), blocks["default"])[BUDGET]
    return ALL_FRAMES if frames == _EVERY_FRAME else frames


def task_with_budget(task: str, frames: Frames | None) -> str | dict[str, Any]:
    """`task` as lmms-eval is told it: its name, or for a subtitled one what goes over its file as well."""
    if task not in SUBTITLED or frames is None:
        return task
    number = _EVERY_FRAME if frames == ALL_FRAMES else frames
    blocks = {model: {**block, BUDGET: number} for model, block in _blocks(task).items()}
    return {"task": task, "lmms_eval_specific_kwargs": blocks}


def refuse_without_subtitles(tasks: Iterable[str], home: Path) -> None:
    """Raises `InputError` for a subtitled task without a single subtitle file. home: where lmms-eval keeps videos."""
    for task in (name for name in tasks if name in SUBTITLED):
        place, suffix = _place(task, home)
        if not any(place.parent.glob(f"*{suffix}")):
            raise InputError(
                f"No subtitles of task {task} are present: it takes those in {place}; put them there, or name "
                f"another folder than {home} in HF_HOME."
            )


def digests(tasks: Iterable[str], home: Path) -> dict[str, str]:
    """What the subtitle files of every subtitled task say, for the protocols of its runs: other files are other runs.

    home: where lmms-eval keeps videos.
    """
    places = {task: _place(task, home) for task in tasks if task in SUBTITLED}
    return {task: digest_of_folder(place.parent, suffix) for task, (place, suffix) in places.items()}


def _place(task: str, home: Path) -> tuple[Path, str]:
    """Where the subtitle files of a task are, and how their names end."""
    folder = FOLDERS[SUBTITLED[task].stock.split("_")[0]]
    return home / folder.cache / folder.subtitles, folder.subtitle_suffix


def _blocks(task: str) -> Mapping[str, Mapping[str, Any]]:
    """What the task's file says to single models, by the model's name."""
    (file,) = (Path(__file__).parent / "tasks").resolve().rglob(f"{task}.yaml")
    return load_task_file(file)["lmms_eval_specific_kwargs"]
