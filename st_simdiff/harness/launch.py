"""Starts lmms-eval on a harness model and makes sure that it wrote results.

lmms-eval 0.7.3 catches most exceptions, prints them and exits 0, so only a results file counts as success.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from st_simdiff.errors import InputError
from st_simdiff.harness.arguments import join_model_args
from st_simdiff.harness.journal import count_answers
from st_simdiff.harness.models import DEFAULT_MODEL
from st_simdiff.harness.results import find_results


class RunFailed(RuntimeError):
    """lmms-eval ended without results.

    code: a non-zero exit code to end with. swallowed: lmms-eval caught the reason itself and exited 0, as it does for
    all that happens outside the harness model, which exits with a sentence of its own.
    """

    def __init__(self, message: str, code: int, swallowed: bool = False) -> None:
        super().__init__(message)
        self.code = code
        self.swallowed = swallowed


@dataclass(frozen=True)
class Run:
    """One start of lmms-eval.

    model_args: settings of `model`. tasks: comma-separated names. folder: where everything is written. processes: how
    many share the questions. on_cpu: whether they compute on CPUs. extra: more arguments of lmms-eval. model: the
    harness model's name. journals: whether it writes answers down as they come. tasks_folder: where lmms-eval looks for
    tasks beside its own.
    """

    model_args: Mapping[str, Any]
    tasks: str
    folder: Path
    tasks_folder: Path
    limit: str | None = None
    processes: int = 1
    on_cpu: bool = False
    extra: tuple[str, ...] = ()
    model: str = DEFAULT_MODEL
    journals: bool = True

    def __post_init__(self) -> None:
        for key, value in {**self.model_args, "the output path": self.folder}.items():
            if "," in str(value):
                raise InputError(f"lmms-eval splits its arguments at commas, so {key} can have none, got {value}.")

    @property
    def journal(self) -> Path:
        return self.folder / "answers"

    def command(self) -> list[str]:
        """The command line, runnable as it is."""
        command = [sys.executable, "-m"]
        if self.processes > 1:
            command += ["accelerate.commands.launch", "--multi_gpu", "--num_machines", "1", "--mixed_precision", "no"]
            command += [
                "--dynamo_backend",
                "no",
                "--num_processes",
                str(self.processes),
                "--main_process_port",
                "0",
                "-m",
            ]
        settings = {**self.model_args, "journal": self.journal} if self.journals else self.model_args
        command += ["lmms_eval", "--model", self.model, "--model_args", join_model_args(settings)]
        command += ["--tasks", self.tasks, "--include_path", str(self.tasks_folder), "--batch_size", "1"]
        command += ["--log_samples", "--output_path", str(self.folder), "--verbosity", "WARNING", "--timezone", "UTC"]
        if self.limit is not None:
            command += ["--limit", self.limit]
        return [*command, *self.extra]

    def environment(self) -> dict[str, str]:
        """Several processes on CPUs need ACCELERATE_USE_CPU: without it accelerate makes each the first of one."""
        several_on_cpu = self.processes > 1 and self.on_cpu
        return dict(os.environ) | ({"ACCELERATE_USE_CPU": "true"} if several_on_cpu else {})


def evaluate(run: Run) -> Path:
    """Runs lmms-eval, its output passing through, and returns the results file. Raises `RunFailed` if there is none."""
    run.folder.mkdir(parents=True, exist_ok=True)
    before = set(find_results(run.folder))
    process = subprocess.run(run.command(), env=run.environment(), check=False)
    results = [path for path in find_results(run.folder) if path not in before]
    if process.returncode == 0 and results:
        return results[-1]
    answers = count_answers(run.journal)
    kept = f"; the answers so far ({answers}) are in {run.journal}" if answers else ""
    raise RunFailed(
        f"lmms-eval ended with exit code {process.returncode} and {'' if results else 'no '}results; "
        f"what went wrong is printed above{kept}.",
        code=process.returncode if 0 < process.returncode < 256 else 1,
        swallowed=process.returncode == 0,
    )
