"""From what is asked for to runs, and to runs that share a model. All that can be checked before loading, is."""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from st_simdiff.answering.arguments import AnsweringArguments, join_model_args, split_model_args
from st_simdiff.answering.checkpoints import is_here, locate_checkpoint
from st_simdiff.errors import InputError
from st_simdiff.evaluate import embedded
from st_simdiff.evaluate.estimate import Task
from st_simdiff.evaluate.grid import Cell, expand
from st_simdiff.evaluate.launch import Machines, Sweep
from st_simdiff.evaluate.request import EMBEDDED, Checkpoint, read_request
from st_simdiff.lmms.models import find_model
from st_simdiff.lmms.task_names import refuse_unknown_tasks
from st_simdiff.lmms.video_folders import hf_home, refuse_empty
from st_simdiff.methods.base import Method
from st_simdiff.methods.full import Full
from st_simdiff.runs.protocol import Protocol, changed_settings, describe_method, plan_protocol, short_hash
from st_simdiff.runs.run import Run

OWN_OPTIONS = ("model", "model_args", "tasks", "limit", "output_path")
NOT_TAKEN = ("config", "wandb_args", "swanlab_args", "hf_hub_log_args", "power_analysis")
"""Options of lmms-eval's command line that its evaluator does not have."""


@dataclass(frozen=True)
class Plan:
    """runs: all that are asked for. sweeps: those that are not finished, by the model that they share.

    meaningful, stand_in: as in `Request`.
    """

    runs: tuple[Run, ...]
    sweeps: tuple[Sweep, ...]
    meaningful: bool = True
    stand_in: bool = False


def make_plan(options: argparse.Namespace, extra: Sequence[str], environment: Mapping[str, str]) -> Plan:
    """Checks everything and lays out the runs. Draws the embedded clips where they are needed.

    Raises `InputError` in one sentence for whatever cannot be run.
    """
    check_extra(extra)
    machines = Machines(
        options.num_processes,
        options.num_machines,
        options.machine_rank,
        options.main_process_ip,
        options.main_process_port,
    )
    request = read_request(options, environment)
    cells = list(expand(request.grids))
    tasks = tuple(dict.fromkeys(cell.task for cell in cells))
    folders = _tasks_folders(tasks, options.full)
    refuse_unknown_tasks(tasks, [*folders, *_included(extra)])
    given = Given(request.limit, tuple(extra), tuple(folder.name for folder in folders[:-1]))
    for cell in cells:
        read_settings(cell, request.checkpoints[cell.model])  # a wrong one is refused before anything is fetched
    checkpoints = {model: pinned(model, checkpoint) for model, checkpoint in request.checkpoints.items()}
    runs = make_runs(cells, checkpoints, Path(options.output_path), given)
    for run in runs:
        run.refuse_other_protocol()
    refuse_empty(tasks, hf_home(environment))
    limit = [] if request.limit is None else ["--limit", request.limit]
    arguments = ("--batch_size", "1", "--verbosity", "WARNING", "--timezone", "UTC", *limit, *extra)
    groups = group_by_model([run for run in runs if run.results() is None])
    sweeps = []
    for number, shared in enumerate(groups, start=1):
        here = dataclasses.replace(machines, on_cpu=_on_cpu(shared[0]))
        later = tuple(run.task for others in groups[number:] for run in others)
        sweeps.append(Sweep(tuple(shared), len(runs), folders, here, arguments, later))
    return Plan(tuple(runs), tuple(sweeps), request.meaningful, request.stand_in)


def list_tasks(options: argparse.Namespace, extra: Sequence[str], environment: Mapping[str, str]) -> list[Task]:
    """What `--dry_run` lists: the runs of the plan and how far they have come; of a config file without checkpoints,
    or where one would have to be fetched first, the runs alone. Raises `InputError` as `make_plan`."""
    request = read_request(options, environment)
    if request.checkpoints and all(is_here(model, one.path) for model, one in request.checkpoints.items()):
        trained_here = any(checkpoint.name == EMBEDDED for checkpoint in request.checkpoints.values())
        runs = make_plan(options, extra, environment).runs
        return [_listed(run, EMBEDDED if trained_here else run.model, request.limit) for run in runs]
    tasks: dict[str, Task] = {}
    for cell in expand(request.grids):
        model = find_model(cell.model)
        settings = {"pretrained": "-", **model.defaults, **cell.settings}
        model.parse(settings)
        method, own = model.split(settings)
        key = short_hash({"model": cell.model, "task": cell.task, **own}, describe_method(method))
        label = describe(method, cell.varied)
        tasks.setdefault(key, Task(cell.model, cell.task, label, method, own, limit=request.limit))
    refuse_unknown_tasks({task.task for task in tasks.values()}, [embedded.TASKS_FOLDER, *_included(extra)])
    return list(tasks.values())


def _listed(run: Run, model: str, limit: str | None) -> Task:
    method, own = find_model(run.model).split(split_model_args(run.model_args))
    answers = run.answers()
    state = "finished" if run.results() else f"{answers} answers" if answers else ""
    return Task(model, run.task, run.label, method, own, state, limit)


