"""Reads what lmms-eval 0.7.3 wrote: `<stamp>_results.json` and, for every task, `<stamp>_samples_<task>.jsonl`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from typing import Any

from st_simdiff.checks import is_number
from st_simdiff.errors import InputError
from st_simdiff.report.coverage import LEFT_OUT_ENTRY, Coverage, is_unreadable, read_coverage
from st_simdiff.report.mvbench import join_mvbench
from st_simdiff.report.records import Document, Logs, TaskRun
from st_simdiff.report.scoring import Scored, score_row
from st_simdiff.report.settings import Condition, read_condition
from st_simdiff.runs.results import (
    check_rows,
    covered,
    find_results,
    read_results_file,
    read_rows,
    samples_file,
    tasks_of,
)
from st_simdiff.vocabulary import stock_task

ACCURACY = "egoschema_accuracy.txt"
"""File for the accuracy of a submission to EgoSchema, whose answers are not public."""

SUMMED = frozenset({"seconds", "output_tokens"})
"""Counts that add up over the requests of one question; of all others the mean is taken."""


def read_logs(folder: Path) -> Logs:
    """Every run under `folder`. Raises `InputError` if there is no such folder, or no results file in it."""
    folder = Path(folder)
    if not folder.is_dir():
        raise InputError(f"There is no folder {folder} to read results from.")
    paths = find_results(folder)
    if not paths:
        raise InputError(f"{folder} holds no *_results.json of lmms-eval.")
    runs: list[TaskRun] = []
    problems: list[str] = []
    for path in paths:
        try:
            results = read_results_file(path)
            tasks = tasks_of(results)
        except InputError as error:
            problems.append(str(error))
            continue
        found = []
        for task in tasks:
            try:
                found.append(_read_task(path, results, task))
            except InputError as error:
                problems.append(str(error))
        runs += join_mvbench(found)
    return Logs(tuple(sorted(runs, key=lambda run: (run.date, str(run.path), run.task))), tuple(problems))


def read_results(path: Path) -> list[TaskRun]:
    """Every task of one results file. Raises `InputError`, naming the file, if it or a samples file is unusable."""
    path = Path(path)
    results = read_results_file(path)
    return join_mvbench([_read_task(path, results, task) for task in tasks_of(results)])


def _read_task(path: Path, results: Mapping[str, Any], task: str) -> TaskRun:
    stamp = path.name.removesuffix("_results.json")
    samples = samples_file(path, task)
    rows = read_rows(samples)
    check_rows(samples, task, results, rows)
    readable = [(number, row) for number, row in enumerate(rows, start=1) if not is_unreadable(row)]
    metric, value = _metric(path, task, results) if readable else ("", None)
    scored = [_score(samples, number, row, metric) for number, row in readable]
    scale = 100.0 if any((one.value or 0) > 1 for one in scored) else 1.0
    found = [_document(row, one, scale) for (_, row), one in zip(readable, scored, strict=True)]
    documents = _each_once(samples, found)
    coverage = read_coverage(rows, len(documents), _stated_questions(results, task))
    if value is None and stock_task(task) == "egoschema":
        value = _server_accuracy(path)
    return TaskRun(
        path=path,
        date=stamp,
        condition=_condition(path, results, task, coverage),
        task=stock_task(task),
        metric=metric,
        reported=_percent(value, documents),
        documents=tuple(documents),
        coverage=coverage,
        asked_as=task,
        padding=len(readable) - len(documents),
    )


def _stated_questions(results: Mapping[str, Any], task: str) -> int | None:
    """How many questions the task has, as the harness wrote it beside the protocol."""
    number = covered(results, task).get("in_all")
    return number if isinstance(number, int) else None


def _server_accuracy(path: Path) -> float | None:
    """What EgoSchema's server made of the run's submission, in percent: written by hand into the run's folder."""
    for folder in (path.parent, path.parent.parent):
        file = folder / ACCURACY
        if not file.is_file():
            continue
        try:
            value = float(file.read_text(encoding="utf-8").strip().removesuffix("%"))
        except ValueError:
            value = -1.0
        if 0 <= value <= 100:
            return value
        raise InputError(f"{file} holds no accuracy in percent, such as 57.3.")
    return None


