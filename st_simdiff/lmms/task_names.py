"""The names of lmms-eval's tasks and of ours, read from their yaml files: lmms-eval's own index takes seconds."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from fnmatch import fnmatch
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import yaml

from st_simdiff.errors import InputError, unknown

try:
    from yaml import CSafeLoader as SafeLoader
except ImportError:
    from yaml import SafeLoader


class _Loader(SafeLoader):
    """Reads `!function` as nothing: names are plain text."""


_Loader.add_multi_constructor("!", lambda loader, suffix, node: None)  # noqa: ARG005


_LIKELIHOODS = ("loglikelihood", "multiple_choice")
"""Kinds of output that are no generated text."""


def refuse_unknown_tasks(
    tasks: Iterable[str], folders: Iterable[Path], drawn: Iterable[str] = (), generating: Iterable[str] = ()
) -> None:
    """Raises `InputError`, with the closest name, for a task that lmms-eval does not have.

    tasks: names, patterns such as `mvbench_*`, or yaml files. folders: searched beside lmms-eval's own tasks.
    drawn: names of tasks that lie in no folder yet. generating: harness models that only generate, for which tasks that
    are answered by likelihoods are refused, too.
    """
    tasks = list(tasks)
    wanted = [task for task in tasks if not is_task_file(task)]
    known = {**known_tasks(folders), **dict.fromkeys(drawn)} if wanted else {}
    for task in wanted:
        if "*" in task and not any(fnmatch(name, task) for name in known):
            raise InputError(f"No task of lmms-eval matches {task!r}.")
        if "*" not in task and task not in known:
            error = unknown("task", task, known)
            sentence, _, _ = str(error).partition(" Valid: ")
            raise InputError(
                f"{sentence} `python -m lmms_eval --tasks list` lists all {len(known):,}; the folder of your own tasks "
                "is given as `-- --include_path FOLDER`."
            )
    for model in generating:
        for task in tasks:
            _refuse_likelihoods(model, task, known)


def _refuse_likelihoods(model: str, task: str, known: Mapping[str, Any]) -> None:
    configs = [load_task_file(Path(task))] if is_task_file(task) else []
    configs += [config for name, config in known.items() if fnmatch(name, task)]
    for config in filter(None, configs):
        parts = config.get("task")
        for part in parts if isinstance(parts, list) else ():
            if isinstance(part, str) and part in known:
                _refuse_likelihoods(model, part, known)
        if config.get("output_type") in _LIKELIHOODS:
            raise InputError(
                f"{task} asks for the likelihoods of answers, which {model} does not give for videos; llava_video and "
                "nvila do."
            )


def is_task_file(task: str) -> bool:
    return task.endswith(".yaml") and Path(task).is_file()


def known_tasks(folders: Iterable[Path] = ()) -> dict[str, Any]:
    """The tasks, groups and tags under lmms-eval's own folder and `folders`, and what their files say."""
    spec = find_spec("lmms_eval")
    if spec is None or not spec.submodule_search_locations:
        raise InputError("lmms-eval is not installed: pip install 'st-simdiff[eval]'.")
    stock = [Path(place) / "tasks" for place in spec.submodule_search_locations]
    known: dict[str, Any] = {}
    for folder in (*stock, *folders):
        for file in sorted(Path(folder).rglob("*.yaml")):
            config = load_task_file(file)
            known.update(dict.fromkeys(_names(config), config))
    return known


def load_task_file(file: Path) -> Any:
    """What a task file says, with the files that it includes."""
    try:
        config = yaml.load(file.read_bytes(), _Loader)
    except (yaml.YAMLError, OSError) as error:
        raise InputError(f"The task file {file} is not readable as YAML: {' '.join(str(error).split())}.") from error
    if not isinstance(config, dict) or "include" not in config:
        return config
    included = config["include"]
    for name in [included] if isinstance(included, str) else included:
        config = {**load_task_file(file.parent / name), **config}
    return config


def _names(config: Any) -> Iterator[str]:
    """As lmms-eval's TaskManager indexes a file: a group whose tasks are listed, or a task with its groups and tags."""
    if not isinstance(config, dict):
        return
    task = config.get("task")
    if isinstance(task, list):
        yield str(config.get("group"))
    elif isinstance(task, str):
        yield task
        for key in ("tag", "group"):
            value = config.get(key)
            yield from [value] if isinstance(value, str) else value or []
