"""Cells and tables in Markdown, LaTeX and CSV."""

import csv
import io

import pytest

from st_simdiff.report.render import Column, Sheet, Table, render, show, to_csv, to_latex, to_markdown

TABLE = Table(
    "t",
    "A title with 5 % & an under_score",
    (
        Column("method"),
        Column("n"),
        Column("score"),
        Column("95 % interval", signed=True),
        Column("p", digits=3, p=True),
    ),
    (
        ("Full_model", 2700, 63.25, (-1.24, 0.0), 0.0001),
        ("[a|b]", None, None, (None, None), 1.0),
    ),
    ("A note.",),
    more_rows=(("only in data", 1, 2.0, (1.0, 3.0), 0.5),),
)
SHEET = Sheet("s", (TABLE,), ("Of the sheet.",))


@pytest.mark.parametrize(
    ("cell", "column", "text"),
    [
        (None, Column(""), "–"),
        ((None, None), Column(""), "–"),
        ((1.0, 2.26), Column(""), "[1.0, 2.3]"),
        (-0.04, Column("", signed=True), "0.0"),
        (0.0, Column("", signed=True), "0.0"),
        (1.25, Column("", signed=True, digits=2), "+1.25"),
        (-1.25, Column("", digits=2), "−1.25"),
        (12544, Column(""), "12,544"),
        (True, Column(""), "yes"),
        (False, Column(""), "no"),
        (0.00049, Column("", digits=3, p=True), "<0.001"),
        (0.02, Column("", digits=3, p=True), "0.020"),
        ("word", Column(""), "word"),
    ],
)
def test_cells(cell, column, text):
    assert show(cell, column) == text


def test_markdown():
    assert to_markdown(SHEET) == (
        "### A title with 5 % & an under_score\n\n"
        "| method | n | score | 95 % interval | p |\n"
        "|---|---:|---:|---:|---:|\n"
        "| Full\\_model | 2,700 | 63.2 | [−1.2, 0.0] | <0.001 |\n"
        "| [a\\|b] | – | – | – | 1.000 |\n\n"
        "- A note.\n\n"
        "- Of the sheet.\n"
    )


def test_latex():
    text = to_latex(SHEET)
    assert "\\caption{A title with 5 \\% \\& an under\\_score}" in text
    assert "\\begin{tabular}{lrrrr}" in text
    assert "Full\\_model & 2,700 & 63.2 & [$-$1.2, 0.0] & \\textless{}0.001 \\\\" in text
    assert "{}[a|b] & -- & -- & -- & 1.000 \\\\" in text
    assert text.count("\\begin{") == text.count("\\end{") == 2
    assert "only in data" not in text


def test_csv_is_unrounded_and_has_all_rows():
    lines = list(csv.reader(io.StringIO(to_csv(TABLE))))
    assert lines[0] == ["method", "n", "score", "95 % interval low", "95 % interval high", "p"]
    assert lines[1] == ["Full_model", "2700", "63.25", "-1.24", "0.0", "0.0001"]
    assert lines[2] == ["[a|b]", "", "", "", "", "1.0"]
    assert lines[3][0] == "only in data"


def test_csv_leaves_out_tables_for_reading():
    sheet = Sheet("s", (Table("r", "", (Column("a"),), (("x",),), for_reading=True), TABLE))
    assert render(sheet, "csv").keys() == {"t.csv"}
    assert render(sheet, "md").keys() == {"s.md"}
    assert render(sheet, "tex").keys() == {"s.tex"}
