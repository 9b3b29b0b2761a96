"""Starts runs that share one loaded model, through accelerate where several processes share the questions.

Only a results file counts as success: lmms-eval 0.7.3 catches most exceptions, prints them and goes on.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from st_simdiff.checks import MOST_PROCESSES
from st_simdiff.errors import InputError
from st_simdiff.evaluate.processes import run_to_the_end
from st_simdiff.runs.batch import LOADED, PLAN, Batch
from st_simdiff.runs.parent import Parent
from st_simdiff.runs.run import Run


@dataclass(frozen=True)
class Machines:
    """How many processes share the questions, on how many machines.

    processes: on all machines together. rank: which machine this is, from 0. main_ip, main_port: where machine 0 is
    reached by the others.
    """

    processes: int = 1
    machines: int = 1
    rank: int = 0
    main_ip: str | None = None
    main_port: int | None = None

    def __post_init__(self) -> None:
        if self.processes < 1:
            raise InputError(f"--num_processes must be at least 1, got {self.processes}.")
        if self.machines < 1 or self.processes % self.machines:
            raise InputError(
                f"--num_processes counts the processes of all machines, the same number on each, got {self.processes} "
                f"on {self.machines}."
            )
        if self.processes > MOST_PROCESSES * self.machines:
            raise InputError(
                f"--num_processes is at most {MOST_PROCESSES:,} on each machine, got {self.processes} on "
                f"{self.machines}."
            )
        if self.main_port is not None and not 1 <= self.main_port <= 65_535:
            raise InputError(f"--main_process_port is a port, from 1 to 65535, got {self.main_port}.")
        if not 0 <= self.rank < self.machines:
            raise InputError(f"--machine_rank is from 0 to {self.machines - 1}, got {self.rank}.")
        if self.machines > 1 and not (self.main_ip and self.main_port):
            raise InputError("Several machines need --main_process_ip and --main_process_port, those of machine 0.")

    def command(self, module: str, *arguments: str) -> list[str]:
        """The command line that runs a Python module in every process of this machine, while this process lives."""
        own = Parent.this_process()
        worker = own.command(module, *arguments)
        if self.processes == 1:
            return worker
        options = {
            "num_machines": self.machines,
            "mixed_precision": "no",
            "dynamo_backend": "no",
            "num_processes": self.processes,
            "main_process_port": self.main_port or 0,
        }
        if self.machines > 1:
            options |= {"machine_rank": self.rank, "main_process_ip": self.main_ip}
        given = [part for key, value in options.items() for part in (f"--{key}", str(value))]
        return own.command("accelerate.commands.launch", "--multi_gpu", *given, *worker[1:])

    def environment(self, on_cpu: bool) -> dict[str, str]:
        """For processes that compute on CPUs or GPUs.

        Several on CPUs need ACCELERATE_USE_CPU: without it accelerate makes each the first of one.
        """
        return dict(os.environ) | ({"ACCELERATE_USE_CPU": "true"} if self.processes > 1 and on_cpu else {})


@dataclass(frozen=True)
class Failure:
    """A run without results, and the exit code of the process that should have written them."""

    run: Run
    code: int


def carry_out(batch: Batch, machines: Machines) -> list[Failure]:
    """Runs them all, their output passing through, and returns those that failed.

    A run that fails takes the process and its model with it, so that nothing is left half-done in any process; the runs
    behind it get a new one. Where the model cannot be loaded, all have failed.
    """
    failures: list[Failure] = []
    waiting = batch.runs
    while waiting:
        code, loaded = _start(replace(batch, runs=waiting), machines)
        if machines.rank > 0:  # only machine 0 writes results
            return [Failure(run, _exit_code(code)) for run in waiting] if code else []
        left = [run for run in waiting if run.standing().results is None]
        if not left:
            break
        failed = left[:1] if loaded and machines.machines == 1 else left
        failures += [Failure(run, _exit_code(code)) for run in failed]
        waiting = tuple(left[len(failed) :])
    return failures


def _start(batch: Batch, machines: Machines) -> tuple[int, bool]:
    """The exit code, and whether the model was loaded."""
    with TemporaryDirectory(prefix="st-simdiff-") as folder:
        plan = Path(folder) / PLAN
        batch.write(plan)
        command = machines.command("st_simdiff.lmms.worker", str(plan))
        code = run_to_the_end(command, machines.environment(is_on_cpu(batch)))
        return code, plan.with_name(LOADED).exists()


def is_on_cpu(batch: Batch) -> bool:
    """Whether the batch's processes compute on CPUs."""
    device = batch.runs[0].settings.get("device", "auto")
    return device == "cpu" or (device == "auto" and torch.cuda.device_count() == 0)


def _exit_code(code: int) -> int:
    return code if 0 < code < 256 else 1
