"""From what is asked for to runs, and to batches that share a model. All that can be checked before loading, is."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from st_simdiff.answering.checkpoints import earlier_fingerprint, given_checkpoint, is_here, locate_checkpoint
from st_simdiff.errors import InputError
from st_simdiff.evaluate import embedded
from st_simdiff.evaluate.estimate import Entry
from st_simdiff.evaluate.evaluations import Read, read_evaluation
from st_simdiff.evaluate.grid import expand
from st_simdiff.evaluate.launch import Machines
from st_simdiff.evaluate.passed_on import check_passed_on
from st_simdiff.evaluate.request import EMBEDDED, Checkpoint, Request, read_request
from st_simdiff.files import check_folder
from st_simdiff.lmms.models import find_model
from st_simdiff.lmms.subtitles import (
    SUBTITLE_FRAMES,
    budget_of,
    check_has_effect,
    digests,
    refuse_without_subtitles,
)
from st_simdiff.lmms.task_names import refuse_unknown_tasks
from st_simdiff.lmms.video_folders import hf_home, refuse_empty
from st_simdiff.methods.settings import describe_method
from st_simdiff.model_args import join_model_args, read_value
from st_simdiff.runs.batch import Batch
from st_simdiff.runs.protocol import MODEL_BASE, as_earlier, plan_protocol, run_code, short_hash
from st_simdiff.runs.run import Evaluation, Run, Standing
from st_simdiff.vocabulary import FULL


@dataclass(frozen=True)
class Plan:
    """runs: all that are asked for. standings: how far each has come. batches: those that are not finished, by the
    model that they share.

    machines: what carries them out. meaningful, stand_in: as in `Request`.
    """

    runs: tuple[Run, ...]
    standings: tuple[Standing, ...]
    batches: tuple[Batch, ...]
    machines: Machines
    meaningful: bool = True
    stand_in: bool = False


def make_plan(options: argparse.Namespace, extra: Sequence[str], environment: Mapping[str, str]) -> Plan:
    """Checks everything and lays out the runs. Draws the embedded clips where they are needed.

    Raises `InputError` in one sentence for whatever cannot be run.
    """
    check_folder(Path(options.output_path), "--output_path")
    own_tasks = check_passed_on(extra)
    request = read_request(options, environment, _listed(own_tasks))
    return _plan(request, options, extra, _listed(own_tasks), environment)


def list_entries(options: argparse.Namespace, extra: Sequence[str], environment: Mapping[str, str]) -> list[Entry]:
    """What `--dry_run` lists: the runs of the plan and how far they have come; of a config file without checkpoints,
    or where one would have to be fetched first, the evaluations alone. Raises `InputError` as `make_plan`."""
    included = _listed(check_passed_on(extra))
    request = read_request(options, environment, included)
    if request.checkpoints and all(is_here(model, one.path) for model, one in request.checkpoints.items()):
        trained_here = any(checkpoint.name == EMBEDDED for checkpoint in request.checkpoints.values())
        plan = _plan(request, options, extra, included, environment)
        shown = [replace(run, model=EMBEDDED) if trained_here else run for run in plan.runs]
        return [Entry(one, _state(found), request.limit) for one, found in zip(shown, plan.standings, strict=True)]
    evaluations: dict[str, Evaluation] = {}
    for combination in expand(request.grids):
        one, _ = read_evaluation(combination, "-", options.subtitle_frames)
        asked = {"model": one.model, "task": one.task, SUBTITLE_FRAMES: one.subtitle_frames, **one.settings}
        key = short_hash(asked, describe_method(one.method))
        evaluations.setdefault(key, one)
    tasks = {one.task for one in evaluations.values()}
    refuse_unknown_tasks(tasks, [embedded.TASKS_FOLDER, *included])
    return [Entry(one, limit=request.limit) for one in evaluations.values()]


def _state(found: Standing) -> str:
    return "finished" if found.results else f"{found.answers} answers" if found.answers else ""


def _listed(folder: Path | None) -> list[Path]:
    return [] if folder is None else [folder]


def _plan(
    request: Request,
    options: argparse.Namespace,
    extra: Sequence[str],
    included: Sequence[Path],
    environment: Mapping[str, str],
) -> Plan:
    machines = Machines(
        options.num_processes,
        options.num_machines,
        options.machine_rank,
        options.main_process_ip,
        options.main_process_port,
    )
    combinations = list(expand(request.grids))
    tasks = tuple(dict.fromkeys(one.task for one in combinations))
    folders = _tasks_folders(tasks, options.full)
    generating = dict.fromkeys(one.model for one in combinations if find_model(one.model).stock is not None)
    refuse_unknown_tasks(tasks, [*folders, *included], generating=generating)
    budgets = [options.subtitle_frames, *(one.settings.get(SUBTITLE_FRAMES) for one in combinations)]
    check_has_effect(next((given for given in budgets if given is not None), None), tasks)
    drawn = tuple(folder.name for folder in folders[:-1])
    # All are read first: wrong settings are refused before a checkpoint is fetched.
    # Methods come before the full model, which has no settings: a misspelt one is explained by those of the method.
    order = sorted(range(len(combinations)), key=lambda index: combinations[index].settings["method"] == FULL)
    by_index = {
        index: read_evaluation(
            combinations[index], request.checkpoints[combinations[index].model].path, options.subtitle_frames
        )
        for index in order
    }
    read = [by_index[index] for index in range(len(combinations))]
    runs = make_runs(read, request, Path(options.output_path), extra, drawn, digests(tasks, hf_home(environment)))
    for run in runs:
        run.refuse_other_protocol()
    refuse_empty(tasks, hf_home(environment))
    refuse_without_subtitles(tasks, hf_home(environment))
    limit = [] if request.limit is None else ["--limit", request.limit]
    arguments = ("--batch_size", "1", "--verbosity", "WARNING", "--timezone", "UTC", *limit, *extra)
    standings = [run.standing() for run in runs]
    groups = group_by_model([run for run, found in zip(runs, standings, strict=True) if found.results is None])
    batches = []
    for number, shared in enumerate(groups, start=1):
        later = tuple(run.task for others in groups[number:] for run in others)
        batches.append(Batch(tuple(shared), len(runs), folders, arguments, later))
    return Plan(tuple(runs), tuple(standings), tuple(batches), machines, request.meaningful, request.stand_in)


def make_runs(
    evaluations: Iterable[Read],
    request: Request,
    output: Path,
    extra: Sequence[str],
    drawn: Sequence[str],
    subtitles: Mapping[str, str],
) -> list[Run]:
    """Every evaluation once. The folder's name follows from what is run: the same again is the same folder. Raises
    `InputError` where values that are swept make no different runs.

    output: folder of all results. extra: arguments of lmms-eval. drawn: names of the data that are drawn, not
    downloaded. subtitles: by subtitled task, what identifies its subtitle files.
    """
    runs: dict[str, Run] = {}
    protocols: dict[tuple[str, ...], dict[str, Any]] = {}
    has_gpu = torch.cuda.device_count() > 0
    for read, arguments in evaluations:
        checkpoint, settings = pinned(read.model, request.checkpoints[read.model], read.settings)
        one = replace(read, settings=settings)
        key = (one.model, one.task, str(one.subtitle_frames), join_model_args(one.settings))
        if key not in protocols:
            data = next((name for name in drawn if name.startswith(f"{one.task}-")), None)
            planned = plan_protocol(one.model, one.settings, arguments, has_gpu)
            asked = {"task": one.task, "data": data, "limit": request.limit, "lmms_eval": " ".join(extra)}
            asked["subtitles"] = subtitles.get(one.task)
            asked[SUBTITLE_FRAMES] = budget_of(one.task, one.model, one.subtitle_frames)
            protocols[key] = planned | {name: value for name, value in asked.items() if value}
        code = run_code(protocols[key], one.method)
        if code in runs:
            _refuse_one_run_twice(runs[code], one)
        else:
            place = output.joinpath(checkpoint.name, Path(one.task).stem)
            folder = next(place.glob(f"*-{code}"), place / f"{_file_name(one.label)}-{code}")
            run = Run(**vars(one), number=len(runs) + 1, folder=folder, protocol=protocols[key])
            runs[code] = run if folder.is_dir() else _begun_earlier(run) or run
    return list(runs.values())


def _refuse_one_run_twice(run: Run, again: Evaluation) -> None:
    """Raises `InputError` for values that are swept and stand for the same here, as dtype=auto and float32 on a CPU."""
    if run.label == again.label:
        return
    for key in run.settings.keys() & again.settings.keys():
        values = run.settings[key], again.settings[key]
        if read_value(values[0]) != read_value(values[1]):
            raise InputError(
                f"{key}={values[0]} and {key}={values[1]} are one run here: sweep values of {key} that make different "
                "ones."
            )


def _begun_earlier(run: Run) -> Run | None:
    """The run in the folder that version 0.1 gave it, and as it described it; None if there is none."""
    if MODEL_BASE in run.settings:
        return None
    place = locate_checkpoint(run.model, given_checkpoint(run.settings)).folder
    if not place.is_dir():
        return None
    protocol = as_earlier(run.protocol, earlier_fingerprint(place))
    folder = next(run.folder.parent.glob(f"*-{run_code(protocol, run.method)}"), None)
    return None if folder is None else replace(run, folder=folder, protocol=protocol)


def pinned(model: str, checkpoint: Checkpoint, settings: Mapping[str, Any]) -> tuple[Checkpoint, dict[str, Any]]:
    """`checkpoint` as it is found again, and `settings` with it and, of an adapter, its base.

    A name on the hub at the commit that it stands for now, fetched if need be; a folder as it is. So all processes of a
    run, and the same run resumed, load the same files. Raises `InputError` for a name that cannot be had.
    """
    base = settings.get(MODEL_BASE)
    located = locate_checkpoint(model, checkpoint.path, adapter=base is not None)
    if located.commit is not None:
        checkpoint = replace(checkpoint, path=located.pinned)
    named = {**settings, "pretrained": checkpoint.path}
    if base is not None:
        found = locate_checkpoint(model, base)
        named[MODEL_BASE] = base if found.commit is None else found.pinned
    return checkpoint, named


def group_by_model(runs: Iterable[Run]) -> list[list[Run]]:
    """The runs that differ in nothing but task and method, together."""
    groups: dict[str, list[Run]] = {}
    for run in runs:
        groups.setdefault(f"{run.model} {join_model_args(run.settings)}", []).append(run)
    return list(groups.values())


def _file_name(label: str) -> str:
    short = label.replace("retention ", "r").replace(", ", "_").replace(" ", "")
    return "".join(letter if letter.isalnum() or letter in "._-" else "-" for letter in short)[:100]


def _tasks_folders(tasks: Iterable[str], full: bool) -> tuple[Path, ...]:
    """Where lmms-eval finds this project's tasks: those that are drawn go first, as the first of a name counts."""
    questions = embedded.ALL_QUESTIONS if full else embedded.QUESTIONS
    drawn = [embedded.tasks_folder(task, questions) for task in tasks]
    return tuple(dict.fromkeys([*(one for one in drawn if one != embedded.TASKS_FOLDER), embedded.TASKS_FOLDER]))
