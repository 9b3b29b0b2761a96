"""Reads what evaluations wrote and sets it beside what the paper printed: statistics, tables, plots. Never a model."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from st_simdiff.extras import missing_package

if TYPE_CHECKING:
    from st_simdiff.report.tables import Written

__all__ = ["write_plots", "write_tables"]


def write_tables(logs: Path, out: Path, formats: Iterable[str] = ("md", "tex", "csv")) -> Written:
    """See `st_simdiff.report.tables.write_tables`. Raises `InputError` where numpy is not installed."""
    try:
        from st_simdiff.report import tables
    except ModuleNotFoundError as error:
        raise missing_package("A table", error, "report") from error
    return tables.write_tables(logs, out, formats)


def write_plots(logs: Path, out: Path, format_name: str = "png") -> Written:
    """See `st_simdiff.report.plots.write_plots`. Raises `InputError` where matplotlib is not installed."""
    try:
        from st_simdiff.report import plots
    except ModuleNotFoundError as error:
        raise missing_package("A plot", error, "report") from error
    return plots.write_plots(logs, out, format_name)
