"""What is drawn: lines, intervals, printed points; and that reports need neither torch nor lmms-eval."""

import subprocess
import sys

import matplotlib.image
import pytest
from lmms_logs import answers, counts, flip, model_args, task_rows, write_task
from matplotlib.colors import to_hex

from st_simdiff.cli import build_parser, carry_out
from st_simdiff.errors import InputError
from st_simdiff.methods.registry import METHODS
from st_simdiff.report.comparison import Comparer, Estimate, name_protocols
from st_simdiff.report.drawing import ScorePoint, accuracy_figure, cost_figure, sweep_figure
from st_simdiff.report.figures import CostPoint, SweepPoint, printed_costs
from st_simdiff.report.names import OTHER_NAMES
from st_simdiff.report.paper_scores import ABLATIONS
from st_simdiff.report.plots import ablation_points, make_figures, write_plots
from st_simdiff.report.reading import read_logs
from st_simdiff.report.style import PALETTE, RIVALS, VERMILION, looks


def estimate(score, half=1.0):
    return Estimate(score, score - half, score + half, 100, 50)


POINTS = [
    ScorePoint("full", "Full model", 1.0, estimate(63.0), 63.3),
    *(ScorePoint("st_simdiff", "ST-SimDiff", r, estimate(60 + 4 * r), 63.2) for r in (0.3, 0.5)),
    *(ScorePoint("random", "Random", r, Estimate(50.0, None, None, 9, 3)) for r in (0.3, 0.5)),
]


def labels(axes):
    return axes.get_legend_handles_labels()[1]


def test_scores_over_retention():
    figure = accuracy_figure(POINTS, "a title")
    (axes,) = figure.axes
    assert labels(axes) == ["Full model", "Full model, as printed", "ST-SimDiff", "Random"]
    ours, random = axes.containers
    assert list(ours.lines[0].get_ydata()) == pytest.approx([61.2, 62.0])
    assert list(ours.lines[0].get_xdata()) == pytest.approx([0.3, 0.5], abs=0.01)
    assert to_hex(ours.lines[0].get_color()).upper() == VERMILION
    hollow = [line for line in axes.lines if line.get_markerfacecolor() == "none"]
    assert [list(line.get_ydata()) for line in hollow] == [[63.2, 63.2]]
    assert list(axes.get_xticks()) == [0.3, 0.5]
    bars = [segment[:, 1] for segment in random.lines[2][0].get_segments()]
    assert all(bar == pytest.approx([50.0, 50.0]) for bar in bars)


def test_thresholds():
    points = [
        SweepPoint("NVILA-8B", "videomme", 0.3, parameter, value, estimate(60 - value))
        for parameter, value in (("tau_sim", 0.6), ("tau_sim", 0.8), ("tau_diff", 0.1), ("tau_diff", 0.2))
    ]
    left, right = sweep_figure(points, "NVILA-8B").axes
    assert (left.get_xlabel(), right.get_xlabel()) == ("tau_sim", "tau_diff")
    assert labels(right) == ["as printed", "videomme, 30%"]
    printed = [list(line.get_data()[1]) for line in left.lines if line.get_label() == "as printed"]
    assert printed == [[60.2]]
    assert any(list(line.get_xdata()) == [0.8, 0.8] for line in left.lines)


def test_costs():
    measured = [
        CostPoint("full", 1.0, 32, 2.0, None, source="videomme", questions=9),
        CostPoint("full", 1.0, 128, 7.0, None, source="videomme", questions=9),
    ]
    time, memory = cost_figure([*measured, *printed_costs()], "LLaVA-Video-7B").axes
    assert labels(time) == [
        "Full model, 9 questions of videomme",
        "Full model, the paper",
        "ST-SimDiff 30%, the paper",
    ]
    drawn = {line.get_label(): [float(value) for value in line.get_ydata()] for line in time.lines}
    assert drawn["Full model, the paper"] == [1.56, 6.5]
    hollow = {line.get_label() for line in time.lines if line.get_markerfacecolor() == "none"}
    assert hollow == {"Full model, the paper", "ST-SimDiff 30%, the paper"}
    assert drawn["ST-SimDiff 30%, the paper"] == pytest.approx([1.2012, 4.54])
    assert [list(map(float, line.get_ydata())) for line in memory.lines] == [[20.9, 35.0], [23.9]]
    (only_time,) = cost_figure(measured, "tiny").axes
    assert only_time.get_ylabel() == "seconds a question"


