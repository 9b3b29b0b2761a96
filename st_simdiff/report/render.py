"""A table as text for a terminal, Markdown, LaTeX or CSV."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from st_simdiff.errors import unknown

Cell = str | int | float | bool | None | tuple[float | None, float | None]
"""A pair is an interval; None is nothing to tell."""

NOTHING = "–"


@dataclass(frozen=True)
class Column:
    """digits: after the point. signed: print + as well. p: a probability, never printed as 0."""

    title: str
    digits: int = 1
    signed: bool = False
    p: bool = False


@dataclass(frozen=True)
class Table:
    """rows: one cell a column. for_reading: left out of CSV, because its cells are made for the eye.

    for_machines: in CSV only.

    more_rows: rows that only CSV has.
    """

    name: str
    title: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[Cell, ...], ...]
    notes: tuple[str, ...] = ()
    for_reading: bool = False
    more_rows: tuple[tuple[Cell, ...], ...] = ()
    for_machines: bool = False


@dataclass(frozen=True)
class Sheet:
    """Tables that belong together; one file in Markdown and LaTeX, one file a table in CSV."""

    name: str
    tables: tuple[Table, ...]
    notes: tuple[str, ...] = field(default=())


def show(cell: Cell, column: Column) -> str:
    """A cell as a reader sees it."""
    if isinstance(cell, tuple):
        low, high = cell
        return NOTHING if low is None or high is None else f"[{_number(low, column)}, {_number(high, column)}]"
    if cell is None:
        return NOTHING
    if isinstance(cell, bool):
        return "yes" if cell else "no"
    if isinstance(cell, int):
        return f"{cell:,}"
    return _number(cell, column) if isinstance(cell, float) else cell


def _number(value: float, column: Column) -> str:
    if column.p and value < 10**-column.digits:
        return f"<{10**-column.digits:.{column.digits}f}"
    text = f"{value:{'+' if column.signed else ''}.{column.digits}f}"
    is_zero = float(text) == 0
    return (text.lstrip("+-") if is_zero else text).replace("-", "−")


_TERMINAL = str.maketrans({NOTHING: "-", "−": "-"})


def to_text(table: Table) -> str:
    """Columns aligned for a terminal, the title and notes left out; numbers right, words left."""
    head = [column.title for column in table.columns]
    body = [
        [show(cell, column).translate(_TERMINAL) for cell, column in zip(row, table.columns, strict=True)]
        for row in table.rows
    ]
    widths = [max(map(len, cells)) for cells in zip(head, *body, strict=True)]
    lines = [head, ["-" * width for width in widths], *body]
    numeric = [_is_numeric(table, number) for number in range(len(head))]
    padded = (
        "  ".join(
            cell.rjust(w) if right else cell.ljust(w) for cell, w, right in zip(line, widths, numeric, strict=True)
        )
        for line in lines
    )
    return "\n".join(line.rstrip() for line in padded)


def to_markdown(sheet: Sheet) -> str:
    """Every table with its title and notes."""
    parts = []
    for table in _readable(sheet):
        lines = [f"### {table.title}", ""]
        numeric = [_is_numeric(table, number) for number in range(len(table.columns))]
        lines.append("| " + " | ".join(_escape_markdown(column.title) for column in table.columns) + " |")
        lines.append("|" + "|".join("---:" if right else "---" for right in numeric) + "|")
        for row in table.rows:
            cells = [_escape_markdown(show(cell, column)) for cell, column in zip(row, table.columns, strict=True)]
            lines.append("| " + " | ".join(cells) + " |")
        parts.append("\n".join(lines + _bullets(table.notes)))
    if sheet.notes:
        parts.append("\n".join(_bullets(sheet.notes)).strip("\n"))
    return "\n\n".join(parts) + "\n"


def _readable(sheet: Sheet) -> list[Table]:
    return [table for table in sheet.tables if not table.for_machines]


def _bullets(notes: Sequence[str]) -> list[str]:
    return ["", *(f"- {_escape_markdown(note)}" for note in notes)] if notes else []


_MARKDOWN = re.compile(r"[\\`*_|]|\](?=\()|<(?=[A-Za-z/!?])")
"""What is marked up: emphasis, code, a cell's end, a link, HTML."""


