"""From a folder of results to files: every table that the results allow, and an account of what was read."""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from st_simdiff.errors import RunFailed
from st_simdiff.files import check_folder, write_whole
from st_simdiff.report.caveats import caveats
from st_simdiff.report.comparison import Comparer, Protocols, name_protocols, newest
from st_simdiff.report.figures import (
    CostPoint,
    cost_sheet,
    measured_costs,
    printed_costs,
    sweep_name,
    sweep_points,
    sweep_sheet,
)
from st_simdiff.report.names import published_model
from st_simdiff.report.paper_scores import PAPER_TABLES, belongs
from st_simdiff.report.paper_tables import paper_sheet, subset_note
from st_simdiff.report.published import LLAVA_VIDEO
from st_simdiff.report.reading import Logs, TaskRun, read_logs
from st_simdiff.report.render import Column, Sheet, Table, render
from st_simdiff.report.task_sheet import grid_sheet
from st_simdiff.report.times import time_sheet

FORMATS = ("md", "tex", "csv")


@dataclass(frozen=True)
class Written:
    """paths: the files written. problems: one sentence for every file that could not be read. replaced: how many of the
    paths were there before. left: files of the same kinds beside them, of an earlier report.
    """

    paths: tuple[Path, ...]
    problems: tuple[str, ...]
    replaced: int = 0
    left: tuple[Path, ...] = ()

    def tell(self, out: TextIO) -> None:
        """Writes the paths to `out`, and what became of files that were there before."""
        out.write("".join(f"{path}\n" for path in self.paths))
        if self.replaced:
            out.write(f"{self.replaced} of these replaced files of an earlier report.\n")
        if self.left:
            named = ", ".join(path.name for path in self.left[:3])
            more = f" and {len(self.left) - 3} more" if len(self.left) > 3 else ""
            out.write(f"Not of this report, and left as they are: {named}{more}.\n")

    def refuse_problems(self) -> None:
        """Raises `RunFailed`, with a line for every problem, where there is one."""
        if self.problems:
            count = f"{len(self.problems)} result{'s were' if len(self.problems) > 1 else ' was'}"
            last = f"{count} not read; the report is of the others."
            raise RunFailed("\n".join(["not in the report:", *self.problems, last]), 1)


def run(options: argparse.Namespace, extra: Sequence[str], out: TextIO) -> None:  # noqa: ARG001
    """`st-simdiff tables`. Raises `RunFailed` behind all else where a result could not be read."""
    written = write_tables(options.logs, options.output_path)
    written.tell(out)
    out.write(f"Start with {options.output_path / 'runs.md'}: it lists the runs, and what was not read.\n")
    written.refuse_problems()


def write_tables(logs: Path, out: Path, formats: Iterable[str] = FORMATS) -> Written:
    """Writes every table that the results under `logs` allow into `out`.

    formats: of md, tex, csv. Raises `InputError` for another format, and when `logs` holds no results.
    """
    check_folder(Path(out), "--output_path")
    formats = tuple(formats)
    for format_name in formats:
        render(Sheet("", ()), format_name)
    read = read_logs(Path(logs))
    contents: dict[str, str] = {}
    for sheet in make_sheets(read):
        for format_name in formats:
            contents |= render(sheet, format_name)
    return write_files(Path(out), contents, read.problems)


def write_files(out: Path, contents: Mapping[str, str | bytes], problems: Iterable[str]) -> Written:
    """Writes contents under their names into `out`, which is made if it is not there. problems: as in `Written`."""
    out.mkdir(parents=True, exist_ok=True)
    kinds = {Path(name).suffix for name in contents}
    before = {path.name for path in out.iterdir() if path.suffix in kinds}
    for name, content in contents.items():
        write_whole(out / name, content)
    left = tuple(out / name for name in sorted(before - contents.keys()))
    return Written(tuple(out / name for name in contents), tuple(problems), len(before & contents.keys()), left)


