"""One call of `st-simdiff bench`: from its options to rows, a results file and a figure."""

from __future__ import annotations

import argparse
import itertools
import logging
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any, TextIO

import torch

from st_simdiff.bench.measure import TEXT, Bench, Configuration, counted
from st_simdiff.bench.measure import logger as measuring
from st_simdiff.bench.options import (
    CLOCKS,
    MEASURING,
    MODELS,
    MOST_BATCH,
    changed,
    choice,
    number,
    numbers,
    share,
    shares,
)
from st_simdiff.bench.random_models import RANDOM_MODELS, build
from st_simdiff.bench.results_file import Conditions, Results, hardware, read_entries, what_follows, write_entries
from st_simdiff.bench.rows import Row, entering_share
from st_simdiff.bench.tables import entry_markdown
from st_simdiff.checks import MOST_FRAMES, MOST_REPEATS
from st_simdiff.errors import InputError, unknown
from st_simdiff.files import check_writable
from st_simdiff.methods.registry import METHODS
from st_simdiff.models.costs import model_cost
from st_simdiff.models.flops import match_budget
from st_simdiff.vocabulary import FULL, OURS

FIGURE_FORMATS = (".png", ".svg", ".pdf")
LEAST_CANDIDATES = 0.3
"""Of which share of the tokens the planted features can be made."""
ALL = "all"
"""In place of the names of all methods."""
NO_RETENTION_1 = "Compression keeps less than all tokens: --match_budget needs a retention below 1."


def run(options: argparse.Namespace, extra: Sequence[str], out: TextIO) -> None:  # noqa: ARG001
    """Measures what the options ask for. Rows are in the results file as soon as their case is done.

    Raises `InputError` for options that make no sense, where no method reaches its retention, and, behind the tables,
    for a file that could not be written.
    """
    device = _device(options.device)
    name = _model(options.model, device, options.match_budget)
    dtype = _dtype(options.dtype, device)
    frames = numbers(options.frames, "frames", MOST_FRAMES)
    batches = numbers(options.batch, "batch", MOST_BATCH)
    retentions = shares(options.retention, "retention")
    candidates = share(options.candidates, "candidates", LEAST_CANDIDATES)
    methods = _methods(options.methods)
    if options.match_budget:
        _refuse_measuring(options, methods)
        _print_matches(name, frames, retentions, candidates, out)
        return
    configurations = _configurations(methods, retentions)
    repeats = number(options.repeats, "repeats", MOST_REPEATS)
    chunk = number(options.frames_per_chunk, "frames_per_chunk", MOST_FRAMES)
    clock = choice(options.clock, "clock", CLOCKS)
    _check_figure(options.figure)
    _check_results(options.json)
    precision = str(dtype).removeprefix("torch.")
    conditions = Conditions(name, hardware(device), precision, candidates, clock, TEXT, chunk)
    results = Results(options.json, conditions)
    if options.figure:
        _check_drawable(results.entries, batches)
    with progress_told(sys.stderr):
        if options.json:
            made = "" if options.json.parent.is_dir() else ", whose folder is made"
            measuring.info("results go to %s%s", options.json, made)
        measuring.info("making %s, on %s in %s", RANDOM_MODELS[name].title, device, precision)
        model = build(name, device, dtype, chunk)
        bench = Bench(model, candidates=candidates, now={"wall": time.perf_counter, "cpu": time.process_time}[clock])
        for batch, count in itertools.product(batches, frames):
            if rows := list(bench.case(count, batch, configurations, repeats)):
                results.add(rows)
                if results.failure:
                    measuring.warning("%s is not written: %s", options.json, results.failure)
        if not results.rows:
            raise InputError(f"No method is left to be measured: {' '.join(bench.left_out)}")
        results.add([], _conclusions(bench, results.entry, candidates))
    out.write(entry_markdown(results.entry, RANDOM_MODELS[name].title))
    out.write("".join(f"\n{sentence}\n" for sentence in bench.left_out))
    out.flush()
    if options.figure:
        _draw(results.entries, options.figure)
    if results.failure:
        raise InputError(f"--json {options.json} could not be written: {results.failure}; the tables have all rows.")


def _draw(entries: Sequence[Mapping[str, Any]], figure: Path) -> None:
    from st_simdiff.report.end_to_end import draw

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "results.json"
        write_entries(path, entries)
        try:
            draw(path, figure)
        except OSError as error:
            raise InputError(f"--figure {figure} could not be written: {error.strerror or error}.") from error