def _escape_markdown(text: str) -> str:
    """`text` as it is read: no markup, no HTML, on one line."""
    return _MARKDOWN.sub(r"\\\g<0>", " ".join(text.split()))


def to_latex(sheet: Sheet) -> str:
    """Every table as a `table` with booktabs rules; needs \\usepackage{booktabs} and a Unicode engine or inputenc."""
    parts = []
    for table in _readable(sheet):
        numeric = [_is_numeric(table, number) for number in range(len(table.columns))]
        lines = ["\\begin{table}", "\\centering", f"\\caption{{{_escape_latex(table.title)}}}"]
        lines += [f"\\begin{{tabular}}{{{''.join('r' if right else 'l' for right in numeric)}}}", "\\toprule"]
        lines += [" & ".join(_escape_latex(column.title) for column in table.columns) + " \\\\", "\\midrule"]
        for row in table.rows:
            cells = [_escape_latex(show(cell, column)) for cell, column in zip(row, table.columns, strict=True)]
            # A row that begins with [ would be taken for the optional argument of the line break before it.
            lines.append(("{}" if cells[0].startswith("[") else "") + " & ".join(cells) + " \\\\")
        lines += ["\\bottomrule", "\\end{tabular}"]
        lines += [f"\\par\\footnotesize {_escape_latex(note)}" for note in (*table.notes, *sheet.notes)]
        parts.append("\n".join([*lines, "\\end{table}"]))
    return "\n\n".join(parts) + "\n"


_LATEX = {
    "\\": "\\textbackslash{}",
    "&": "\\&",
    "%": "\\%",
    "$": "\\$",
    "#": "\\#",
    "_": "\\_",
    "{": "\\{",
    "}": "\\}",
    "~": "\\textasciitilde{}",
    "^": "\\textasciicircum{}",
    "<": "\\textless{}",
    ">": "\\textgreater{}",
    "−": "$-$",
    "–": "--",
    "±": "$\\pm$",
}


def _escape_latex(text: str) -> str:
    return "".join(_LATEX.get(character, character) for character in text)


def to_csv(table: Table) -> str:
    """Unrounded numbers, an interval as two columns, nothing as an empty cell."""
    all_rows = (*table.rows, *table.more_rows)
    pairs = [any(isinstance(row[number], tuple) for row in all_rows) for number in range(len(table.columns))]
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    head: list[str] = []
    for column, is_pair in zip(table.columns, pairs, strict=True):
        head += [f"{column.title} low", f"{column.title} high"] if is_pair else [column.title]
    writer.writerow(head)
    for row in all_rows:
        cells: list[Cell] = []
        for cell, is_pair in zip(row, pairs, strict=True):
            cells += (cell if isinstance(cell, tuple) else (None, None)) if is_pair else (cell,)
        writer.writerow(["" if cell is None else _plain(cell) for cell in cells])
    return out.getvalue()


def _plain(cell: Cell) -> Cell:
    if isinstance(cell, bool):
        return "yes" if cell else "no"
    return round(cell, 6) if isinstance(cell, float) else cell


def _is_numeric(table: Table, number: int) -> bool:
    return not any(isinstance(row[number], str) for row in table.rows)


def _all_csv(sheet: Sheet) -> dict[str, str]:
    return {f"{table.name}.csv": to_csv(table) for table in sheet.tables if not table.for_reading}


FORMATS: dict[str, Callable[[Sheet], dict[str, str]]] = {
    "md": lambda sheet: {f"{sheet.name}.md": to_markdown(sheet)},
    "tex": lambda sheet: {f"{sheet.name}.tex": to_latex(sheet)},
    "csv": _all_csv,
}


def render(sheet: Sheet, format_name: str) -> dict[str, str]:
    """File names and contents of `sheet` in one of `FORMATS`. Raises `InputError` for another format."""
    if format_name not in FORMATS:
        raise unknown("table format", format_name, FORMATS)
    return FORMATS[format_name](sheet)


def percent(share: float) -> str:
    """A share as it was given: 0.3 is 30%, and 0.001 is 0.1%."""
    return f"{100 * share:.10g}%"