def check_extra(extra: Sequence[str]) -> None:
    """Raises `InputError` for an argument of lmms-eval that would not do what it says."""
    for argument in extra:
        name = argument.partition("=")[0].removeprefix("--")
        if name in OWN_OPTIONS and argument.startswith("--"):
            raise InputError(f"{argument} comes before the lone --, where st-simdiff can see it.")
        if name in NOT_TAKEN and argument.startswith("--"):
            raise InputError(f"{argument} works with lmms-eval's own command line only, `python -m lmms_eval`.")


@dataclass(frozen=True)
class Given:
    """What all runs of a plan share. limit: of the questions. extra: arguments of lmms-eval. drawn: names of the data
    that are drawn, not downloaded.
    """

    limit: str | None = None
    extra: tuple[str, ...] = ()
    drawn: tuple[str, ...] = ()


def make_runs(
    cells: Iterable[Cell], checkpoints: Mapping[str, Checkpoint], output: Path, given: Given = Given()
) -> list[Run]:
    """Every combination once. The folder's name follows from what is run: the same again is the same folder."""
    runs: dict[str, Run] = {}
    protocols: dict[tuple[str, ...], Protocol] = {}
    has_gpu = torch.cuda.device_count() > 0
    for cell in cells:
        checkpoint = checkpoints[cell.model]
        model_args, arguments, method, own = read_settings(cell, checkpoint)
        key = (cell.model, cell.task, join_model_args(own))
        if key not in protocols:
            data = next((name for name in given.drawn if name.startswith(f"{cell.task}-")), None)
            planned = plan_protocol(cell.model, own, arguments, has_gpu)
            asked = {"task": cell.task, "data": data, "limit": given.limit, "lmms_eval": " ".join(given.extra)}
            protocols[key] = planned | {name: value for name, value in asked.items() if value}
        described, label = describe_method(method), describe(method, cell.varied)
        # Not every setting: a later version may have one more.
        code = short_hash(protocols[key], {"name": method.name, **changed_settings(method)})
        if code not in runs:
            folder = output.joinpath(checkpoint.name, Path(cell.task).stem, f"{_file_name(label)}-{code}")
            place = (cell.model, model_args, cell.task, folder)
            runs[code] = Run(len(runs) + 1, label, *place, protocols[key], described)
    return list(runs.values())


def read_settings(cell: Cell, checkpoint: Checkpoint) -> tuple[str, AnsweringArguments | None, Method, dict[str, Any]]:
    """The settings of a run as text, parsed (None for a twin), the method's and the model's.

    Raises `InputError` for settings that cannot be used.
    """
    model = find_model(cell.model)
    settings = {"pretrained": checkpoint.path, **model.defaults, **cell.settings}
    return _model_args(settings), model.parse(settings), *model.split(settings)


def pinned(model: str, checkpoint: Checkpoint) -> Checkpoint:
    """A name on the hub at the commit that it stands for now, fetched if need be; a folder as it is.

    So all processes of a run, and the same run resumed, load the same files. Raises `InputError` for a name that cannot
    be had.
    """
    located = locate_checkpoint(model, checkpoint.path)
    return checkpoint if located.commit is None else dataclasses.replace(checkpoint, path=located.pinned)


def describe(method: Method, varied: Mapping[str, Any]) -> str:
    """`fastv, retention 0.3`, and whatever is not as it is by default."""
    differing = changed_settings(method)
    differing.pop("retention", None)
    parts = [f"{key} {value}" for key, value in {**differing, **varied}.items()]
    kept = [] if isinstance(method, Full) else [f"retention {method.retention:g}"]
    return ", ".join([method.name, *kept, *parts])


def group_by_model(runs: Iterable[Run]) -> list[list[Run]]:
    """The runs that differ in nothing but task and method, together."""
    groups: dict[str, list[Run]] = {}
    for run in runs:
        _, own = find_model(run.model).split(split_model_args(run.model_args))
        groups.setdefault(f"{run.model} {join_model_args(own)}", []).append(run)
    return list(groups.values())


def _on_cpu(run: Run) -> bool:
    _, own = find_model(run.model).split(split_model_args(run.model_args))
    device = own.get("device", "auto")
    return device == "cpu" or (device == "auto" and torch.cuda.device_count() == 0)


def _model_args(settings: Mapping[str, Any]) -> str:
    for key, value in settings.items():
        if "," in str(value):
            raise InputError(f"lmms-eval splits its arguments at commas, so {key} can have none, got {value}.")
    return join_model_args(settings)


def _file_name(label: str) -> str:
    short = label.replace("retention ", "r").replace(", ", "_").replace(" ", "")
    return "".join(letter if letter.isalnum() or letter in "._-" else "-" for letter in short)[:100]


def _tasks_folders(tasks: Iterable[str], full: bool) -> tuple[Path, ...]:
    """Where lmms-eval finds this project's tasks: those that are drawn go first, as the first of a name counts."""
    questions = embedded.ALL_QUESTIONS if full else embedded.QUESTIONS
    drawn = [embedded.tasks_folder(task, questions) for task in tasks]
    return tuple(dict.fromkeys([*(one for one in drawn if one != embedded.TASKS_FOLDER), embedded.TASKS_FOLDER]))


def _included(extra: Sequence[str]) -> list[Path]:
    """The folder of the user's own tasks."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--include_path", type=Path)
    folder = parser.parse_known_args(list(extra))[0].include_path
    return [folder] if folder else []