def _condition(path: Path, results: Mapping[str, Any], task: str, coverage: Coverage) -> Condition:
    try:
        condition = read_condition(results, task)
    except InputError as error:
        raise InputError(f"{path} cannot be used: {error}.") from error
    if not coverage.left_out:
        return condition
    return replace(condition, protocol={**condition.protocol, LEFT_OUT_ENTRY: str(len(coverage.left_out))})


def _metric(path: Path, task: str, results: Mapping[str, Any]) -> tuple[str, float | None]:
    """The first metric that the task's yaml lists, and its value; for no value lmms-eval writes a text."""
    values: dict[str, Any] = {}
    for key, value in results["results"][task].items():
        name, separator, _ = key.partition(",")
        if separator and "_stderr" not in name:
            values.setdefault(name, value)
    config = (results.get("configs") or {}).get(task)
    listed = (config.get("metric_list") if isinstance(config, dict) else None) or []
    if not isinstance(listed, list) or not all(isinstance(entry, dict) for entry in listed):
        raise InputError(f"{path} is damaged: the metrics of the task {task} are no list.")
    for name in (*(str(entry.get("metric")) for entry in listed), *values):
        if name in values:
            value = values[name]
            return name, float(value) if is_number(value) else None
    raise InputError(f"{path} has no metric for the task {task}.")


def _score(path: Path, number: int, row: Mapping[str, Any], metric: str) -> Scored:
    try:
        return score_row(row, metric)
    except (InputError, KeyError) as error:
        raise InputError(f"{path} cannot be scored: line {number} {error}.") from error


def _document(row: Mapping[str, Any], scored: Scored, scale: float) -> Document:
    return Document(
        doc_id=row["doc_id"],
        correct=None if scored.value is None else scored.value / scale,
        question=scored.question or f"question {row['doc_id']}",
        video=scored.video or f"question {row['doc_id']}",
        groups=scored.groups,
        counts=_counts(row.get("token_counts")),
    )


def _counts(requests: Sequence[Mapping[str, Any] | None] | None) -> dict[str, float]:
    """One value a count from the counts of every request of a question (one request an option, or just one)."""
    recorded = [_numbers(request) for request in requests or [] if request]
    if len(recorded) < 2:
        return recorded[0] if recorded else {}
    combined = {}
    for key in dict.fromkeys(key for request in recorded for key in request):
        values = [request[key] for request in recorded if key in request]
        combined[key] = sum(values) if key in SUMMED else fmean(values)
    return combined


def _numbers(request: Mapping[str, Any]) -> dict[str, float]:
    return {key: value for key, value in request.items() if isinstance(value, (int, float))}


def _each_once(path: Path, documents: Sequence[Document]) -> list[Document]:
    """Sorted by doc_id, without the repetitions that pad a process to the length of the others."""
    first: dict[int, Document] = {}
    for document in documents:
        earlier = first.setdefault(document.doc_id, document)
        if earlier.correct != document.correct:
            raise InputError(
                f"{path} has two different answers to question {document.doc_id}: two runs were written into one file."
            )
    return [first[doc_id] for doc_id in sorted(first)]


def _percent(value: float | None, documents: Sequence[Document]) -> float | None:
    """lmms-eval's value in percent. Some tasks write a share: told by the documents, or by its size without answers."""
    if value is None:
        return None
    known = [document.correct for document in documents if document.correct is not None]
    if not known:
        return 100 * value if value <= 1 else value
    mean = fmean(known)
    return 100 * value if abs(value - mean) <= abs(value - 100 * mean) else value
