"""The data behind the paper's Figures 3, 5 and 6, and behind our plots: costs over frames, scores over settings."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from st_simdiff.report.comparison import Comparer, Estimate, Protocols
from st_simdiff.report.names import display_name, published_model
from st_simdiff.report.published import (
    FIGURE_3,
    FIGURE_3_SAVINGS,
    HARDWARE,
    LLAVA_VIDEO,
    NVILA,
    OPTIMA,
    implied_seconds,
)
from st_simdiff.report.reading import TaskRun
from st_simdiff.report.render import Column, Sheet, Table
from st_simdiff.report.settings import PAPER_DEFAULTS
from st_simdiff.report.times import DEVICE_PEAK, mean_of, steady
from st_simdiff.vocabulary import BENCHMARK_OF_TASK, FULL, OURS


@dataclass(frozen=True)
class CostPoint:
    """What one method costs at one number of frames. gigabytes: 10^9 bytes.

    printed: by the paper, not measured here. source: the task, or the paper's hardware. questions: how many the means
    are of; 0 where that is not known.
    """

    method: str
    retention: float
    frames: int
    seconds: float | None
    gigabytes: float | None
    printed: bool = False
    source: str = ""
    questions: int = 0


def printed_costs() -> list[CostPoint]:
    """Figure 3's points that the text states or implies; the one at 32 frames follows from a printed saving."""
    points = [CostPoint(c.method, c.retention, c.frames, c.seconds, c.gigabytes, True, HARDWARE) for c in FIGURE_3]
    stated = {(point.method, point.frames) for point in points}
    for saving in FIGURE_3_SAVINGS:
        if (OURS, saving.frames) not in stated:
            source = f"{HARDWARE}, from a printed saving of {saving.seconds:g} %"
            points.append(CostPoint(OURS, 0.3, saving.frames, implied_seconds(saving), None, True, source))
    return sorted(points, key=lambda point: (point.frames, point.method))


def measured_costs(runs: Iterable[TaskRun]) -> list[CostPoint]:
    """Mean seconds a question and greatest peak memory, of methods that were run with several numbers of frames."""
    groups: dict[tuple, list[CostPoint]] = {}
    for run in runs:
        condition = run.condition
        seconds, peak = mean_of(steady(run.documents), "seconds"), run.greatest_count(DEVICE_PEAK)
        if condition.frames is None or condition.other_settings or (seconds is None and peak is None):
            continue
        point = CostPoint(
            method=condition.variant,
            retention=condition.retention,
            frames=condition.frames,
            seconds=seconds,
            gigabytes=None if peak is None else peak / 1e9,
            source=run.task,
            questions=len(run.documents),
        )
        groups.setdefault((point.method, point.retention, point.source, point.questions), []).append(point)
    points = [point for group in groups.values() if len({one.frames for one in group}) > 1 for point in group]
    return sorted(points, key=lambda p: (p.source, p.questions, p.frames, p.method != FULL, -p.retention, p.method))


def cost_sheet(name: str, title: str, points: Sequence[CostPoint]) -> Sheet:
    """Seconds and memory over frames, with what is saved of the full model's at the same place."""
    full = {_place(point): point for point in points if point.method == FULL}
    columns = (
        *(Column("frames"), Column("method"), Column("r", digits=2), Column("measured"), Column("seconds", digits=2)),
        *(Column("% of time saved"), Column("peak GB"), Column("% of memory saved")),
    )
    rows = []
    for point in points:
        reference = full.get(_place(point))
        rows.append(
            (
                *(point.frames, display_name(point.method), point.retention),
                f"printed ({point.source})" if point.printed else f"{point.questions} questions of {point.source}",
                *(point.seconds, _saved(point, reference, "seconds")),
                *(point.gigabytes, _saved(point, reference, "gigabytes")),
            )
        )
    note = (
        "Seconds are means over the questions, the first of every process left out, and include decoding the video; "
        "the paper does not say what its seconds include. GB: 10^9 bytes. Times on different hardware are not "
        "comparable; shares saved nearly are."
    )
    return Sheet(name, (Table(name, title, columns, tuple(rows), (note,)),))


