"""Draws what the tables hold: scores over retention, scores over thresholds, time and memory over frames."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import PercentFormatter

from st_simdiff.report.comparison import Estimate
from st_simdiff.report.figures import CostPoint, SweepPoint, printed_optimum
from st_simdiff.report.names import display_name
from st_simdiff.report.settings import PAPER_DEFAULTS
from st_simdiff.report.style import FULL_LOOK, GREY, INK, RIVAL_COLOURS, RIVAL_MARKERS, Look, is_prominent, looks
from st_simdiff.vocabulary import FULL


@dataclass(frozen=True)
class ScorePoint:
    """A score at one retention. key: what its line is drawn by; label: how the legend names it."""

    key: str
    label: str
    retention: float
    estimate: Estimate
    printed: float | None = None


def accuracy_figure(points: Sequence[ScorePoint], title: str) -> Figure:
    """Score over retention, one line a method; bars and the full model's band are 95 % intervals; hollow: printed."""
    figure = Figure(figsize=(6.4, 3.8))
    axes = figure.add_subplot()
    chosen = looks(point.key for point in points)
    lines: dict[str, list[ScorePoint]] = {}
    for point in points:
        lines.setdefault(point.key, []).append(point)
    compressed = [key for key in lines if key != FULL]
    for number, key in enumerate(compressed):
        # Side by side, so that bars at one retention do not cover each other.
        _draw_line(axes, lines[key], chosen[key], shift=0.004 * (number - (len(compressed) - 1) / 2))
    for point in lines.get(FULL, []):
        _draw_full(axes, point)
    retentions = sorted({point.retention for key in compressed for point in lines[key]})
    axes.set_xticks(retentions)
    axes.xaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    axes.set_xlabel("visual tokens kept")
    axes.set_ylabel("accuracy (%)")
    axes.set_title(title, loc="left")
    handles, labels = axes.get_legend_handles_labels()
    if any(point.printed is not None for point in points):
        handles.append(Line2D([], [], marker="o", markerfacecolor="none", color=GREY, linestyle="none"))
        labels.append("hollow: as printed")
    axes.legend(handles, labels, loc="center left", bbox_to_anchor=(1.01, 0.5))
    return figure


def _draw_line(axes: Axes, points: Sequence[ScorePoint], look: Look, shift: float) -> None:
    places = [point.retention + shift for point in points]
    scores = [point.estimate.score for point in points]
    axes.errorbar(
        places,
        scores,
        yerr=_bars([point.estimate for point in points]),
        label=points[0].label,
        color=look.colour,
        marker=look.marker,
        linestyle=look.dashes,
        linewidth=look.width,
        markersize=5,
        elinewidth=0.8,
        capsize=2,
        zorder=3 if is_prominent(points[0].key) else 2,
    )
    printed = [(place, point.printed) for place, point in zip(places, points, strict=True) if point.printed is not None]
    if printed:
        axes.plot(*zip(*printed, strict=True), look.marker, markerfacecolor="none", color=look.colour, markersize=6)


def _bars(estimates: Sequence[Estimate]) -> list[list[float]]:
    """Distances to both ends of the intervals; 0 where there is none."""
    below = [0.0 if one.low is None else max(0.0, one.score - one.low) for one in estimates]
    above = [0.0 if one.high is None else max(0.0, one.high - one.score) for one in estimates]
    return [below, above]


def _draw_full(axes: Axes, full: ScorePoint) -> None:
    estimate = full.estimate
    axes.axhline(estimate.score, color=FULL_LOOK.colour, linestyle=FULL_LOOK.dashes, linewidth=1.2, label="Full model")
    if estimate.low is not None:
        axes.axhspan(estimate.low, estimate.high, color=FULL_LOOK.colour, alpha=0.07, linewidth=0)
    if full.printed is not None:
        axes.axhline(full.printed, color=GREY, linestyle=":", linewidth=1.2, label="Full model, as printed")