@contextmanager
def progress_told(stream: TextIO) -> Iterator[None]:
    """Inside the block, a line for every step goes to `stream`, which may as well be a file."""
    handler = logging.StreamHandler(stream)
    before = measuring.level
    measuring.addHandler(handler)
    measuring.setLevel(logging.INFO)
    try:
        yield
    finally:
        measuring.removeHandler(handler)
        measuring.setLevel(before)


def _conclusions(bench: Bench, entry: Mapping[str, Any], candidates: float) -> dict:
    return what_follows(bench.cost, [Row.from_json(row) for row in entry["rows"]], bench.floor_seconds(), candidates)


def _refuse_measuring(options: argparse.Namespace, methods: Sequence[str]) -> None:
    if methods != [OURS]:
        raise InputError(f"--match_budget is worked out for {OURS} alone, got --methods {options.methods}.")
    if unused := changed(options, MEASURING):
        raise InputError(f"--match_budget measures nothing, so that {', '.join(unused)} would have no effect.")


def _print_matches(name: str, frames: list[int], retentions: list[float], candidates: float, out: TextIO) -> None:
    if max(retentions) >= 1:
        raise InputError(NO_RETENTION_1)
    cost = model_cost(build(name, torch.device("meta"), torch.float32), text=TEXT)
    for reference in frames:
        for retention in retentions:
            found = match_budget(cost, retention, entering_share(candidates, retention), reference_frames=reference)
            out.write(
                f"{RANDOM_MODELS[name].title}: with {OURS}, {counted(found)} at retention {retention:g} "
                f"cost{'s' * (found == 1)} what {counted(reference)} cost{'s' * (reference == 1)} the full model.\n"
            )


def _methods(text: str) -> list[str]:
    """The methods of a comma-separated list, or all of them, each once. Raises `InputError`."""
    given = [name.strip() for name in text.split(",")]
    if not all(given):
        raise InputError(f"--methods takes comma-separated methods, or {ALL}, got {text!r}.")
    for name in given:
        if name != ALL and name not in METHODS and METHODS.package(name) is None:
            raise unknown("method", name, (*METHODS, ALL))
    named = [METHODS.find(name).name for name in given if name != ALL]
    return list(dict.fromkeys([*named, *(METHODS if ALL in given else ())]))


def _configurations(methods: list[str], retentions: list[float]) -> list[Configuration]:
    """Every method at every retention."""
    configurations = [Configuration(name, retention) for name in methods if name != FULL for retention in retentions]
    for configuration in configurations:
        configuration.make()  # bad settings are refused before anything is measured
    return configurations


def _device(asked: str) -> torch.device:
    choice(asked, "device", ("auto", "cpu", "cuda"), {"gpu": "cuda"})
    if asked == "cuda" and not torch.cuda.is_available():
        raise InputError("--device cuda was asked for, but torch sees no CUDA GPU; use cpu or auto.")
    return torch.device("cuda" if asked != "cpu" and torch.cuda.is_available() else "cpu")


def _model(asked: str, device: torch.device, matching: bool) -> str:
    if asked == "auto":
        return "7b" if device.type == "cuda" else "scaled"
    if choice(asked, "model", MODELS) == "7b" and device.type != "cuda" and not matching:
        raise InputError("--model 7b is measured on a CUDA GPU; use --model scaled on a CPU.")
    return asked


def _dtype(asked: str, device: torch.device) -> torch.dtype:
    choice(asked, "dtype", ("auto", "float32", "float16", "bfloat16"))
    if asked == "auto":
        return torch.bfloat16 if device.type == "cuda" else torch.float32
    return getattr(torch, asked)


def _check_figure(path: Path | None) -> None:
    if path is None:
        return
    if path.suffix not in FIGURE_FORMATS:
        raise unknown("figure format", path.suffix, FIGURE_FORMATS)
    if find_spec("matplotlib") is None:
        raise InputError("Figures need the package matplotlib: pip install 'st-simdiff[report]'.")
    check_writable(path, "--figure")


def _check_drawable(entries: Sequence[Mapping[str, Any]], batches: Sequence[int]) -> None:
    if 1 not in batches and not any(row["batch"] == 1 for entry in entries for row in entry["rows"]):
        given = ",".join(map(str, batches))
        raise InputError(f"--figure shows what was measured at batch 1: add it to --batch, got {given}.")


def _check_results(path: Path | None) -> None:
    """Before anything is measured: whether the results can be added to the file. Nothing stays made."""
    if path is None:
        return
    check_writable(path, "--json")
    try:
        read_entries(path)
    except OSError as error:
        raise InputError(f"--json {path} cannot be read: {error.strerror or error}.") from error
