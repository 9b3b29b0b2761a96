"""Several evaluations by lmms-eval with one loaded model; `st-simdiff eval` starts it, in every process of a run.

    python -m st_simdiff.lmms.worker PLAN.json

Any failure ends the process with a non-zero exit code: lmms-eval by itself would go on with its next task or run while
the other processes wait for this one.
"""

from __future__ import annotations

import shutil
import sys
import time
from argparse import Namespace
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any, Protocol, TextIO

from accelerate import Accelerator
from accelerate.utils import InitProcessGroupKwargs
from filelock import FileLock, Timeout
from lmms_eval.__main__ import parse_eval_args
from lmms_eval.evaluator import request_caching_arg_to_dict, simple_evaluate
from lmms_eval.loggers import EvaluationTracker
from lmms_eval.models import get_model
from lmms_eval.utils import get_datetime_str, make_table
from loguru import logger

from st_simdiff.errors import InputError
from st_simdiff.files import digest_of_file, move_whole
from st_simdiff.lmms.refusal import nothing_swallowed, one_sentence
from st_simdiff.lmms.task_manager import ModelTasks, tasks_of
from st_simdiff.methods.base import Method
from st_simdiff.methods.settings import changed_settings, describe_method
from st_simdiff.model_args import join_model_args
from st_simdiff.runs.batch import LOADED, Batch
from st_simdiff.runs.coverage import coverage
from st_simdiff.runs.progress import duration, seconds_left
from st_simdiff.runs.results import DIGESTS, UNFINISHED
from st_simdiff.runs.run import Run

LONGEST_WAIT = timedelta(seconds=60_000)
"""For another process to answer its share; lmms-eval's own."""

PASSED_ON = (
    *("num_fewshot", "batch_size", "max_batch_size", "device", "use_cache", "limit", "offset", "check_integrity"),
    *("write_out", "system_instruction", "apply_chat_template", "fewshot_as_multiturn", "gen_kwargs", "verbosity"),
    *("predict_only", "force_simple", "launcher_args", "repeats", "baseline", "max_tokens", "process_docs_parallel"),
)
"""Options of lmms-eval's command line that its evaluator takes under the same name."""

LONGEST_HANDOVER = 15.0
"""Seconds that another process in the run's folder has to end: one whose parent was killed does so by itself."""


class SharedModel(Protocol):
    """A harness model that several evaluations share."""

    rank: int

    def take_over(self, method: Method, journal: str | Path | None) -> None:
        """Goes on with another method and another journal."""


def main(plan_file: str, out: TextIO = sys.stdout) -> None:
    """Carries out the plan. Ends the process with SystemExit, non-zero, where a run fails."""
    batch = Batch.read(Path(plan_file))
    arguments = read_arguments(batch.arguments)
    logger.remove()
    logger.add(sys.stdout, level=arguments.verbosity, format="{time:HH:mm:ss} {level} {message}", diagnose=False)
    accelerator = Accelerator(kwargs_handlers=[InitProcessGroupKwargs(timeout=LONGEST_WAIT)])
    name = batch.runs[0].model
    with nothing_swallowed(name):
        folders = [*map(str, batch.tasks_folders), *([arguments.include_path] if arguments.include_path else [])]
        manager = ModelTasks(arguments.verbosity, include_path=folders, model_name=name)
        model = load(batch.runs[0], arguments)
        manager.serve(model)
    if accelerator.is_local_main_process:
        Path(plan_file).with_name(LOADED).touch()
    took: dict[str, list[float]] = defaultdict(list)
    for place, run in enumerate(batch.runs):
        if model.rank == 0:
            out.write(f"\n[{run.number}/{batch.total}] {run.task}: {run.label}\n")
            out.flush()
        started = time.monotonic()
        evaluate(run, model, manager, arguments, accelerator)
        took[run.task].append(time.monotonic() - started)
        left = [*(other.task for other in batch.runs[place + 1 :]), *batch.later]
        if model.rank == 0 and left:
            rest = duration(seconds_left(took, left) or 0)
            out.write(f"Took {duration(took[run.task][-1])}; {len(left)} more to go, about {rest}.\n")
    accelerator.end_training()


def read_arguments(given: Sequence[str]) -> Namespace:
    """lmms-eval's own options. Its parser reads them from the command line of the process."""
    before, sys.argv = sys.argv, ["lmms_eval", *given]
    try:
        return parse_eval_args()[1]
    finally:
        sys.argv = before


