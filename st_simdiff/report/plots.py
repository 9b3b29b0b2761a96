"""From a folder of results to plots: every picture that the results allow."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Sequence
from io import BytesIO
from pathlib import Path
from typing import TextIO

import matplotlib
from matplotlib.figure import Figure

from st_simdiff.errors import unknown
from st_simdiff.files import check_folder
from st_simdiff.report.caveats import has_random_weights
from st_simdiff.report.comparison import Comparer, Protocols, name_protocols, newest
from st_simdiff.report.drawing import ScorePoint, accuracy_figure, cost_figure, sweep_figure
from st_simdiff.report.figures import measured_costs, printed_costs, sweep_name, sweep_points
from st_simdiff.report.names import published_model
from st_simdiff.report.paper_scores import ABLATIONS, PAPER_TABLES, rank
from st_simdiff.report.published import LLAVA_VIDEO, SIMILARITY, SPATIAL, TEMPORAL, published_score
from st_simdiff.report.reading import Logs, TaskRun, read_logs
from st_simdiff.report.style import RC, is_prominent
from st_simdiff.report.tables import Written, by_model_and_task, slug, write_files
from st_simdiff.vocabulary import BENCHMARK_OF_TASK, FULL, OURS, OVERALL, RELEASE

PARTS = (SPATIAL, TEMPORAL, SIMILARITY)
"""What only an ablation runs."""

FORMATS = ("png", "svg", "pdf")


def run(options: argparse.Namespace, extra: Sequence[str], out: TextIO) -> None:  # noqa: ARG001
    """`st-simdiff plots`. Raises `RunFailed` behind all else where a result could not be read."""
    written = write_plots(options.logs, options.output_path)
    written.tell(out)
    written.refuse_problems()


def write_plots(logs: Path, out: Path, format_name: str = "png") -> Written:
    """Draws every plot that the results under `logs` allow into `out`.

    format_name: png, svg or pdf. Raises `InputError` for another format, and when `logs` holds no results.
    """
    if format_name not in FORMATS:
        raise unknown("plot format", format_name, FORMATS)
    out = Path(out)
    check_folder(out, "--output_path")
    read = read_logs(Path(logs))
    contents = {}
    with matplotlib.rc_context(RC):
        for name, figure in make_figures(read).items():
            picture = BytesIO()
            figure.savefig(picture, format=format_name, bbox_inches="tight")
            contents[f"{name}.{format_name}"] = picture.getvalue()
    return write_files(out, contents, read.problems)


def make_figures(logs: Logs) -> dict[str, Figure]:
    """Figures by name. Use inside `matplotlib.rc_context(style.RC)`."""
    runs, _ = newest(logs.runs)
    protocols, comparer = name_protocols(runs), Comparer()
    figures = {}
    for (model, task), members in by_model_and_task(runs).items():
        name = f"{task} on {model}" + (" (random weights)" if has_random_weights(members[0]) else "")
        points = score_points(members, comparer, protocols)
        if len({point.retention for point in points if point.key != FULL}) > 1:
            figures[slug(f"accuracy_{model}_{task}")] = accuracy_figure(points, name)
        parts = ablation_points(members, comparer, protocols)
        if any(point.key in PARTS for point in parts):
            figures[slug(f"ablation_{model}_{task}")] = accuracy_figure(parts, f"Ablation: {name}")
    for model in dict.fromkeys(run.condition.model for run in runs):
        own = [run for run in runs if run.condition.model == model]
        if points := sweep_points(own, comparer, protocols):
            figures[slug(sweep_name(model))] = sweep_figure(points, model)
        if costs := measured_costs(own):
            is_paper = published_model(model) == LLAVA_VIDEO
            name = "figure3" if is_paper else slug(f"costs_{model}")
            figures[name] = cost_figure([*costs, *(printed_costs() if is_paper else [])], model)
    return figures


def score_points(runs: Iterable[TaskRun], comparer: Comparer, protocols: Protocols) -> list[ScorePoint]:
    """The runs of the most frequent protocol, own forms first.

    ST-SimDiff with other thresholds has a plot of its own, and its ablations a table: neither is here.
    """
    points = []
    for run in runs:
        condition = run.condition
        estimate = comparer.estimate(run)
        varied = condition.method in (OURS, RELEASE) and condition.settings
        if protocols.letter(run) != "A" or estimate is None or varied:
            continue
        key = condition.variant + (f" {condition.other_settings}" if condition.other_settings else "")
        points.append(ScorePoint(key, condition.label, condition.retention, estimate, _printed(run, ablation=False)))
    return sorted(points, key=lambda point: (not is_prominent(point.key), point.key, point.retention))


def ablation_points(runs: Iterable[TaskRun], comparer: Comparer, protocols: Protocols) -> list[ScorePoint]:
    """The runs of the most frequent protocol with what the paper's ablations add step by step, in that order."""
    points = []
    for run in runs:
        condition, estimate = run.condition, comparer.estimate(run)
        wanted = condition.variant in (FULL, *ABLATIONS) and not condition.other_settings
        if wanted and protocols.letter(run) == "A" and estimate is not None:
            printed = _printed(run, ablation=True)
            points.append(ScorePoint(condition.variant, condition.label, condition.retention, estimate, printed))
    return sorted(points, key=lambda point: (rank(point.key), point.retention))


def _printed(run: TaskRun, ablation: bool) -> float | None:
    condition, benchmark = run.condition, BENCHMARK_OF_TASK.get(run.task)
    if benchmark is None or condition.frames is None:
        return None
    place = (condition.frames, condition.retention, condition.variant, benchmark.name, OVERALL)
    model = published_model(condition.model)
    tables = [table for table in PAPER_TABLES if table.model == model]
    tables.sort(key=lambda table: table.ablation != ablation)
    scores = [published_score(table.number, *place) for table in tables]
    return next((score for score in scores if score is not None), None)
