"""The benchmark's rows as a reader sees them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from st_simdiff.bench.random_models import RANDOM_MODELS
from st_simdiff.bench.rows import NOISY, ONE_ROUND, Row
from st_simdiff.errors import InputError
from st_simdiff.models.clock import STAGES
from st_simdiff.report.render import Cell, Column, Sheet, Table, percent, to_markdown
from st_simdiff.vocabulary import FULL, OURS

CAVEATS = (
    f"Noisy: the rounds of a row differ by more than {NOISY - 1:.0%} in speed-up (those of the full model in time), or "
    "its speed-up exceeds the limit by more, as on a machine with other work; it is not compared with the limit. "
    "One round: nothing is known of how much rounds differ."
)
SHOWN = tuple(stage for stage in STAGES if stage not in ("decode", "preprocess", "decoding", "other"))


def rows_table(rows: Sequence[Row], title: str) -> Table:
    """Time, speed-up, limit and memory of every row."""
    full = {(row.frames, row.batch): row for row in rows if row.method == FULL}
    columns = (
        *(Column("frames"), Column("batch"), Column("method"), Column("r", digits=2), Column("tokens in", digits=0)),
        *(Column("tokens kept", digits=0), Column("ms", digits=0), Column("speed-up", digits=2)),
        *(Column("low to high", digits=2), Column("limit", digits=2), Column("% of limit", digits=0)),
        *(Column("peak MB", digits=0), Column("% of memory saved", digits=0), Column("")),
    )
    table_rows = []
    for row in rows:
        reference = full.get((row.frames, row.batch))
        is_full = row.method == FULL
        saved = None
        if not is_full and row.peak_bytes is not None and reference is not None and reference.peak_bytes:
            saved = 100 * (1 - row.peak_bytes / reference.peak_bytes)
        speedup = None if is_full else row.speedup
        table_rows.append(
            (
                *(row.frames, row.batch, row.method, _retention(row), row.entering, row.kept),
                None if row.milliseconds is None else row.milliseconds.median,
                None if speedup is None else speedup.median,
                None if speedup is None or speedup.count == 1 else (speedup.low, speedup.high),
                None if is_full else row.limit,
                None if is_full or row.reached is None or row.is_noisy else 100 * row.reached,
                None if row.peak_bytes is None else row.peak_bytes / 1e6,
                saved,
                row.caveat,
            )
        )
    return Table("end_to_end", title, columns, tuple(table_rows))


def split_table(rows: Sequence[Row], title: str) -> Table:
    """Where the time goes: milliseconds a stage, and those lost against the limit by cause."""
    measured = [row for row in rows if row.stages is not None]
    causes = list(dict.fromkeys(cause for row in measured for cause in row.losses or ()))
    columns = (
        *(Column("frames"), Column("batch"), Column("method"), Column("r", digits=2)),
        *(Column(f"{stage} ms", digits=1) for stage in SHOWN),
        *(Column(f"lost: {cause}", digits=1) for cause in causes),
        Column(""),
    )
    table_rows = tuple(
        (
            *(row.frames, row.batch, row.method, _retention(row)),
            *(row.stages[stage] for stage in SHOWN),
            *(None if row.method == FULL or row.losses is None else row.losses[cause] for cause in causes),
            row.caveat,
        )
        for row in measured
    )
    return Table("split", title, columns, table_rows)


def _retention(row: Row) -> Cell:
    """With more than the column's two digits where it has more."""
    return row.retention if round(row.retention, 2) == row.retention else f"{row.retention:g}"


BEGIN, END = "<!-- results: begin -->", "<!-- results: end -->"


def with_summary(text: str, entries: Sequence[Mapping[str, Any]]) -> str:
    """`text` with a fresh summary between its markers. Raises `InputError` where a marker is missing."""
    if text.find(BEGIN) < 0 or text.find(END) < text.find(BEGIN):
        raise InputError(f"The text needs the lines {BEGIN!r} and {END!r}, in this order.")
    before, rest = text.split(BEGIN, 1)
    return f"{before}{BEGIN}\n{summary_markdown(entries)}{END}{rest.split(END, 1)[1]}"


def summary_markdown(entries: Sequence[Mapping[str, Any]]) -> str:
    """What the documentation shows of the results file: ST-SimDiff everywhere, all methods at batch 1, and the split.

    Models that have not been measured are named.
    """
    parts = []
    measured = {entry["conditions"]["model"]: entry for entry in entries}
    for name, model in RANDOM_MODELS.items():
        if name == "smallest":
            continue
        if name not in measured:
            parts.append(f"**{model.title}**: not measured.\n")
            continue
        rows = [Row.from_json(row) for row in measured[name]["rows"]]
        ours = [row for row in rows if row.method in (FULL, OURS)]
        compared = {row.frames for row in rows if row.method not in (FULL, OURS)}
        at_30 = [row for row in rows if row.frames in compared and (row.method == FULL or row.retention == 0.3)]
        split = [row for row in ours if row.batch == 1 and (row.method == FULL or row.retention == 0.3)]
        tables = [
            rows_table(ours, f"{model.title}: ST-SimDiff"),
            rows_table([row for row in at_30 if row.batch == 1], f"{model.title}: every method"),
            split_table(split, f"{model.title}: where the time goes"),
        ]
        tables = [table for table in tables if table.rows]
        parts.append(to_markdown(Sheet("end_to_end", tuple(tables), _notes(measured[name]))))
    return "\n".join(parts)


def entry_markdown(entry: Mapping[str, Any], title: str) -> str:
    """One entry of the results file."""
    rows = [Row.from_json(row) for row in entry["rows"]]
    tables = (rows_table(rows, title), split_table(rows, f"{title}: where the time goes"))
    return to_markdown(Sheet("end_to_end", tables, _notes(entry)))


def _notes(entry: Mapping[str, Any]) -> tuple[str, ...]:
    conditions = entry["conditions"]
    machine = conditions["hardware"]
    where = machine["gpu"] or f"{machine['cpu']}, {machine['threads']} thread{'s' * (machine['threads'] > 1)}"
    candidates = percent(conditions["candidates"])
    notes = [
        f"{where}, torch {machine['torch']}, {conditions['dtype']}; {conditions['clock']} time from pixels to the "
        f"first token, medians; {candidates} of the tokens are candidates at 30 %. Limit: the ratio of FLOPs. "
        f"{CAVEATS} Lost: milliseconds beyond the full model's time divided by the limit, by cause."
    ]
    estimates = entry.get("break_even_frames", ())
    if estimates:
        notes[0] += (
            " Estimates follow from the speed of the full model's prefill and the overhead of selection and scoring."
        )
    for found in estimates:
        count = found["frames"]
        frames = f"from {count} frame{'s' * (count > 1)} on" if count else "at no number of frames"
        basis = {"": "", "noisy": ", from noisy rows", ONE_ROUND: ", from one round"}[found.get("caveat", "")]
        notes.append(
            f"At {percent(found['retention'])}, batch {found['batch']}, ST-SimDiff would save time {frames} "
            f"(estimated{basis}, not measured)."
        )
    return tuple(notes)
