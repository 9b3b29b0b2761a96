"""One table for any task: every method, setting and retention that was run on it."""

from __future__ import annotations

from collections.abc import Sequence

from st_simdiff.report.caveats import caveats
from st_simdiff.report.comparison import Comparer, Part, Protocols, full_model
from st_simdiff.report.paper_scores import rank
from st_simdiff.report.paper_tables import PAIRED_NOTE, paired_cells
from st_simdiff.report.reading import TaskRun
from st_simdiff.report.render import Cell, Column, Sheet, Table
from st_simdiff.report.statistics import FEWEST_VIDEOS
from st_simdiff.vocabulary import FULL

MOST_GROUP_VALUES = 4
"""Groups of up to so many values get a column a value."""

ROUNDING = 0.05
"""Of lmms-eval's scores, some of which have few digits, in points."""

OWN_SCORE = (
    "As the task counts: lmms-eval's own score, which for MLVU and MVBench is the mean over the kinds of question, and "
    "which counts unreadable videos as wrong where the task does not leave them out."
)

COST_COUNTS = (
    ("tokens in", "visual_tokens", 0),
    ("tokens kept", "visual_tokens_kept", 0),
    ("realised retention", "realised_retention", 3),
    ("layer-averaged share", "layer_averaged_share", 3),
    ("seconds", "seconds", 2),
)
"""Column, key of a question's counts, digits."""


def order(run: TaskRun) -> tuple:
    """Full model first, then by falling retention, then as the paper's tables, then by name."""
    condition = run.condition
    place = rank(condition.variant)
    return (condition.frames or 0, condition.method != FULL, -condition.retention, place, condition.label)


def parts_of(runs: Sequence[TaskRun]) -> list[Part]:
    """Every group value that gets a column of its own."""
    keys = dict.fromkeys(key for run in runs for document in run.documents for key in document.groups)
    parts = []
    for key in keys:
        values = sorted({value for run in runs for value in run.group_values(key)})
        if 1 < len(values) <= MOST_GROUP_VALUES:
            parts += [Part(key, value) for value in values]
    return parts


def grid_sheet(name: str, runs: Sequence[TaskRun], comparer: Comparer, protocols: Protocols) -> Sheet:
    """The table of one task on one model. runs: at least one, all of that task and model."""
    runs = sorted(runs, key=order)
    first = runs[0]
    mixed = len({protocols.letter(run) for run in runs}) > 1
    title = f"{first.task} on {first.condition.model}"
    tables = [_scores(name, title, runs, comparer, protocols, mixed)]
    groups = _groups(f"{name}_groups", title, runs, comparer, protocols)
    paired = _paired(f"{name}_paired", title, runs, comparer)
    notes = [note for note in protocols.notes if f" {first.task} on {first.condition.model}." in note]
    more = (paired, groups)
    return Sheet(name, (*tables, *(table for table in more if table.rows)), (*notes, *caveats(runs)))


def _scores(
    name: str, title: str, runs: Sequence[TaskRun], comparer: Comparer, protocols: Protocols, mixed: bool
) -> Table:
    parts = parts_of(runs)
    frames = any(run.condition.frames != runs[0].condition.frames for run in runs)
    in_all = any(run.coverage.in_all is not None for run in runs)
    own_score = any(_reports_another(run, comparer) for run in runs)
    costs = [cost for cost in COST_COUNTS if any(run.mean_count(cost[1]) is not None for run in runs)]
    columns = (
        *(Column("method"), Column("r", digits=2)),
        *((Column("frames"),) if frames else ()),
        *((Column("protocol"),) if mixed else ()),
        *(Column("questions"), *((Column("of"),) if in_all else ()), Column("score"), Column("95 % interval")),
        *((Column("as the task counts"),) if own_score else ()),
        *(Column(f"{part.group}: {part.value}") for part in parts),
        *(Column(title, digits=digits) for title, _, digits in costs),
    )
    rows = []
    conditions = [run.condition for run in runs]
    for run in runs:
        estimate = comparer.estimate(run)
        scores = [comparer.estimate(run, part) for part in parts]
        row: tuple[Cell, ...] = (
            *(run.condition.label_among(conditions), run.condition.retention),
            *((run.condition.frames,) if frames else ()),
            *((protocols.letter(run),) if mixed else ()),
            *(len(run.documents), *((run.coverage.in_all,) if in_all else ())),
            *((None, None) if estimate is None else (estimate.score, (estimate.low, estimate.high))),
            *((run.reported,) if own_score else ()),
            *(None if score is None else score.score for score in scores),
            *(run.mean_count(key) for _, key, _ in costs),
        )
        rows.append(row)
    notes = (_note(runs), *((OWN_SCORE,) if own_score else ()))
    return Table(name, title, columns, tuple(rows), notes)


def _reports_another(run: TaskRun, comparer: Comparer) -> bool:
    """Whether lmms-eval's score of the task is not the mean over the questions."""
    estimate = comparer.estimate(run)
    return estimate is not None and run.reported is not None and abs(run.reported - estimate.score) > ROUNDING


def _note(runs: Sequence[TaskRun]) -> str:
    counts = [len({document.video for document in run.documents}) for run in runs]
    least, most = min(counts), max(counts)
    if most < FEWEST_VIDEOS:
        few = "one video" if most == 1 else f"{most} videos"
        return f"Means over the questions, which are about {few}: too few for an interval."
    about = f"{most:,}" if least == most else f"{least:,} to {most:,}"
    without = f"; none for fewer than {FEWEST_VIDEOS}" if least < FEWEST_VIDEOS else ""
    return f"Means over the questions. Intervals: 95 %, bootstrap over the {about} videos that they are about{without}."


def _paired(name: str, title: str, runs: Sequence[TaskRun], comparer: Comparer) -> Table:
    columns = (
        *(Column("method"), Column("r", digits=2), Column("against"), Column("difference", signed=True)),
        *(Column("95 % interval", signed=True), Column("p", digits=3, p=True), Column("verdict")),
    )
    rows = []
    conditions = [run.condition for run in runs]
    for run in runs:
        label = run.condition.label_among(conditions)
        for other in (full_model(run, runs), comparer.best_rival(run, runs)):
            paired = None if other is None or other is run else comparer.paired(run, other)
            if paired is not None:
                rows.append((label, run.condition.retention, *paired_cells(paired)))
    heading = f"{title}: paired differences from the full model and from the best rival"
    return Table(name, heading, columns, tuple(rows), (PAIRED_NOTE,))


def _groups(name: str, title: str, runs: Sequence[TaskRun], comparer: Comparer, protocols: Protocols) -> Table:
    """A row for every value of the groups that have too many for columns; for CSV only, as there may be hundreds."""
    columns = (
        *(Column("method"), Column("r", digits=2), Column("protocol"), Column("group"), Column("value")),
        *(Column("questions"), Column("score"), Column("95 % interval")),
    )
    rows = []
    for run in runs:
        for key in dict.fromkeys(key for document in run.documents for key in document.groups):
            values = run.group_values(key)
            for value in sorted(values) if len(values) > MOST_GROUP_VALUES else ():
                estimate = comparer.estimate(run, Part(key, value))
                if estimate is not None:
                    condition = (run.condition.label, run.condition.retention, protocols.letter(run))
                    rows.append(
                        (*condition, key, value, estimate.questions, estimate.score, (estimate.low, estimate.high))
                    )
    return Table(name, f"{title}: by group", columns, tuple(rows), for_machines=True)
