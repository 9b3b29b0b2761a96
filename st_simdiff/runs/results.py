"""What lmms-eval wrote of a run: where it lies under a folder, and whether it is whole.

A run's results are `<stamp>_results.json` and, for every task, the rows of `<stamp>_samples_<task>.jsonl`. They count
only together: scores without their rows, or with other rows, are of no finished run.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from st_simdiff.errors import InputError
from st_simdiff.files import digest_of_file, read_regular

UNFINISHED = "unfinished"
"""Folder, within a run's, of results that are being written."""
DIGESTS = "samples_sha256"
"""Entry of the results: by task, the SHA-256 of its samples file."""


MAPPINGS = ("configs", "config", "protocol", "group_subtasks", "n-samples", "method", "changed_settings", DIGESTS)
"""Entries of the results that are mappings where they are there."""


def find_results(folder: Path) -> list[Path]:
    """The aggregated results under `folder`, oldest first, without those that are being written or were left so."""
    found = folder.rglob("*_results.json")
    return sorted(path for path in found if UNFINISHED not in path.relative_to(folder).parts)


def samples_file(results_file: Path, task: str) -> Path:
    """The rows that a task's scores are of."""
    stamp = results_file.name.removesuffix("_results.json")
    return results_file.with_name(f"{stamp}_samples_{task}.jsonl")


def read_results_file(path: Path) -> dict[str, Any]:
    """The aggregated results. Raises `InputError`, naming the file, if it is unusable."""
    try:
        results = json.loads(read_regular(path))
    except InputError:
        raise
    except FileNotFoundError:
        raise InputError(f"{path} does not exist.") from None
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{path} is not readable as JSON: {error}.") from error
    if not isinstance(results, dict) or not isinstance(results.get("results"), dict):
        raise InputError(f"{path} has no 'results': it is not a results file of lmms-eval.")
    for entry in MAPPINGS:
        if not isinstance(results.get(entry) or {}, dict):
            raise InputError(f"{path} is damaged: its {entry} is no mapping.")
    for task, scores in results["results"].items():
        if not isinstance(scores, dict):
            raise InputError(f"{path} is damaged: it has no scores of the task {task}.")
    if not tasks_of(results):
        raise InputError(f"{path} has the results of no task.")
    return results


def tasks_of(results: Mapping[str, Any]) -> list[str]:
    """The tasks with rows of their own: no groups of tasks."""
    groups = results.get("group_subtasks") or {}
    return [task for task in results["results"] if not groups.get(task)]


def read_rows(path: Path) -> list[dict[str, Any]]:
    """The rows of a samples file. Raises `InputError`, naming the file, if one is damaged or there is none."""
    try:
        lines = read_regular(path).removesuffix("\n").split("\n")
    except FileNotFoundError:
        raise InputError(f"{path} is missing: lmms-eval writes it with --log_samples.") from None
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path} is not readable: {error}.") from error
    if lines == [""]:
        raise InputError(f"{path} is empty.")
    rows = []
    for number, line in enumerate(lines, start=1):
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            raise InputError(f"{path} is damaged: line {number} is not JSON.") from None
        if not isinstance(row, dict) or not isinstance(row.get("doc_id"), int):
            raise InputError(f"{path} is damaged: line {number} has no doc_id.")
        rows.append(row)
    return rows


def covered(results: Mapping[str, Any], task: str) -> Mapping[str, Any]:
    """What the results say of how much of `task` was asked, see `runs.coverage`; empty where they say nothing."""
    told = _mapping(_mapping(results.get("protocol")).get("coverage"))
    return _mapping(told.get(task, told))


def check_rows(path: Path, task: str, results: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> None:
    """Raises `InputError` unless `rows`, of the samples file `path`, are all that the results of `task` are of."""
    asked = covered(results, task).get("asked")
    there = len({row["doc_id"] for row in rows})
    if isinstance(asked, int) and there != asked:
        raise InputError(f"{path} has the rows of {there} questions, and {asked} were asked.")
    digest = _mapping(results.get(DIGESTS)).get(task)
    if digest is not None and digest != digest_of_file(path):
        raise InputError(f"{path} was changed after its results were written.")


def why_not_whole(path: Path) -> str:
    """A sentence where the results file `path` or its tasks' rows are missing, damaged or disagree; empty otherwise."""
    try:
        results = read_results_file(path)
        for task in tasks_of(results):
            samples = samples_file(path, task)
            check_rows(samples, task, results, read_rows(samples))
    except InputError as error:
        return str(error)
    return ""


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}
