"""The documentation of the methods follows the registry."""

from __future__ import annotations

from pathlib import Path

import pytest

from st_simdiff.errors import InputError
from st_simdiff.methods.budgeted import Budgeted
from st_simdiff.methods.registry import METHODS
from st_simdiff.methods.table import BEGIN, END, methods_table, with_table

DOCS = Path(__file__).parents[2] / "docs" / "methods.md"


def test_the_table_is_up_to_date() -> None:
    text = DOCS.read_text()
    assert with_table(text) == text, "run: python -m st_simdiff.methods.table docs/methods.md"


def test_the_table_names_every_method_and_setting() -> None:
    rows = methods_table().splitlines()[2:]
    assert [row.split("`")[1] for row in rows] == list(METHODS.own)
    assert {row.count("|") for row in rows} == {7}
    by_name = dict(zip(METHODS.own, rows, strict=True))
    assert "after layer 1 | – | ceil(r N) | `budget='tokens'`, `k=2` |" in by_name["fastv"]
    assert "at the input, after each layer" in by_name["framefusion"]
    assert "at the input | attention, keys |" in by_name["visionzip"]
    assert "the nearest count" in by_name["sttm"]
    assert "| all |" in by_name["full"]


def test_every_compared_method_is_described() -> None:
    text = DOCS.read_text()
    headings = [line for line in text.splitlines() if line.startswith("### ")]
    for name, method in METHODS.own.items():
        if issubclass(method, Budgeted):
            assert sum(f"`{name}`" in heading for heading in headings) == 1, name


def test_a_text_without_markers_is_refused() -> None:
    with pytest.raises(InputError, match="needs the lines"):
        with_table(f"{END}\n{BEGIN}")
    assert with_table(f"a\n{BEGIN}\nold\n{END}\nb") == f"a\n{BEGIN}\n{methods_table()}\n{END}\nb"
