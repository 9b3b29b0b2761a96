"""What `st-simdiff eval` does: from options to runs of lmms-eval, and from their results to a table."""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TextIO

from st_simdiff.errors import RunFailed
from st_simdiff.evaluate.estimate import describe_plan, peak_flops
from st_simdiff.evaluate.launch import Failure, carry_out
from st_simdiff.evaluate.planning import Plan, list_entries, make_plan
from st_simdiff.evaluate.summary import summary
from st_simdiff.lmms.video_folders import hf_home, without_videos

MEANINGLESS = "The embedded checkpoint has random weights: the score means nothing, the rest is real."
STAND_IN = (
    "No checkpoint is given, so the embedded trained model answers its own questions in place of the ones that the "
    "config file names; give them with --model_path <model>=<folder>."
)

MOST_NAMED = 3
"""Runs that failed for one reason."""


def run(options: argparse.Namespace, extra: Sequence[str], out: TextIO) -> None:
    """Evaluates and writes the table to `out`. extra: arguments of lmms-eval.

    Raises `InputError` before anything is started, and `RunFailed` after all other runs where one has failed.
    """
    environment = os.environ
    if options.dry_run:
        peak_flops(options.gpu)
        out.write(describe_plan(list_entries(options, extra, environment), options.gpu, options.full))
        return
    plan = make_plan(options, extra, environment)
    notes = [note for note, holds in ((STAND_IN, plan.stand_in), (MEANINGLESS, not plan.meaningful)) if holds]
    out.write("".join(f"{line}\n" for line in (*notes, *_progress(plan))))
    out.flush()
    failures = [failure for batch in plan.batches for failure in carry_out(batch, plan.machines)]
    found = [before.results or run.standing().results for run, before in zip(plan.runs, plan.standings, strict=True)]
    written = [results for results in found if results is not None]
    if written:
        out.write(f"\n{summary(written)}\n")
        out.write("".join(f"{note}\n" for note in notes))
        out.write("".join(f"Results: {path}\n" for path in written))
    if failures:
        code = failures[0].code
        raise RunFailed("\n".join(explain(failures, hf_home(environment))), code)


def _progress(plan: Plan) -> Iterable[str]:
    """What is done already."""
    for one, found in zip(plan.runs, plan.standings, strict=True):
        name = f"[{one.number}/{len(plan.runs)}] {one.task}: {one.label}"
        if found.results is not None:
            yield f"{name}: finished before, in {found.results}"
        for reason in found.damage:
            yield f"{name}: not finished: {reason}"
        if found.answers:
            yield f"{name}: goes on from {found.answers} answers"


def explain(failures: Sequence[Failure], home: Path) -> list[str]:
    """A sentence for every reason, with the runs that it left without results. home: where lmms-eval keeps videos."""
    reasons: dict[str, list[str]] = {}
    for failure in failures:
        reasons.setdefault(_reason(failure, home), []).append(f"{failure.run.task}, {failure.run.label}")
    return [f"{_listed(names)}: {reason}" for reason, names in reasons.items()]


def _listed(names: Sequence[str]) -> str:
    more = f"; and {len(names) - MOST_NAMED} more runs" if len(names) > MOST_NAMED else ""
    return "; ".join(names[:MOST_NAMED]) + more


def _reason(failure: Failure, home: Path) -> str:
    one = failure.run
    for task, folder in without_videos([one.task], home):
        place = home / folder.cache
        return (
            f"no video of task {task} is present: {place} does not have {folder.videos}, and lmms-eval could not "
            "download it (its error is printed above)."
        )
    answers = one.standing().answers
    kept = f"; the answers so far ({answers}) are in {one.journal}, and the same command goes on from them"
    return (
        f"lmms-eval ended with exit code {failure.code} and no results; what went wrong is printed above"
        f"{kept if answers else ''}."
    )