def sweep_figure(points: Sequence[SweepPoint], model: str) -> Figure:
    """Score over tau_sim and over tau_diff, one line a task and retention; dashed: the paper's choice."""
    parameters = list(dict.fromkeys(point.parameter for point in points))
    figure = Figure(figsize=(3.4 * len(parameters) + 1.2, 3.2))
    every_axes = figure.subplots(1, len(parameters), sharey=True, squeeze=False)[0]
    places = list(dict.fromkeys((point.task, point.retention) for point in points))
    for axes, parameter in zip(every_axes, parameters, strict=True):
        for number, (task, retention) in enumerate(places):
            line = [p for p in points if (p.parameter, p.task, p.retention) == (parameter, task, retention)]
            if not line:
                continue
            axes.errorbar(
                [point.value for point in line],
                [point.estimate.score for point in line],
                yerr=_bars([point.estimate for point in line]),
                label=f"{task}, {retention:.0%}",
                color=RIVAL_COLOURS[number % len(RIVAL_COLOURS)],
                marker=RIVAL_MARKERS[number % len(RIVAL_MARKERS)],
                markersize=5,
                capsize=2,
                elinewidth=0.8,
            )
            printed = [(point.value, score) for point in line if (score := printed_optimum(point)) is not None]
            if printed:
                axes.plot(*zip(*printed, strict=True), "o", markerfacecolor="none", color=INK, label="as printed")
        axes.axvline(PAPER_DEFAULTS[parameter], color=INK, linestyle="--", linewidth=0.8)
        axes.set_xlabel(parameter)
    every_axes[0].set_ylabel("accuracy (%)")
    every_axes[0].set_title(f"ST-SimDiff on {model}", loc="left")
    handles, labels = every_axes[-1].get_legend_handles_labels()
    once = dict(zip(labels, handles, strict=True))
    every_axes[-1].legend(once.values(), once.keys(), loc="center left", bbox_to_anchor=(1.02, 0.5))
    figure.tight_layout()
    return figure


QUANTITIES = (("seconds", "seconds a question"), ("gigabytes", "peak GPU memory (GB)"))


def cost_figure(points: Sequence[CostPoint], model: str) -> Figure:
    """Seconds and memory over frames; filled and solid: measured here; hollow and dotted: printed in the paper."""
    quantities = [(name, title) for name, title in QUANTITIES if any(getattr(p, name) is not None for p in points)]
    figure = Figure(figsize=(3.4 * len(quantities) + 1.8, 3.2))
    every_axes = figure.subplots(1, len(quantities), squeeze=False)[0]
    chosen = looks(point.method for point in points)
    lines: dict[tuple, list[CostPoint]] = {}
    for point in points:
        place = "the paper" if point.printed else f"{point.questions} questions of {point.source}"
        lines.setdefault((point.method, point.retention, point.printed, place), []).append(point)
    for axes, (quantity, title) in zip(every_axes, quantities, strict=True):
        for (method, retention, printed, place), line in lines.items():
            known = [(p.frames, getattr(p, quantity)) for p in line if getattr(p, quantity) is not None]
            if known:
                look = chosen[method]
                amount = "" if method == FULL else f" {retention:.0%}"
                axes.plot(
                    *zip(*sorted(known), strict=True),
                    label=f"{display_name(method)}{amount}, {place}",
                    color=look.colour,
                    marker=look.marker or "o",
                    markerfacecolor="none" if printed else look.colour,
                    linestyle=":" if printed else "-",
                    linewidth=look.width,
                )
        axes.set_xticks(sorted({point.frames for point in points}))
        axes.set_xlabel("frames")
        axes.set_ylabel(title)
        axes.set_ylim(bottom=0)
    every_axes[0].set_title(model, loc="left")
    handles, labels = every_axes[0].get_legend_handles_labels()
    figure.tight_layout()
    every_axes[-1].legend(handles, labels, loc="center left", bbox_to_anchor=(1.02, 0.5))
    return figure
