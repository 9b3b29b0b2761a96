"""One call of `st-simdiff bench`: from its options to rows, a results file and a figure."""

from __future__ import annotations

import argparse
import logging
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TextIO

import torch

from st_simdiff.bench.measure import TEXT, Bench, Configuration
from st_simdiff.bench.measure import logger as measuring
from st_simdiff.bench.options import CLOCKS, MODELS, MOST_BATCH, choice, number, numbers, share, shares
from st_simdiff.bench.random_models import RANDOM_MODELS, build
from st_simdiff.bench.results_file import Conditions, add_rows, hardware, read_entries, what_follows
from st_simdiff.bench.rows import Row, entering_share
from st_simdiff.bench.tables import entry_markdown
from st_simdiff.checks import MOST_FRAMES, MOST_REPEATS
from st_simdiff.errors import InputError, unknown
from st_simdiff.files import check_folder
from st_simdiff.methods.registry import METHODS
from st_simdiff.models.costs import model_cost
from st_simdiff.models.flops import match_budget
from st_simdiff.vocabulary import FULL

FIGURE_FORMATS = (".png", ".svg", ".pdf")
LEAST_CANDIDATES = 0.3
"""Of which share of the tokens the planted features can be made."""
ALL = "all"
"""In place of the names of all methods."""
NO_RETENTION_1 = "Compression keeps less than all tokens: --match_budget needs a retention below 1."


def run(options: argparse.Namespace, extra: Sequence[str], out: TextIO) -> None:  # noqa: ARG001
    """Measures what the options ask for. Rows are in the results file as soon as their case is done.

    Raises `InputError` for options that make no sense.
    """
    device = _device(options.device)
    name = _model(options.model, device, options.match_budget)
    dtype = _dtype(options.dtype, device)
    frames = numbers(options.frames, "frames", MOST_FRAMES)
    batches = numbers(options.batch, "batch", MOST_BATCH)
    retentions = shares(options.retention, "retention")
    candidates = share(options.candidates, "candidates", LEAST_CANDIDATES)
    if options.match_budget:
        _print_matches(name, frames, retentions, candidates, out)
        return
    configurations = _configurations(_methods(options.methods), retentions)
    repeats = number(options.repeats, "repeats", MOST_REPEATS)
    chunk = number(options.frames_per_chunk, "frames_per_chunk", MOST_FRAMES)
    clock = choice(options.clock, "clock", CLOCKS)
    _check_figure(options.figure)
    _check_results(options.json)
    precision = str(dtype).removeprefix("torch.")
    conditions = Conditions(name, hardware(device), precision, candidates, clock, TEXT, chunk)
    with tempfile.TemporaryDirectory() as folder, progress_told(sys.stderr):
        path = options.json or Path(folder) / "results.json"
        if options.json:
            measuring.info("results go to %s%s", path, "" if path.parent.is_dir() else ", whose folder is made")
        measuring.info("making %s, on %s in %s", RANDOM_MODELS[name].title, device, precision)
        model = build(name, device, dtype, chunk)
        bench = Bench(model, candidates=candidates, now={"wall": time.perf_counter, "cpu": time.process_time}[clock])
        for batch in batches:
            for count in frames:
                add_rows(path, conditions, bench.case(count, batch, configurations, repeats))
        add_rows(path, conditions, [], _conclusions(bench, path, conditions))
        entry = next(one for one in read_entries(path) if one["conditions"]["model"] == name)
        if options.figure:
            from st_simdiff.report.end_to_end import draw

            draw(path, options.figure)
    out.write(entry_markdown(entry, RANDOM_MODELS[name].title))


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


def _conclusions(bench: Bench, path: Path, conditions: Conditions) -> dict:
    entry = next(one for one in read_entries(path) if one["conditions"]["model"] == conditions.model)
    rows = [Row.from_json(row) for row in entry["rows"]]
    return what_follows(bench.cost, rows, bench.floor_seconds(), conditions.candidates)


def _print_matches(name: str, frames: list[int], retentions: list[float], candidates: float, out: TextIO) -> None:
    if max(retentions) >= 1:
        raise InputError(NO_RETENTION_1)
    cost = model_cost(build(name, torch.device("meta"), torch.float32), text=TEXT)
    for reference in frames:
        for retention in retentions:
            found = match_budget(cost, retention, entering_share(candidates, retention), reference_frames=reference)
            out.write(
                f"{RANDOM_MODELS[name].title}: {found} frames at retention {retention:g} cost what {reference} frames "
                "cost the full model.\n"
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
    check_folder(path.parent, "--figure")


def _check_results(path: Path | None) -> None:
    """Before anything is measured: whether the results can be added to the file. Nothing is made yet."""
    if path is None:
        return
    check_folder(path.parent, "--json")
    if path.is_dir():
        raise InputError(f"--json {path} is a folder: name a file in it.")
    try:
        read_entries(path)
    except OSError as error:
        raise InputError(f"--json {path} cannot be read: {error.strerror or error}.") from error