def load(run: Run, arguments: Namespace) -> SharedModel:
    """The model of the runs, loaded with the settings of the first one."""
    placed = {key: getattr(arguments, key) for key in ("batch_size", "max_batch_size", "device")}
    kind = get_model(run.model, arguments.force_simple)
    if not hasattr(kind, "create"):  # a model of another package
        return kind.create_from_arg_string(model_args_of(run), placed)
    return kind.create({**run.settings, "method": run.method}, placed)


def evaluate(run: Run, model: SharedModel, manager: ModelTasks, arguments: Namespace, accelerator: Accelerator) -> None:
    """One run of lmms-eval's evaluator; process 0 writes the results."""
    with nothing_swallowed(run.model), claimed(run, model.rank == 0):
        accelerator.wait_for_everyone()  # journals are read when no other process writes there any more
        model.take_over(run.method, run.journal)
        model_args = model_args_of(run)
        asked = {"model": run.model, "model_args": model_args, "tasks": run.task, "output_path": str(run.folder)}
        own = Namespace(**{**vars(arguments), **asked})
        tracker = EvaluationTracker(output_path=str(run.folder / UNFINISHED))
        stamp = get_datetime_str(timezone=arguments.timezone)
        results = simple_evaluate(
            model=model,
            model_args=model_args,
            tasks=tasks_of(run, manager),
            task_manager=manager,
            evaluation_tracker=tracker,
            cli_args=own,
            datetime_str=stamp,
            random_seed=arguments.seed[0],
            numpy_random_seed=arguments.seed[1],
            torch_random_seed=arguments.seed[2],
            fewshot_random_seed=arguments.seed[3],
            **{key: getattr(arguments, key) for key in PASSED_ON if hasattr(arguments, key)},
            **request_caching_arg_to_dict(cache_requests=arguments.cache_requests),
        )
        if results is not None:
            results["protocol"] = {**getattr(model, "protocol", {}), **run.protocol}
            save(run, results, tracker, stamp)
            sys.stdout.write(make_table(results) + "\n")
        accelerator.wait_for_everyone()


def model_args_of(run: Run) -> str:
    """`--model_args` with which lmms-eval's own command line evaluates the same; it is written into the results."""
    return join_model_args({**run.settings, "method": run.method.name, **changed_settings(run.method)})


@contextmanager
def claimed(run: Run, writes: bool) -> Iterator[None]:
    """Keeps every other process off the run's folder, and ends this one where another stays at work there.

    Waits up to `LONGEST_HANDOVER` for the other. writes: whether this is the process that writes there.
    """
    if not writes:
        yield
        return
    with one_sentence(run.model, InputError):
        run.begin()
    lock = FileLock(run.folder / "lock")
    try:
        lock.acquire(timeout=LONGEST_HANDOVER)
    except Timeout:
        raise SystemExit(f"{run.model}: another process is at work in {run.folder}.") from None
    try:
        yield
    finally:
        lock.release()


def save(run: Run, results: dict[str, Any], tracker: EvaluationTracker, stamp: str) -> None:
    """Writes samples and results as lmms-eval does. They appear in the run's folder when they are whole.

    results: as evaluated, with the protocol.
    """
    samples = results.pop("samples")
    in_all = results["n-samples"]
    covered = {task: coverage(rows, in_all.get(task, {}).get("original")) for task, rows in samples.items()}
    results["protocol"]["coverage"] = covered.get(run.task, covered)
    results["method"] = describe_method(run.method)
    results["changed_settings"] = changed_settings(run.method)
    # The evaluator was given an object: it has no name for it, and the tracker would copy it whole.
    results["config"]["model"] = tracker.general_config_tracker.model_source = run.model
    place = Path(tracker.output_path)
    shutil.rmtree(place, ignore_errors=True)
    tracker.date_id = stamp.replace(":", "-")
    for task in results["configs"]:
        tracker.save_results_samples(task_name=task, samples=samples[task])
    files = place.rglob("*_samples_*.jsonl")
    results[DIGESTS] = {path.stem.partition("_samples_")[2]: digest_of_file(path) for path in files}
    tracker.save_results_aggregated(results=results, samples=samples, datetime_str=stamp)
    written = sorted(place.rglob("*.json*"), key=lambda path: path.name.endswith("_results.json"))
    for path in written:  # the results come last: where they are, all is there
        move_whole(path, run.folder / path.relative_to(place))
    shutil.rmtree(place)


if __name__ == "__main__":
    main(sys.argv[1])
