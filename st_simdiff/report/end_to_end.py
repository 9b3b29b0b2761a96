"""Figure 3 redrawn from the benchmark's results file: time and memory over frames; ours, published, and the limit."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from st_simdiff.errors import InputError
from st_simdiff.files import read_regular
from st_simdiff.report.names import display_name
from st_simdiff.report.published import FIGURE_3_SAVINGS, HARDWARE
from st_simdiff.report.render import percent
from st_simdiff.report.style import FULL_LOOK, GREEN, GREY, INK, RC, looks
from st_simdiff.vocabulary import FULL, OURS

STAGES = {
    "encoding": ("vision", "projector"),
    "selection and scoring": ("selection", "scoring"),
    "prefill": ("prefill",),
}
"""What the bars tell apart, and the clock's stages in each."""
SHADES = {"encoding": "#BFC9D1", "selection and scoring": GREEN, "prefill": None}


@dataclass(frozen=True)
class Point:
    """One row of the benchmark at batch 1. seconds, gigabytes (10^9 bytes, above the weights): None if not measured.

    limit: full's FLOPs over this method's; for the full model 1.
    """

    frames: int
    method: str
    retention: float
    limit: float
    seconds: float | None = None
    gigabytes: float | None = None
    speedup: tuple[float, float, float] | None = None
    stages: Mapping[str, float] | None = None


def read_points(path: Path, model: str | None = None) -> tuple[str, list[Point]]:
    """The hardware, and the points of `model` (or of the file's first entry) at batch 1, by frames.

    Raises `InputError` where the file has none.
    """
    try:
        entries = json.loads(read_regular(Path(path)))["entries"] if Path(path).exists() else []
        found = [entry for entry in entries if model in (None, entry["conditions"]["model"])]
        points = [_point(row) for row in found[0]["rows"] if row["batch"] == 1 and "limit" in row] if found else []
        machine = found[0]["conditions"]["hardware"] if found else {}
        name = (machine["gpu"] or f"{machine['cpu']}, {machine['threads']} thread") if machine else ""
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise InputError(f"{path} is not a results file of `st-simdiff bench`.") from error
    if not points:
        raise InputError(f"{path} has no measured rows of {model or 'any model'} at batch 1: run `st-simdiff bench`.")
    return name, sorted(points, key=lambda p: p.frames)


def draw(path: Path, out: Path, model: str | None = None) -> None:
    """Draws the results file `path` to `out`, whose ending names the format. Raises `InputError` as `read_points`."""
    hardware, points = read_points(path, model)
    with rc_context(RC):
        out.parent.mkdir(parents=True, exist_ok=True)
        figure_3(points, hardware).savefig(out, bbox_inches="tight")


def figure_3(points: Sequence[Point], hardware: str) -> Figure:
    """Four panels: seconds by stage, time saved, memory, memory saved.

    Seconds of two machines cannot be compared, so the paper's figures stand among the shares saved alone.
    """
    figure = Figure(figsize=(12.5, 6.4))
    (seconds, saved), (memory, memory_saved) = figure.subplots(2, 2)
    shares = sorted({point.retention for point in points if point.method == OURS and point.retention < 1}, reverse=True)
    main = 0.3 if 0.3 in shares else (shares[0] if shares else 1.0)
    frames = sorted({point.frames for point in points})
    full = {point.frames: point for point in points if point.method == FULL}
    ours = {point.frames: point for point in points if (point.method, point.retention) == (OURS, main)}

    _bars(seconds, full, ours, main)
    for share in shares:
        line = [point for point in points if (point.method, point.retention) == (OURS, share)]
        _saved_time(saved, line, share, strong=share == main)
    printed = [(s.frames, s.seconds) for s in FIGURE_3_SAVINGS if s.seconds is not None]
    _published(saved, printed)
    saved.set_ylabel("% of time saved")

    look = looks([OURS])[OURS]
    for method, line, style in ((FULL, full, FULL_LOOK), (OURS, ours, look)):
        known = [(n, p.gigabytes) for n, p in line.items() if p.gigabytes is not None]
        if known:
            name = display_name(method) if method == FULL else f"{display_name(method)} {percent(main)}"
            memory.plot(*zip(*known, strict=True), color=style.colour, marker=style.marker or "o", label=name)
    memory.set_ylabel("peak above the weights (GB)")
    memory.set_ylim(bottom=0)
    pairs = [
        (n, 100 * (1 - p.gigabytes / full[n].gigabytes))
        for n, p in ours.items()
        if n in full and p.gigabytes is not None and full[n].gigabytes
    ]
    if pairs:
        memory_saved.plot(
            *zip(*pairs, strict=True),
            color=look.colour,
            marker="o",
            label=f"measured, {percent(main)}, above the weights",
        )
    printed = [(s.frames, s.gigabytes) for s in FIGURE_3_SAVINGS if s.gigabytes is not None]
    _published(memory_saved, printed, "of all memory")
    memory_saved.set_ylabel("% of memory saved")
    for axes in (saved, memory, memory_saved):
        axes.set_xscale("log", base=2)
        axes.set_xticks(frames, [str(count) for count in frames])
        axes.minorticks_off()
        axes.set_xlabel("frames")
        axes.legend(fontsize=7)
    saved.legend(fontsize=7, loc="center left", bbox_to_anchor=(1.0, 0.5))
    for axes in (saved, memory_saved):
        axes.set_ylim(0, 100)
    seconds.set_title(f"From pixels to the first token, on {hardware}", loc="left", fontsize=8)
    figure.tight_layout()
    return figure


