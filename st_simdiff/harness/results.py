"""Reads what lmms-eval wrote and condenses it into one short table."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any


@dataclass(frozen=True)
class TaskResult:
    """One task of one run. Tokens and seconds are means over the questions; None where a question recorded none."""

    task: str
    metric: str
    score: float | None
    questions: int
    tokens_in: float | None
    tokens_kept: float | None
    seconds: float | None


def find_results(folder: Path) -> list[Path]:
    """The aggregated results that lmms-eval wrote under `folder`, oldest first."""
    return sorted(folder.rglob("*_results.json"))


def read_results(path: Path) -> list[TaskResult]:
    """Every task of the results file `path`, with the samples files beside it."""
    results = json.loads(path.read_text(encoding="utf-8"))["results"]
    stem = path.name.removesuffix("_results.json")
    return [_read_task(task, results[task], path.with_name(f"{stem}_samples_{task}.jsonl")) for task in results]


def _read_task(task: str, metrics: dict[str, Any], samples_path: Path) -> TaskResult:
    metric, score = _first_score(metrics)
    samples = []
    if samples_path.exists():
        samples = [json.loads(line) for line in samples_path.read_text(encoding="utf-8").splitlines()]
    counts = [count for sample in samples for count in sample["token_counts"] if count]
    return TaskResult(
        task=task,
        metric=metric,
        score=score,
        questions=len(samples),
        tokens_in=_mean(counts, "visual_tokens"),
        tokens_kept=_mean(counts, "visual_tokens_kept"),
        seconds=_mean(counts, "seconds"),
    )


def _first_score(metrics: dict[str, Any]) -> tuple[str, float | None]:
    for key, value in metrics.items():
        name = key.partition(",")[0]
        if isinstance(value, (int, float)) and not isinstance(value, bool) and "_stderr" not in name and "," in key:
            return name, value
    return "", None


def _mean(counts: Sequence[dict[str, Any]], key: str) -> float | None:
    values = [count[key] for count in counts if key in count]
    return fmean(values) if values else None


def format_table(rows: Iterable[Sequence[str]]) -> str:
    """Rows of text as aligned columns, the first row being the head; numbers right, words left."""
    table = [list(row) for row in rows]
    widths = [max(len(row[column]) for row in table) for column in range(len(table[0]))]
    right = [all(_is_number(row[column]) for row in table[1:]) for column in range(len(table[0]))]
    lines = [
        "  ".join(
            cell.rjust(width) if r else cell.ljust(width) for cell, width, r in zip(row, widths, right, strict=True)
        )
        for row in table
    ]
    lines.insert(1, "  ".join("-" * width for width in widths))
    return "\n".join(line.rstrip() for line in lines)


def _is_number(text: str) -> bool:
    return text == "-" or text.replace(".", "", 1).replace("-", "", 1).isdigit()


HEAD = ("task", "metric", "method", "retention", "questions", "score", "tokens in", "tokens kept", "seconds")


def table_row(method: str, retention: float, result: TaskResult) -> tuple[str, ...]:
    """One line of the table whose columns are `HEAD`."""

    def number(value: float | None, digits: int) -> str:
        return "-" if value is None else f"{value:.{digits}f}"

    return (
        result.task,
        result.metric,
        method,
        f"{retention:g}",
        str(result.questions),
        number(result.score, 1),
        number(result.tokens_in, 0),
        number(result.tokens_kept, 0),
        number(result.seconds, 2),
    )