def _place(point: CostPoint) -> tuple:
    return (True, point.frames) if point.printed else (point.source, point.questions, point.frames)


def _saved(point: CostPoint, full: CostPoint | None, quantity: str) -> float | None:
    ours, theirs = getattr(point, quantity), getattr(full, quantity, None)
    if ours is None or theirs is None or point.method == FULL:
        return None
    return 100 * (1 - ours / theirs)


@dataclass(frozen=True)
class SweepPoint:
    """The score of ST-SimDiff with one threshold changed and the other left at the paper's value."""

    model: str
    task: str
    retention: float
    parameter: str
    value: float
    estimate: Estimate


PARAMETERS = ("tau_sim", "tau_diff")


def sweep_points(runs: Iterable[TaskRun], comparer: Comparer, protocols: Protocols) -> list[SweepPoint]:
    """The sweeps of `st_simdiff`: one threshold takes several values, the other is the paper's, all else is equal.

    The default belongs to both sweeps. Of several protocols the most frequent one counts.
    """
    sweeps: dict[tuple, list[tuple[float, TaskRun]]] = {}
    for run in runs:
        condition = run.condition
        changed = set(condition.settings)
        if condition.method != OURS or protocols.letter(run) != "A" or len(changed) > 1:
            continue
        for parameter in PARAMETERS:
            value = condition.settings.get(parameter, PAPER_DEFAULTS[parameter])
            if changed <= {parameter} and isinstance(value, (int, float)) and value >= 0:
                place = (condition.model, run.task, condition.retention, parameter)
                sweeps.setdefault(place, []).append((value, run))
    points = []
    for place in sorted(sweeps, key=lambda place: (*place[:3], PARAMETERS.index(place[3]))):
        if len(sweeps[place]) > 1:
            for value, run in sorted(sweeps[place], key=lambda pair: pair[0]):
                estimate = comparer.estimate(run)
                points += [] if estimate is None else [SweepPoint(*place, value, estimate)]
    return points


def sweep_name(model: str) -> str:
    """The paper's figure for its models, and a name of our own for others."""
    return {LLAVA_VIDEO: "figure5", NVILA: "figure6"}.get(published_model(model) or "", f"sweep_{model}")


def sweep_sheet(name: str, model: str, points: Sequence[SweepPoint]) -> Sheet:
    """Scores over tau_sim and tau_diff."""
    columns = (
        *(Column("parameter"), Column("value", digits=2), Column("task"), Column("r", digits=2)),
        *(Column("questions"), Column("ours"), Column("95 % interval"), Column("printed")),
    )
    rows = [
        (
            *(point.parameter, point.value, point.task, point.retention),
            *(point.estimate.questions, point.estimate.score, (point.estimate.low, point.estimate.high)),
            printed_optimum(point),
        )
        for point in points
    ]
    note = (
        "The paper's Figures 5 and 6 are pictures without numbers; the text gives only the place of the optimum "
        "(0.8 and 0.2) and, for NVILA-8B, its height."
    )
    title = f"Thresholds of ST-SimDiff on {model}, the other one as in the paper"
    return Sheet(name, (Table(name, title, columns, tuple(rows), (note,)),))


def printed_optimum(point: SweepPoint) -> float | None:
    """The score that the text gives for the paper's thresholds, if `point` is there and the paper has its model."""
    benchmark = BENCHMARK_OF_TASK.get(point.task)
    if benchmark is None or point.retention != 0.3 or point.value != PAPER_DEFAULTS[point.parameter]:
        return None
    place = (published_model(point.model), benchmark.name)
    return next((optimum.score for optimum in OPTIMA if (optimum.model, optimum.benchmark) == place), None)
