"""What `st-simdiff eval` does: from options to runs of lmms-eval, and from their results to a table."""

from __future__ import annotations

import argparse
import dataclasses
import inspect
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TextIO

import torch

from st_simdiff.errors import InputError, unknown
from st_simdiff.harness import embedded
from st_simdiff.harness.arguments import (
    DEFAULT_METHOD,
    LlavaVideoArguments,
    resolve_names,
    split_model_args,
)
from st_simdiff.harness.launch import Run, RunFailed, evaluate
from st_simdiff.harness.models import DEFAULT_MODEL, MODELS
from st_simdiff.harness.results import summary
from st_simdiff.harness.video_folders import hf_home, refuse_empty, without_videos
from st_simdiff.methods.base import Method
from st_simdiff.methods.registry import METHODS

DEFAULT_TASKS = "videomme"
DEFAULT_RETENTION = 0.3
OWN_OPTIONS = ("model", "model_args", "tasks", "limit", "output_path")


@dataclass(frozen=True)
class PlannedRun:
    """A run and the method it runs, for the table."""

    run: Run
    method: Method


@dataclass(frozen=True)
class Plan:
    """The runs that the options ask for. meaningful: whether their scores say anything about a model."""

    runs: tuple[PlannedRun, ...]
    meaningful: bool


def run(options: argparse.Namespace, extra: Sequence[str], environment: Mapping[str, str], out: TextIO) -> None:
    """Evaluates and writes the table to `out`. Raises `InputError` before anything is started, else `RunFailed`."""
    plan = make_plan(options, extra, environment)
    note = "The embedded checkpoint has random weights: the score means nothing, the rest is real."
    written = []
    for number, planned in enumerate(plan.runs, start=1):
        name = f"{planned.method.name}, retention {planned.method.retention:g}"
        out.write(f"\n[{number}/{len(plan.runs)}] {planned.run.tasks}: {name}\n")
        if not plan.meaningful:
            out.write(note + "\n")
        out.flush()
        written.append(_evaluate(planned.run, hf_home(environment)))
    out.write(f"\n{summary(written)}\n")
    if not plan.meaningful:
        out.write(note + "\n")
    out.write("".join(f"Results: {path}\n" for path in written))


def _evaluate(run: Run, home: Path) -> Path:
    try:
        return evaluate(run)
    except RunFailed as error:
        lacking = without_videos(run.tasks.split(","), home) if error.swallowed else []
        for task, folder in lacking:
            place = home / folder.cache
            raise RunFailed(
                f"No video of task {task} is present: {place} does not have {folder.videos}, and lmms-eval could not "
                "download it (its error is printed above).",
                error.code,
            ) from error
        raise


def make_plan(options: argparse.Namespace, extra: Sequence[str], environment: Mapping[str, str]) -> Plan:
    """Checks the options and lays out the runs. Writes the embedded checkpoint if it is needed and not there yet."""
    for argument in extra:
        if argument.partition("=")[0] in {f"--{name}" for name in OWN_OPTIONS}:
            raise InputError(f"{argument} comes before the lone --, where st-simdiff can see it.")
    if options.num_processes < 1:
        raise InputError(f"--num_processes must be at least 1, got {options.num_processes}.")
    if options.model not in MODELS:
        raise unknown("model", options.model, MODELS)
    model = MODELS[options.model]
    given = _given_settings(options)
    path = given.pop("pretrained", None) or options.model_path or environment.get("MODEL_PATH")
    if path:
        tasks, meaningful = options.tasks or DEFAULT_TASKS, True
        settings = [_with_method({"pretrained": path, **model.defaults, **given})]
    elif options.model != DEFAULT_MODEL:
        raise InputError(
            f"Only {DEFAULT_MODEL} has an embedded checkpoint: give the one for {options.model} with --model_path."
        )
    else:
        known = embedded.embedded_evaluation(options.tasks)
        tasks, meaningful = known.tasks, known.trained
        settings = list(_comparison({"pretrained": str(known.checkpoint), **known.model_args, **given}))
    _refuse_hidden_tasks(tasks)
    refuse_empty(tasks.split(","), hf_home(environment))
    questions = embedded.ALL_QUESTIONS if options.full else embedded.QUESTIONS
    tasks_folder = embedded.tasks_folder(tasks, questions)
    started = datetime.now(UTC).strftime("%Y%m%d-%H%M%S")
    runs = []
    for one in settings:
        method, device = model.check(one)
        folder = _unused(Path(options.output_path) / f"{started}_{method.name}_r{method.retention:g}")
        on_cpu = device == "cpu" or (device == "auto" and torch.cuda.device_count() == 0)
        run = Run(
            one,
            tasks,
            folder,
            tasks_folder,
            options.limit,
            options.num_processes,
            on_cpu,
            tuple(extra),
            model=options.model,
            journals=model.writes_journal,
        )
        runs.append(PlannedRun(run, method))
    return Plan(tuple(runs), meaningful)


def _given_settings(options: argparse.Namespace) -> dict[str, Any]:
    """`--model_args` under our own names, joined by `--method` and `--retention`."""
    given = resolve_names(split_model_args(options.model_args))
    for key in ("method", "retention"):
        value = getattr(options, key)
        if value is None:
            continue
        if key in given:
            raise InputError(
                f"--{key} {value} and model_args ({given[key]}) give the same setting: give one, not both."
            )
        given[key] = value
    return given


def _with_method(settings: dict[str, Any]) -> dict[str, Any]:
    method = settings.setdefault("method", DEFAULT_METHOD)
    if method != "full" and "max_tokens" not in settings:
        settings.setdefault("retention", DEFAULT_RETENTION)
    return settings


def _comparison(settings: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The full model, then the method at every retention asked for."""
    own = {field.name for field in dataclasses.fields(LlavaVideoArguments)}
    if settings.get("method") == "full":
        yield settings
        return
    yield {key: value for key, value in settings.items() if key in own} | {"method": "full"}
    for retention in [settings["retention"]] if "retention" in settings else embedded.RETENTIONS:
        yield _with_method({**settings, "retention": retention})


def _refuse_hidden_tasks(tasks: str) -> None:
    if Path(tasks).is_dir():
        raise InputError(
            f"lmms-eval takes the folder {tasks} in the working directory for the task; run from elsewhere."
        )


def _unused(folder: Path) -> Path:
    """`folder`, or the first of folder-2, folder-3, ... that is not there."""
    candidate, number = folder, 1
    while candidate.exists():
        number += 1
        candidate = folder.with_name(f"{folder.name}-{number}")
    return candidate


def describe_methods() -> str:
    """Every method, what it is, and its settings with their defaults."""
    lines = []
    for name, method in sorted(METHODS.items()):
        summary = (inspect.getdoc(method) or "").partition("\n")[0]
        fields = ", ".join(f"{field.name}={field.default!r}" for field in dataclasses.fields(method))
        lines += [f"{name}: {summary}", f"    {fields}"]
    return "\n".join(lines)