def make_sheets(logs: Logs) -> list[Sheet]:
    """What was read, the paper's tables and figures that have a run, and a grid for every task and model."""
    runs, superseded = newest(logs.runs)
    protocols, comparer = name_protocols(runs), Comparer()
    sheets = [overview_sheet(logs, superseded, protocols)]
    for table in PAPER_TABLES:
        if any(belongs(table, run) for run in runs):
            sheets.append(paper_sheet(table, runs, comparer, protocols))
    for model in dict.fromkeys(run.condition.model for run in runs):
        own = [run for run in runs if run.condition.model == model]
        if costs := measured_costs(own):
            sheets.append(_cost_sheet(model, costs))
        if times := time_sheet(slug(f"times_{model}"), model, own):
            sheets.append(times)
        if points := sweep_points(own, comparer, protocols):
            sheets.append(sweep_sheet(slug(sweep_name(model)), model, points))
    for members in by_model_and_task(runs).values():
        condition = members[0].condition
        name = slug(f"grid_{condition.model}_{members[0].task}")
        sheets.append(grid_sheet(name, members, comparer, protocols))
    return sheets


def _cost_sheet(model: str, costs: list[CostPoint]) -> Sheet:
    if published_model(model) == LLAVA_VIDEO:
        return cost_sheet("figure3", f"Figure 3: time and memory over frames, {model}", [*costs, *printed_costs()])
    return cost_sheet(slug(f"costs_{model}"), f"Time and memory over frames, {model}", costs)


def by_model_and_task(runs: Sequence[TaskRun]) -> dict[tuple[str, str], list[TaskRun]]:
    """Runs that can share a table."""
    groups: dict[tuple[str, str], list[TaskRun]] = {}
    for run in runs:
        groups.setdefault((run.condition.model, run.task), []).append(run)
    return groups


def slug(text: str) -> str:
    """`text` as a file name."""
    return re.sub(r"[^A-Za-z0-9.+-]+", "_", text).strip("_")


def overview_sheet(logs: Logs, superseded: Sequence[TaskRun], protocols: Protocols) -> Sheet:
    """Every run that was read, and everything that was not."""
    columns = (
        *(Column("model"), Column("task"), Column("method"), Column("r", digits=2), Column("frames")),
        *(Column("protocol"), Column("questions"), Column("of"), Column("left out"), Column("unreadable")),
        *(Column("reported"), Column("date"), Column("file")),
    )
    old = {id(run) for run in superseded}
    rows = tuple(
        (
            *(run.condition.model, run.asked_as, run.condition.label, run.condition.retention, run.condition.frames),
            "replaced by a newer run" if id(run) in old else protocols.letter(run),
            *(len(run.documents), run.coverage.in_all, len(run.coverage.left_out), len(run.coverage.unreadable)),
            *(run.reported, run.date, run.path.name),
        )
        for run in logs.runs
    )
    notes = [*protocols.notes, *subset_note(logs.runs), *(f"Not read: {problem}" for problem in logs.problems)]
    notes += caveats(logs.runs)
    notes += [_padding_note(run) for run in logs.runs if run.padding]
    tables = (Table("runs", "Runs that were read", columns, rows), _missing_table(logs.runs))
    return Sheet("runs", tuple(table for table in tables if table.rows), tuple(notes))


def _missing_table(runs: Sequence[TaskRun]) -> Table:
    """Every question that a run did not ask, and every video that it could not read; in CSV only."""
    rows: dict[tuple[str, str, str, str], None] = {}
    for run in runs:
        rows |= {(run.asked_as, one.question, one.video, one.reason): None for one in run.coverage.left_out}
        rows |= {(run.asked_as, "", video, "not readable"): None for video in run.coverage.unreadable}
    columns = (Column("task"), Column("question"), Column("video"), Column("reason"))
    return Table("left_out", "Questions without a score", columns, tuple(rows), for_machines=True)


def _padding_note(run: TaskRun) -> str:
    return f"{run.path.name}, {run.task}: {run.padding} repeated rows were counted once."
