"""MVBench's twenty parts are twenty tasks of lmms-eval, and one benchmark."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from statistics import fmean

from st_simdiff.report.coverage import LEFT_OUT_ENTRY, add_coverages
from st_simdiff.report.records import TaskRun
from st_simdiff.vocabulary import LOCAL, MVBENCH

PART = f"{MVBENCH}_"
"""How the names of the parts' tasks begin."""


def join_mvbench(runs: Sequence[TaskRun]) -> list[TaskRun]:
    """The runs of one results file, with MVBench's parts joined to one run where it has several.

    Its documents have a group `part`; what lmms-eval reports of it is the mean over the parts, as the benchmark's is.
    """
    parts = [run for run in runs if run.task.startswith(PART)]
    if len(parts) < 2:
        return list(runs)
    documents = []
    for run in parts:
        part = run.task.removeprefix(PART)
        for document in run.documents:
            groups, number = {**document.groups, "part": part}, len(documents)
            documents.append(replace(document, doc_id=number, question=f"{part}: {document.question}", groups=groups))
    reported = [run.reported for run in parts if run.reported is not None]
    first = parts[0]
    left_out = sum(len(run.coverage.left_out) for run in parts)
    protocol = {key: value for key, value in first.condition.protocol.items() if key not in ("prompt", LEFT_OUT_ENTRY)}
    protocol |= {LEFT_OUT_ENTRY: str(left_out)} if left_out else {}
    joined = replace(
        first,
        condition=replace(first.condition, protocol=protocol),
        task=MVBENCH,
        asked_as=MVBENCH + (LOCAL if first.asked_as != first.task else ""),
        reported=fmean(reported) if reported else None,
        documents=tuple(documents),
        coverage=add_coverages([run.coverage for run in parts]),
        padding=sum(run.padding for run in parts),
    )
    return [run for run in runs if run not in parts] + [joined]