def test_every_method_has_a_name_and_a_look_of_its_own():
    names = [*METHODS, "another_rival", "st_simdiff tau_sim=0.9"]
    found = looks(names)
    assert len({(look.colour, look.marker) for look in found.values()}) == len(names)
    assert {look.colour for look in found.values()} <= {*PALETTE, "#808080"}
    assert found["fastv"] == looks(["fastv"])["fastv"]
    assert set(RIVALS) | OTHER_NAMES.keys() <= METHODS.keys()


def test_files(tmp_path):
    full = answers(0.6, 60)
    number = 0
    for method, retention in (("full", 1.0), ("st_simdiff", 0.3), ("st_simdiff", 0.5), ("fastv", 0.3)):
        for frames in (32, 64):
            args = model_args(method=method, retention=retention, max_frames_num=frames)
            right = flip(full, 5, number)
            write_task(tmp_path / "logs", "videomme", task_rows("videomme", right), args, right, counts(), number)
            number += 1
    args = model_args(method="st_simdiff", retention=0.3, tau_sim=0.9, max_frames_num=32)
    write_task(tmp_path / "logs", "videomme", task_rows("videomme", full), args, full, counts(), number)
    written = write_plots(tmp_path / "logs", tmp_path / "out")
    names = [path.name for path in written.paths]
    assert names == ["accuracy_LLaVA-Video-7B-Qwen2_videomme.png", "figure5.png", "figure3.png"]
    for path in written.paths:
        height, width = matplotlib.image.imread(path).shape[:2]
        assert height > 300
        assert width > 500
    with pytest.raises(InputError, match=r"Unknown plot format 'pgn'. Did you mean 'png'\?"):
        write_plots(tmp_path / "logs", tmp_path / "out", "pgn")


def test_an_ablation_is_drawn_in_the_papers_order_beside_its_own_table(tmp_path):
    steps = ({"method": "st_simdiff"}, {"method": "importance"}, {"method": "st_simdiff", "tau_diff": -1})
    for number, step in enumerate(steps):
        right = answers(0.6, 2700, seed=number)
        args = model_args(retention=0.3, **step)
        write_task(tmp_path, "videomme", task_rows("videomme", right), args, right, counts(), number)
    logs = read_logs(tmp_path)
    points = ablation_points(logs.runs, Comparer(), name_protocols(logs.runs))
    assert [point.key for point in points] == ["importance", "st_simdiff/similarity", "st_simdiff"]
    assert [point.printed for point in points] == [60.3, 62.6, 63.2]
    assert "ablation_LLaVA-Video-7B-Qwen2_videomme" in make_figures(logs)


def test_an_ablations_lines_have_a_colour_each():
    found = looks(["full", *ABLATIONS])
    assert len({look.colour for look in found.values()}) == len(found)


def test_reports_load_neither_models_nor_the_harness():
    code = (
        "import sys, st_simdiff.report.tables, st_simdiff.report.plots;"
        "print([m for m in ('torch', 'transformers', 'lmms_eval', 'scipy', 'statsmodels') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_missing_package_is_named(monkeypatch, tmp_path, capsys):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.delitem(sys.modules, "st_simdiff.report.plots", raising=False)
    monkeypatch.delattr("st_simdiff.report.plots", raising=False)
    assert carry_out(build_parser("plots").parse_args(["plots", str(tmp_path)]), [], sys.stdout) == 2
    assert "A plot needs the package matplotlib: pip install 'st-simdiff[report]'" in capsys.readouterr().err