def _bars(axes: Axes, full: Mapping[int, Point], ours: Mapping[int, Point], share: float) -> None:
    """Seconds by stage, full beside ours, and a line where the limit is."""
    look = looks([OURS])[OURS]
    frames = sorted(full)
    for place, count in enumerate(frames):
        pairs = ((place - 0.2, full[count], FULL_LOOK.colour), (place + 0.2, ours.get(count), look.colour))
        for left, point, colour in pairs:
            if point is None or point.stages is None:
                continue
            bottom = 0.0
            for name, stages in STAGES.items():
                height = sum(point.stages[stage] for stage in stages) / 1e3
                axes.bar(left, height, 0.36, bottom, color=SHADES[name] or colour, alpha=0.85)
                bottom += height
            if point.method != FULL and full[count].seconds is not None:
                limit = full[count].seconds / point.limit
                axes.plot([left - 0.22, left + 0.22], [limit, limit], color=INK, linewidth=1.2)
    axes.set_xticks(range(len(frames)), [str(count) for count in frames])
    axes.set_xlabel("frames")
    axes.set_ylabel("seconds")
    named = [
        (SHADES["encoding"], "vision tower and projector"),
        (SHADES["selection and scoring"], "selection and scoring"),
        (FULL_LOOK.colour, f"prefill, {display_name(FULL)}"),
        (look.colour, f"prefill, {display_name(OURS)} {percent(share)}"),
    ]
    for colour, label in named:
        axes.bar(0, 0, color=colour, alpha=0.85, label=label)
    axes.plot([], [], color=INK, linewidth=1.2, label="limit by FLOPs")
    axes.legend(fontsize=7, loc="upper left")


def _saved_time(axes: Axes, line: Sequence[Point], share: float, *, strong: bool) -> None:
    look = looks([OURS])[OURS]
    fade = 1.0 if strong else 0.45
    measured = [(p.frames, [100 * (1 - 1 / ratio) for ratio in p.speedup]) for p in line if p.speedup is not None]
    if measured:
        middles = [saved[0] for _, saved in measured]
        spread = [[s[0] - s[1] for _, s in measured], [s[2] - s[0] for _, s in measured]]
        axes.errorbar(
            *([frames for frames, _ in measured], middles, spread),
            color=look.colour,
            marker="o",
            alpha=fade,
            capsize=2,
            label=f"measured, {percent(share)}",
        )
    limits = [(p.frames, 100 * (1 - 1 / p.limit)) for p in line]
    axes.plot(
        *zip(*limits, strict=True), color=INK, linestyle="--", alpha=fade, label=f"limit by FLOPs, {percent(share)}"
    )


def _published(axes: Axes, points: Sequence[tuple[int, float]], what: str = "") -> None:
    label = f"published, 30%{' ' * bool(what)}{what}, {HARDWARE}"
    axes.plot(*zip(*points, strict=True), color=GREY, linestyle=":", marker="o", markerfacecolor="none", label=label)


def _point(row: Mapping[str, Any]) -> Point:
    time, speedup, peak = row.get("milliseconds"), row.get("speedup"), row.get("peak_bytes")
    return Point(
        frames=row["frames"],
        method=row["method"],
        retention=row["retention"],
        limit=row["limit"],
        seconds=None if time is None else time["median"] / 1e3,
        gigabytes=None if peak is None else peak / 1e9,
        speedup=None if speedup is None else (speedup["median"], speedup["low"], speedup["high"]),
        stages=row.get("stages"),
    )
