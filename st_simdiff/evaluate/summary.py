"""What a grid of evaluations came to, in one short table."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from st_simdiff.errors import InputError
from st_simdiff.report.caveats import coverage_caveats
from st_simdiff.report.comparison import Comparer, Estimate, Paired, full_model
from st_simdiff.report.reading import read_results
from st_simdiff.report.records import TaskRun
from st_simdiff.report.render import Cell, Column, Table, to_text
from st_simdiff.report.statistics import FEWEST_VIDEOS
from st_simdiff.runs.journal import FOLDER
from st_simdiff.runs.unreadable import unreadable_videos

COLUMNS = (
    *(Column("task"), Column("method"), Column("retention"), Column("questions")),
    *(Column("score"), Column("95% interval"), Column("minus full", signed=True), Column("95% interval", signed=True)),
    *(Column("tokens in", digits=0), Column("tokens kept", digits=0), Column("seconds", digits=2)),
)
COUNTS = ("visual_tokens", "visual_tokens_kept", "seconds")
FOOTNOTE = (
    f"Scores in percent; intervals by bootstrap over the videos, where there are {FEWEST_VIDEOS} or more; of the\n"
    "difference paired over the questions. "
    "Tokens and seconds are means over the questions; seconds include decoding the video."
)


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
    rows = []
    for run in runs:
        full = full_model(run, runs)
        paired = None if full in (None, run) else comparer.paired(run, full)
        settings = run.condition.settings_among(other.condition for other in runs if other.task == run.task)
        rows.append((run.condition.model, *_row(run, settings, comparer.estimate(run), paired)))
    columns = (Column("model"), *COLUMNS)
    if len({run.condition.model for run in runs}) < 2:
        columns, rows = columns[1:], [row[1:] for row in rows]
    table = to_text(Table("summary", "", columns, tuple(rows)))
    unreadable = dict.fromkeys(reason for path in paths for _, reason in unreadable_videos(path.parents[1] / FOLDER))
    told = [*coverage_caveats(runs, named=not unreadable), *problems, *(f"Not read: {reason}" for reason in unreadable)]
    return "\n".join([table, "", FOOTNOTE, *([""] if told else []), *told])


def _row(run: TaskRun, settings: str, estimate: Estimate | None, paired: Paired | None) -> tuple[Cell, ...]:
    condition = run.condition
    return (
        *(run.asked_as, f"{condition.variant} ({settings})" if settings else condition.variant),
        *(f"{condition.retention:g}", run.coverage.text),
        *((None, None) if estimate is None else (estimate.score, (estimate.low, estimate.high))),
        *((None, None) if paired is None else (paired.difference, (paired.low, paired.high))),
        *map(run.mean_count, COUNTS),
    )
