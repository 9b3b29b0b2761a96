"""The paper's Tables 1 to 5 as sheets: laid out as in the paper, then every score, then every paired difference."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from st_simdiff.report.caveats import caveats
from st_simdiff.report.comparison import Comparer, Estimate, Paired, Protocols, full_model
from st_simdiff.report.paper_scores import PaperTable, RowKey, Score, belongs, make_scores
from st_simdiff.report.published import PUBLISHED
from st_simdiff.report.published_notes import notes_on_table
from st_simdiff.report.reading import TaskRun
from st_simdiff.report.render import Cell, Column, Sheet, Table, show
from st_simdiff.report.statistics import sampling_half_width
from st_simdiff.vocabulary import BENCHMARK_NAMED, OVERALL


def paper_sheet(table: PaperTable, runs: Sequence[TaskRun], comparer: Comparer, protocols: Protocols) -> Sheet:
    """The table as the paper lays it out (ours / printed), then every score, then every paired difference."""
    scores = make_scores(table, runs, comparer, protocols)
    own = [score.run for score in scores if score.run is not None]
    name, lead = f"table{table.number}", Lead.of(table, scores)
    notes = [*notes_on_table(table.number), *_incomplete(scores), *caveats(run for run in runs if belongs(table, run))]
    if lead.letter:
        tasks = {run.task for run in own}
        notes += [note for note in protocols.notes if any(f"for {task} on" in note for task in tasks)]
    tables = [_overview(name, table, scores, lead), _score_table(f"{name}_scores", table, scores, lead)]
    if own:
        tables.append(_paired_table(f"{name}_paired", table, scores, runs, comparer, lead))
    return Sheet(name, tuple(tables), tuple(notes))


@dataclass(frozen=True)
class Lead:
    """Which columns tell one row from another, besides retention and method."""

    frames: bool
    checkpoint: bool
    letter: bool

    @classmethod
    def of(cls, table: PaperTable, scores: Sequence[Score]) -> Lead:
        """Frames where the table has several; checkpoint and protocol where the runs do not share one."""
        rows = {score.row for score in scores if score.run is not None}
        checkpoints, letters = {row.checkpoint for row in rows}, {row.letter for row in rows}
        return cls(len(table.frames) > 1, len(checkpoints) > 1, len(letters) > 1)

    @property
    def columns(self) -> tuple[Column, ...]:
        optional = ((self.frames, "frames"), (self.checkpoint, "checkpoint"), (self.letter, "protocol"))
        return (*(Column(title) for wanted, title in optional if wanted), Column("r", digits=2), Column("method"))

    def cells(self, row: RowKey, label: str = "") -> tuple[Cell, ...]:
        optional = ((self.frames, row.frames), (self.checkpoint, row.checkpoint), (self.letter, row.letter))
        return (*(cell or None for wanted, cell in optional if wanted), row.retention, label or row.label)


def _overview(name: str, table: PaperTable, scores: Sequence[Score], lead: Lead) -> Table:
    rows: dict[RowKey, list[Score]] = {}
    for score in scores:
        rows.setdefault(score.row, []).append(score)
    body = []
    for row, cells in rows.items():
        printed = any(cell.printed is not None for cell in cells)
        label = row.label if printed else f"{row.label} (ours only)"
        body.append((*lead.cells(row, label), *(_ours_and_printed(cell) for cell in cells)))
    columns = (Column(f"{benchmark.name} {split}") for benchmark, split in table.columns)
    note = "Ours / as printed. Ours with ° covers only part of the benchmark's questions."
    return Table(name, table.title, (*lead.columns, *columns), tuple(body), (note,), for_reading=True)


def _ours_and_printed(score: Score) -> str:
    mark = "" if score.ours is None or score.complete else "°"
    ours = show(None if score.ours is None else score.ours.score, Column(""))
    return f"{ours}{mark} / {show(score.printed, Column(''))}"


def _score_table(name: str, table: PaperTable, scores: Sequence[Score], lead: Lead) -> Table:
    columns = (
        *lead.columns,
        *(Column("benchmark"), Column("split"), Column("questions"), Column("of")),
        *(Column("ours"), Column("95 % interval")),
        *(Column("printed"), Column("ours − printed", signed=True), Column("printed in our interval")),
    )
    run = [_score_cells(score, lead) for score in scores if score.ours is not None]
    only_printed = [_score_cells(score, lead) for score in scores if score.ours is None and score.printed is not None]
    title = f"{table.title}: every split"
    return Table(name, title, columns, tuple(run), (noise_note(table),), more_rows=tuple(only_printed))


def _score_cells(score: Score, lead: Lead) -> tuple[Cell, ...]:
    ours = (None, None, (None, None)) if score.ours is None else _estimate_cells(score.ours)
    printed = (score.printed, score.difference, score.agrees)
    questions, *estimate = ours
    in_all = score.benchmark.split_size(score.split)
    return (*lead.cells(score.row), score.benchmark.name, score.split, questions, in_all, *estimate, *printed)


def _estimate_cells(estimate: Estimate) -> tuple[Cell, ...]:
    return estimate.questions, estimate.score, (estimate.low, estimate.high)


def noise_note(table: PaperTable) -> str:
    """How little two scores on these questions may differ before the difference means anything."""
    widths = []
    for benchmark, split in table.columns:
        if split != OVERALL:
            continue
        printed = [s.score for s in PUBLISHED if s.table == table.number and s.benchmark == benchmark.name]
        typical = sorted(score for score in printed if score is not None)
        share = typical[len(typical) // 2] / 100
        half = 100 * sampling_half_width(share, benchmark.questions)
        widths.append(f"±{half:.1f} points on {benchmark.name} ({benchmark.questions:,} questions)")
    return (
        f"A score has a sampling interval of about {', '.join(widths)}. Differences of a few tenths between two "
        "printed scores are inside that noise: 0.2 points on 2,700 questions are five answers."
    )


def _paired_table(
    name: str, table: PaperTable, scores: Sequence[Score], runs: Sequence[TaskRun], comparer: Comparer, lead: Lead
) -> Table:
    own = [run for run in runs if belongs(table, run)]
    columns = (
        *lead.columns,
        *(Column("benchmark"), Column("split"), Column("against"), Column("difference", signed=True)),
        *(Column("95 % interval", signed=True), Column("p", digits=3, p=True), Column("verdict")),
    )
    overall: list[tuple[Cell, ...]] = []
    splits: list[tuple[Cell, ...]] = []
    for score in scores:
        if score.run is None:
            continue
        for other in (full_model(score.run, runs), comparer.best_rival(score.run, own, score.part)):
            paired = None if other is None or other is score.run else comparer.paired(score.run, other, score.part)
            if paired is not None:
                cells = (*lead.cells(score.row), score.benchmark.name, score.split, *paired_cells(paired))
                (overall if score.split == OVERALL else splits).append(cells)
    title = f"{table.title}: paired differences from the full model and from the best rival"
    return Table(name, title, columns, tuple(overall), (PAIRED_NOTE,), more_rows=tuple(splits))


def paired_cells(paired: Paired) -> tuple[Cell, ...]:
    """against, difference, interval, p, verdict."""
    return paired.versus, paired.difference, (paired.low, paired.high), paired.p, VERDICTS[paired.significant]


VERDICTS = {True: "significant", False: "inside the noise", None: None}

PAIRED_NOTE = (
    "Differences are in points, on the same questions. Intervals: 95 %, bootstrap over videos. p: McNemar's mid-p, "
    "which takes questions as independent. Significant: the interval leaves out 0 and p is below 0.05, as for about "
    "one true zero in twenty at most; all else is inside the noise. The best rival is chosen on the same questions, "
    "which favours it."
)


def _incomplete(scores: Sequence[Score]) -> list[str]:
    """A sentence for every run that covers only part of its benchmark."""
    sentences = []
    for score in scores:
        if score.split == OVERALL and score.ours is not None and not score.complete:
            sentences.append(
                f"{score.row.label} at {score.row.retention:g} covers {score.ours.questions:,} of the "
                f"{score.benchmark.questions:,} questions of {score.benchmark.name}: no difference from the paper."
            )
    return sentences


def subset_note(runs: Sequence[TaskRun]) -> list[str]:
    """Why a run on EgoSchema's public subset stands in no paper table."""
    if not any(run.task == "egoschema_subset" for run in runs):
        return []
    size = BENCHMARK_NAMED["EgoSchema"].questions
    return [f"egoschema_subset has 500 of EgoSchema's {size:,} questions; the paper's scores are of all of them."]
