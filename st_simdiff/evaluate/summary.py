"""Finds what lmms-eval wrote and condenses it into one short table."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from st_simdiff.errors import InputError
from st_simdiff.report.caveats import coverage_caveats
from st_simdiff.report.comparison import Comparer, Estimate, Paired
from st_simdiff.report.published import FULL
from st_simdiff.report.results import TaskRun, read_results
from st_simdiff.report.statistics import FEWEST_VIDEOS
from st_simdiff.runs.unreadable import unreadable_videos

HEAD = ("task", "method", "retention", "questions", "score", "95% interval", "minus full", "95% interval")
JOURNAL = "answers"
"""Folder, beside the one with the results, of what a run wrote down answer by answer."""
COUNTS = {"visual_tokens": "tokens in", "visual_tokens_kept": "tokens kept", "seconds": "seconds"}
FOOTNOTE = (
    f"Scores in percent; intervals by bootstrap over the videos, where there are {FEWEST_VIDEOS} or more; of the\n"
    "difference paired over the questions. "
    "Tokens and seconds are means over the questions; seconds include decoding the video."
)


def find_results(folder: Path) -> list[Path]:
    """The aggregated results that lmms-eval wrote under `folder`, oldest first."""
    return sorted(folder.rglob("*_results.json"))


def summary(paths: Iterable[Path]) -> str:
    """The table of the results files `paths`, a line for every task of each, and what its numbers are (not).

    A file that cannot be read, or has scores of an unknown shape, gets a sentence under the table instead.
    """
    paths = list(paths)
    runs: list[TaskRun] = []
    problems = []
    for path in paths:
        try:
            runs += read_results(path)
        except InputError as error:
            problems.append(f"Not in the table: {error}")
    comparer = Comparer()
    rows = [("model", *HEAD, *COUNTS.values())]
    for run in runs:
        full = next((other for other in runs if _is_full_of(run, other)), None)
        paired = None if full in (None, run) else comparer.paired(run, full)
        rows.append((run.condition.model, *_row(run, comparer.estimate(run), paired)))
    if len({run.condition.model for run in runs}) < 2:
        rows = [row[1:] for row in rows]
    unreadable = dict.fromkeys(reason for path in paths for _, reason in unreadable_videos(path.parents[1] / JOURNAL))
    told = [*coverage_caveats(runs), *problems, *(f"Not read: {reason}" for reason in unreadable)]
    return "\n".join([format_table(rows), "", FOOTNOTE, *([""] if told else []), *told])


def _is_full_of(run: TaskRun, other: TaskRun) -> bool:
    """Whether `other` is the full model that `run` compresses, asked the same."""
    same = (run.task, run.condition.model, run.condition.frames)
    return other.condition.method == FULL and same == (other.task, other.condition.model, other.condition.frames)


def _row(run: TaskRun, estimate: Estimate | None, paired: Paired | None) -> tuple[str, ...]:
    settings = run.condition.settings_text
    tokens = [run.mean_count(key) for key in COUNTS]
    return (
        run.asked_as,
        f"{run.condition.variant} ({settings})" if settings else run.condition.variant,
        f"{run.condition.retention:g}",
        run.coverage.text,
        _number(estimate and estimate.score, 1),
        _interval(estimate),
        _number(paired and paired.difference, 1, sign="+"),
        _interval(paired, sign="+"),
        *(_number(value, digits) for value, digits in zip(tokens, (0, 0, 2), strict=True)),
    )


def _number(value: float | None, digits: int, sign: str = "") -> str:
    return "-" if value is None else f"{value:{sign}.{digits}f}"


def _interval(of: Estimate | Paired | None, sign: str = "") -> str:
    return "-" if of is None or of.low is None else f"[{of.low:{sign}.1f}, {of.high:{sign}.1f}]"


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
    return text.lstrip("[+-").replace(".", "", 1).isdigit() or text == "-" or text.startswith("[")
