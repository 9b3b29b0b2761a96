"""The benchmark on its smallest model: what is planted, what is written, what is refused. Nothing here is timed."""

import io
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from st_simdiff import InputError
from st_simdiff.bench.measure import Bench, Configuration
from st_simdiff.bench.planted import plant, planted
from st_simdiff.bench.random_models import RANDOM_MODELS, build
from st_simdiff.bench.results_file import Conditions, add_rows, read_entries, what_follows
from st_simdiff.bench.rows import Row, Sample, Spread, entering_share, losses, machine_speed, summarise, telling_rows
from st_simdiff.bench.run import _methods, run
from st_simdiff.bench.tables import entry_markdown, rows_table, with_summary
from st_simdiff.cli import build_parser, carry_out
from st_simdiff.files import check_writable
from st_simdiff.methods.registry import METHODS
from st_simdiff.models.clock import STAGES
from st_simdiff.models.costs import model_cost
from st_simdiff.report.end_to_end import figure_3, read_points
from st_simdiff.report.render import percent
from st_simdiff.vocabulary import FULL, OURS

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def model():
    return build("smallest", CPU, torch.float32)


class Counter:
    """A time that moves on by one at every look."""

    def __init__(self):
        self.looks = 0

    def __call__(self):
        self.looks += 1
        return float(self.looks)


def sample(per_layer, **milliseconds):
    return Sample(dict.fromkeys(STAGES, 0.0) | milliseconds, (per_layer,), (per_layer[-1],), 1000)


def options(*arguments):
    return build_parser("bench").parse_args(["bench", "--model", "smallest", *arguments])


def run_bench(given):
    """The exit code."""
    return carry_out(given, [], sys.stdout)


@pytest.mark.parametrize("frames", [24, 64])
@pytest.mark.parametrize("candidates", [0.45, 0.6, 0.7])
def test_the_share_of_candidates_is_the_one_that_was_asked_for(model, frames, candidates):
    assert plant(model, frames, candidates=candidates).candidates == pytest.approx(candidates, abs=0.03)


@pytest.mark.parametrize("retention", [0.1, 0.3, 0.5])
def test_what_enters_at_other_retentions_follows(model, retention):
    video = plant(model, 64)
    bench = Bench(model)
    layers = bench.run(Configuration("st_simdiff", retention), [video]).visual_per_layer[0]
    assert layers[0] / bench.cost.tokens(64) == pytest.approx(entering_share(0.6, retention), abs=0.03)


def test_the_tower_still_runs_and_its_result_is_replaced(model):
    video, calls = plant(model, 20), []
    handle = model.vision_tower.register_forward_hook(lambda *_: calls.append(1))
    with planted(model, [video]):
        assert model.encode_video(video.pixels) is video.tokens
    handle.remove()
    assert len(calls) == 2
    assert not torch.equal(model.encode_video(video.pixels), video.tokens)


def test_every_method_has_its_row_and_every_round_its_ratio(model):
    configurations = [Configuration(name, 0.3) for name in METHODS if name != FULL]
    rows = list(Bench(model, now=Counter()).case(24, 2, configurations, repeats=2))
    assert [row.method for row in rows] == [FULL, *(configuration.method for configuration in configurations)]
    for row in rows[1:]:
        assert row.speedup.count == row.milliseconds.count == 2
        assert row.limit > 1
        assert 0 < row.kept <= row.entering <= row.tokens == 24 * 6
        assert row.flops < rows[0].flops
        assert Row.from_json(json.loads(json.dumps(row.as_json()))) == row
    exact = {row.method: row.kept for row in rows[1:] if METHODS[row.method].exact}
    assert "st_simdiff_two_steps" in exact  # its second step comes after the last of the four layers
    assert set(exact.values()) == {44}


def test_a_model_that_does_not_fit_leaves_rows_that_say_so(model, monkeypatch):
    usual = Bench.run

    def run(self, configuration, videos):
        if configuration.method in (FULL, "fastv"):
            raise torch.cuda.OutOfMemoryError("none left")
        return usual(self, configuration, videos)

    monkeypatch.setattr(Bench, "run", run)
    full, fastv, ours = Bench(model).case(
        16, 1, [Configuration("fastv", 0.3), Configuration("st_simdiff", 0.3)], repeats=1
    )
    assert (full.note, full.milliseconds) == ("out of memory", None)
    assert (fastv.note, fastv.milliseconds) == ("out of memory", None)
    assert ours.note == "the full model is out of memory"
    assert (ours.speedup, ours.reached) == (None, None)
    assert ours.milliseconds is not None
    assert ours.limit > 1


def unreachable(*names, with_frames=None):
    """`Bench.run` as if the methods `names` could not reach any retention."""
    usual = Bench.run

    def run(self, configuration, videos):
        if configuration.method in names and with_frames in (None, len(videos[0].pixels)):
            raise InputError("It is out of reach.")
        return usual(self, configuration, videos)

    return run


def test_a_retention_that_a_method_cannot_reach_ends_no_other_row(capsys, monkeypatch):
    monkeypatch.setattr(Bench, "run", unreachable("fastv"))
    arguments = ["--device", "cpu", "--frames", "5", "--batch", "1,2", "--repeats", "2", "--methods"]
    assert run_bench(options(*arguments, "fastv,random")) == 0
    said = capsys.readouterr()
    sentence = "fastv at retention 0.3 is left out with 5 frames: It is out of reach."
    assert said.err.splitlines().count(sentence) == said.out.splitlines().count(sentence) == 1
    rows = [line.split(" | ")[1:3] for line in said.out.splitlines() if line.startswith("| 5 | ")]
    assert rows == [["1", "full"], ["1", "random"], ["2", "full"], ["2", "random"]] * 2
    assert run_bench(options(*arguments, "fastv")) == 2
    said = capsys.readouterr()
    assert (said.out, said.err.splitlines()[-1].split(": ", 1)[1]) == (
        "",
        f"No method is left to be measured: {sentence}",
    )


def test_what_cannot_be_reached_in_the_few_frames_of_a_warm_up_is_measured(model, monkeypatch):
    monkeypatch.setattr(Bench, "run", unreachable("fastv", with_frames=4))
    bench = Bench(model)
    assert [row.method for row in bench.case(5, 1, [Configuration("fastv", 0.3)], repeats=1)] == [FULL, "fastv"]
    assert bench.left_out == []


def test_tables_are_printed_where_the_file_can_no_longer_be_written(tmp_path, capsys, monkeypatch):
    path = tmp_path / "new" / "results.json"
    usual = Bench.run

    def run(self, *arguments):
        path.mkdir(parents=True, exist_ok=True)
        return usual(self, *arguments)

    monkeypatch.setattr(Bench, "run", run)
    figure = tmp_path / "figure.svg"
    arguments = ["--device", "cpu", "--frames", "4", "--repeats", "1", "--json", str(path), "--figure", str(figure)]
    assert run_bench(options(*arguments)) == 2
    said = capsys.readouterr()
    assert "| 4 | 1 | st\\_simdiff | 0.30 |" in said.out
    assert figure.exists()
    assert f"--json {path} could not be written: " in said.err.splitlines()[-1]


def test_whether_a_file_can_be_written_is_found_out_without_a_trace(tmp_path):
    path = tmp_path / "results.json"
    path.write_text("mine")
    check_writable(path, "--json")
    check_writable(tmp_path / "a" / "b" / "results.json", "--json")
    assert (list(tmp_path.iterdir()), path.read_text()) == ([path], "mine")
    with pytest.raises(InputError, match=r"--json .* cannot be written: File name too long"):
        check_writable(tmp_path / ("a" * 250), "--json")


def test_losses_add_up_to_the_time_beyond_the_limit():
    full = dict.fromkeys(STAGES, 0.0) | {"vision": 30.0, "projector": 5.0, "prefill": 100.0}
    ours = dict.fromkeys(STAGES, 0.0) | {"vision": 33.0, "projector": 5.0, "prefill": 50.0, "selection": 4.0}
    ours |= {"scoring": 2.0, "decoding": 1.0}
    lost = losses(ours, full, flops=40, full_flops=100, encoding_flops=20)
    assert sum(lost.values()) == pytest.approx(sum(ours.values()) - sum(full.values()) * 40 / 100)
    assert lost["selection"] == 4
    assert lost["recording"] == 3
    assert lost["slower prefill"] == pytest.approx(50 - 100 * 20 / 80)
    assert lost["slower encoding"] == pytest.approx(35 + 25 - 54)


def test_ratios_are_taken_round_by_round(model):
    cost = model_cost(model)
    layers = (cost.tokens(8),) * 4
    full = [sample(layers, prefill=100.0), sample(layers, prefill=200.0), sample(layers, prefill=90.0)]
    ours = [sample((24, 24, 12, 12), prefill=time) for time in (50.0, 50.0, 30.0)]
    row = summarise(cost, 8, 1, "st_simdiff", 0.3, ours, full)
    assert row.speedup == Spread(3.0, 2.0, 4.0, 3)
    assert row.milliseconds == Spread(50.0, 30.0, 50.0, 3)
    assert row.limit == pytest.approx(cost.full(8) / (cost.encoding(8) + cost.prefill([24, 24, 12, 12])), abs=1e-4)
    assert row.reached == pytest.approx(3.0 / row.limit, abs=1e-3)
    assert row.peak_bytes == 1000


def rows_at(cost, overhead, speed=1e9):
    """Rows of a machine of constant speed whose overhead is `overhead(N)` seconds."""
    rows = []
    for frames in (16, 64):
        tokens = cost.tokens(frames)
        prefill = 1e3 * cost.prefill([tokens] * cost.decoder.layers) / speed
        stages = dict.fromkeys(STAGES, 0.0) | {"prefill": prefill}
        rows.append(Row(frames, 1, FULL, 1.0, tokens, stages=stages))
        stages = stages | {"selection": 750 * overhead(tokens), "scoring": 250 * overhead(tokens)}
        rows.append(Row(frames, 1, "st_simdiff", 0.3, tokens, stages=stages))
    return rows


def test_the_machine_is_read_off_its_rows(model):
    cost = model_cost(model)
    speed = machine_speed(cost, rows_at(cost, lambda n: 0.002 + 1e-6 * n), floor_seconds=0.5)
    assert speed.flops_per_second == pytest.approx(1e9)
    assert (speed.fixed_seconds, speed.token_seconds) == pytest.approx((0.002, 1e-6))
    assert speed.floor_seconds == 0.5
    full, ours = rows_at(cost, lambda n: n)[:2]
    loud = replace(ours, frames=32, speedup=Spread(2.0, 1.0, 2.0, 3), reached=1.0)
    assert telling_rows([full, ours, loud, replace(ours, batch=4), replace(ours, method="fastv")], OURS) == [full, ours]
    assert telling_rows([full, loud], OURS) == [full, loud]
    steep = machine_speed(cost, rows_at(cost, lambda n: 1e-7 * n * n), floor_seconds=0)
    assert steep.fixed_seconds == 0
    assert steep.token_seconds > 0
    assert machine_speed(cost, [full], 0.0) is None


def test_more_overhead_moves_the_break_even_up(model):
    cost = model_cost(model)
    found = []
    for overhead in (1e-5, 1e-3, 1e-1):
        follows = what_follows(cost, rows_at(cost, lambda _, o=overhead: o), 0.0, 0.6)
        found.append([place["frames"] or 10**6 for place in follows["break_even_frames"]])
    assert all(a <= b <= c for a, b, c in zip(*found, strict=True))
    assert found[0] != found[2]
    assert what_follows(cost, [], 0.0, 0.6) == {}


@pytest.mark.parametrize(
    ("high", "count", "caveat", "said"),
    [
        (2.1, 3, "", "(estimated, not measured)"),
        (3.0, 3, "noisy", "(estimated, from noisy rows, not measured)"),
        (2.0, 1, "one round", "(estimated, from one round, not measured)"),
    ],
)
def test_estimates_are_of_what_was_measured_and_say_what_they_rest_on(model, tmp_path, high, count, caveat, said):
    cost = model_cost(model)
    full, ours = rows_at(cost, lambda _: 1e-5)[:2]
    full = replace(full, milliseconds=Spread(2.0, 2.0, 2.0, count))
    ours = replace(ours, milliseconds=full.milliseconds, speedup=Spread(2.0, 2.0, high, count), limit=2.0, reached=1.0)
    rows = [full, ours, replace(ours, batch=2, retention=0.2), replace(ours, method="fastv", retention=0.7)]
    path = tmp_path / "results.json"
    add_rows(path, conditions(), rows, what_follows(cost, rows, 0.0, 0.6))
    (entry,) = read_entries(path)
    found = entry["break_even_frames"]
    assert [(one["retention"], one["batch"], one["caveat"]) for one in found] == [(0.2, 2, caveat), (0.3, 1, caveat)]
    printed = entry_markdown(entry, "title")
    assert printed.count(said) == 2
    tables = [line for line in printed.splitlines() if line.startswith("| 16 | 1 | st")]
    assert len(tables) == 2  # times and stages
    assert all(line.endswith(f"| {caveat} |" if caveat else "|  |") for line in tables)
    assert ("[2.00, " in tables[0]) == (count > 1)


def conditions(**changed):
    usual = {"model": "smallest", "hardware": {"gpu": None, "cpu": "one", "threads": 1, "torch": "2"}}
    usual |= {"dtype": "float32", "candidates": 0.6, "clock": "cpu", "text": 64, "frames_per_chunk": 16}
    return Conditions(**usual | changed)


@pytest.mark.parametrize(
    ("low", "high", "reached", "noisy"),
    [(1.8, 2.2, 0.8, False), (1.7, 2.2, 0.8, True), (2.6, 2.7, 1.3, True), (2.4, 2.5, 1.2, False)],
)
def test_rows_of_a_busy_machine_are_marked_and_not_compared_with_the_limit(low, high, reached, noisy):
    row = Row(8, 1, "fastv", 0.3, 10, speedup=Spread(2.0, low, high, 3), limit=2.0, reached=reached)
    assert row.is_noisy == noisy
    table = rows_table([row], "rows")
    cells = dict(zip([column.title for column in table.columns], table.rows[0], strict=True))
    assert cells[""] == ("noisy" if noisy else "")
    assert cells["% of limit"] == (None if noisy else 100 * reached)
    full = Row(8, 1, FULL, 1.0, 10, milliseconds=Spread(1.0, low, high, 3), reached=1.0)
    assert full.is_noisy == (high > 1.25 * low)  # there is no speed-up to tell it by


def test_rows_of_one_place_replace_each_other_and_conditions_do_not_mix(tmp_path):
    path = tmp_path / "folder" / "results.json"
    add_rows(path, conditions(), [Row(32, 1, FULL, 1.0, 10), Row(8, 1, "fastv", 0.3, 10, note="a")], {"speed": 1})
    add_rows(path, conditions(), [Row(8, 1, "fastv", 0.3, 10, note="b")])
    add_rows(path, conditions(model="7b"), [Row(8, 1, FULL, 1.0, 5)])
    found = {entry["conditions"]["model"]: entry for entry in read_entries(path)}
    assert [(row["frames"], row.get("note")) for row in found["smallest"]["rows"]] == [(8, "b"), (32, None)]
    assert found["smallest"]["speed"] == 1
    assert list(found) == ["7b", "smallest"]
    add_rows(path, conditions(dtype="float16"), [Row(8, 1, FULL, 1.0, 10)])
    found = {entry["conditions"]["model"]: entry for entry in read_entries(path)}
    assert len(found["smallest"]["rows"]) == 1
    assert "speed" not in found["smallest"]
    assert len(found["7b"]["rows"]) == 1


def test_the_command_writes_results_a_figure_and_tables(tmp_path, capsys):
    path, figure = tmp_path / "new" / "results.json", tmp_path / "figure.svg"
    arguments = ["--frames", "8,16", "--retention", "0.5,0.3", "--repeats", "1", "--json", str(path)]
    assert run_bench(options(*arguments, "--device", "cpu", "--figure", str(figure))) == 0
    (entry,) = read_entries(path)
    places = [(row["frames"], row["method"], row["retention"]) for row in entry["rows"]]
    assert places == [
        (frames, *rest) for frames in (8, 16) for rest in ((FULL, 1.0), ("st_simdiff", 0.5), ("st_simdiff", 0.3))
    ]
    assert [(one["retention"], one["batch"]) for one in entry["break_even_frames"]] == [(0.3, 1), (0.5, 1)]
    said = capsys.readouterr()
    progress, printed = said.err.splitlines(), said.out
    assert len(progress) == 2 + 2 * (3 + 3) + 1  # also where stderr is no terminal, as here
    assert progress[:3] == [
        f"results go to {path}, whose folder is made",
        "making LLaVA-Video for tests, random weights, on cpu in float32",
        "8 frames, batch 1, full at 1: warming up",
    ]
    assert progress[5].startswith("8 frames, batch 1, full at 1, round 1 of 1: ")
    assert progress[-1] == "a prompt without a video, 6 runs"
    assert printed == entry_markdown(entry, RANDOM_MODELS["smallest"].title)
    assert "slower encoding" in printed
    assert "limit by FLOPs, 30%" in figure.read_text()


def test_the_figure_sets_ours_beside_the_published_and_the_limit(tmp_path):
    path = tmp_path / "results.json"
    stages = dict.fromkeys(STAGES, 10.0)
    rows = []
    for frames in (32, 128):
        rows.append(Row(frames, 1, FULL, 1.0, 10, 10, 10, Spread(900.0, 900.0, 900.0, 1), stages, limit=1.0))
        half = {"limit": 2.5, "speedup": Spread(2.0, 1.6, 2.5, 3), "stages": stages}
        rows.append(Row(frames, 1, "st_simdiff", 0.3, 10, 6, 3, Spread(450.0, 450.0, 450.0, 1), peak_bytes=5, **half))
        rows.append(Row(frames, 4, "st_simdiff", 0.3, 10, 6, 3, **half))
    add_rows(path, conditions(), rows)
    hardware, points = read_points(path)
    assert hardware == "one, 1 thread"
    assert [(point.frames, point.method) for point in points] == [
        (32, FULL),
        (32, "st_simdiff"),
        (128, FULL),
        (128, "st_simdiff"),
    ]
    figure = figure_3(points, hardware)
    saved = figure.axes[1]
    lines = {line.get_label(): line.get_ydata().tolist() for line in saved.lines}
    assert lines["limit by FLOPs, 30%"] == pytest.approx([60.0, 60.0])
    published = next(values for label, values in lines.items() if label.startswith("published"))
    assert published == [23.0, 30.2]
    assert saved.containers[0].lines[0].get_ydata().tolist() == pytest.approx([50.0, 50.0])
    with pytest.raises(InputError, match="no measured rows of 7b"):
        read_points(path, "7b")


def test_frames_that_cost_the_same():
    out = io.StringIO()
    run(options("--model", "7b", "--match_budget", "--frames", "64", "--retention", "0.3,0.5"), [], out)
    assert "with st_simdiff, 150 frames at retention 0.3 cost what 64 frames cost" in out.getvalue()


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--frames", "64,x"], "--frames takes comma-separated whole numbers from 1 to 100,000, got '64,x'."),
        (["--batch", "0"], "--batch takes comma-separated whole numbers"),
        (["--batch", ",".join(map(str, range(1, 102)))], "--batch takes at most 100 values, got 101."),
        (["--methods", "fastw"], "Did you mean 'fastv'? Valid: all, "),
        (["--methods", ""], "--methods takes comma-separated methods, or all, got ''."),
        (["--retention", "1.5"], "takes comma-separated shares of the tokens, above 0 and at most 1, got '1.5'."),
        (["--repeats", "2,3"], "--repeats takes one whole number from 1 to 1,000, got '2,3'."),
        (["--frames_per_chunk", "0"], "--frames_per_chunk takes one whole number from 1 to 100,000, got '0'."),
        (["--candidates", "0.1"], "--candidates is one share of the tokens, in [0.3, 1], got '0.1'."),
        (["--candidates", "0,6"], "got '0,6': a decimal has a point, 0.3 and not 0,3."),
        (["--device", "gpu"], "Unknown device 'gpu'. Did you mean 'cuda'? Valid: auto, cpu, cuda."),
        (["--device", "GPU"], "Did you mean 'cuda'?"),
        (["--device", "CPU"], "Did you mean 'cpu'?"),
        (["--model", "8b"], "7b"),
        (["--clock", "sun"], "cpu, wall"),
        (["--figure", "a.bmp"], ".png"),
        (["--figure", "a.png", "--batch", "2,4"], "measured at batch 1: add it to --batch, got 2,4."),
        (["--json", "pyproject.toml"], "pyproject.toml is not a results file of `st-simdiff bench`."),
        (["--json", "docs"], "--json docs is a folder: name a file in it."),
        (["--json", "pyproject.toml/results.json"], "pyproject.toml can be no folder"),
        (["--figure", "pyproject.toml/a.png"], "name another with --figure"),
        (["--json", "not_there/x.json", "--clock", "sun"], "cpu, wall"),
        (["--model", "7b"], "--model 7b is measured on a CUDA GPU"),
        (["--match_budget", "--retention", "1"], "below 1"),
        (["--match_budget", "--methods", "nosuch"], "Unknown method 'nosuch'."),
        (["--match_budget", "--methods", "fastv"], "for st_simdiff alone, got --methods fastv."),
        (["--match_budget", "--json", "a", "--repeats", "9"], "so that --repeats, --json would have no effect."),
        pytest.param(
            ["--json", "/proc/a.json"],
            "--json /proc/a.json cannot be written: ",
            marks=pytest.mark.skipif(not Path("/proc").is_dir(), reason="a folder in which no file can be made"),
        ),
    ],
)
def test_bad_options_are_one_sentence_and_nothing_is_measured(arguments, sentence, capsys, monkeypatch):
    monkeypatch.setattr(Bench, "run", lambda *_: pytest.fail("measured"))
    monkeypatch.chdir(Path(__file__).parents[2])
    assert run_bench(options("--device", "cpu", *arguments)) == 2
    error = capsys.readouterr().err
    assert sentence in error
    assert error.count("\n") == 1
    assert not Path("not_there").exists()


def test_the_path_of_a_file_is_not_empty():
    with pytest.raises(InputError, match="--json: the path of a file is needed, got ''"):
        options("--json", "")


@pytest.mark.parametrize("given", ["--methods=fastv,fastv,full", "--retention=0.3,0.30", "--frames=1,1", "--batch=1,1"])
def test_a_value_given_twice_counts_once(given, capsys):
    assert run_bench(options("--device=cpu", "--frames=1", "--repeats=1", "--methods=fastv", given)) == 0
    said = capsys.readouterr()
    assert [line for line in said.err.splitlines() if "warming" in line] == [
        "1 frame, batch 1, full at 1: warming up",
        "1 frame, batch 1, fastv at 0.3: warming up",
    ]
    assert "Estimates follow" not in said.out  # there are none, of fastv


def test_all_may_stand_beside_other_methods():
    assert sorted(_methods("fastv,all")) == sorted(METHODS) == sorted(_methods("all"))


@pytest.mark.parametrize(("share", "text"), [(0.3, "30%"), (0.001, "0.1%"), (0.07, "7%"), (1.0, "100%")])
def test_a_share_is_told_as_it_was_given(share, text):
    assert percent(share) == text
    cells = rows_table([Row(8, 1, OURS, share, 10)], "rows").rows[0]
    assert float(cells[3]) == share if isinstance(cells[3], str) else round(cells[3], 2) == share


def test_the_documentation_shows_the_results_file():
    root = Path(__file__).parents[2]
    text = (root / "docs/speed.md").read_text()
    entries = read_entries(root / "benchmarks/results/end_to_end.json")
    assert with_summary(text, entries) == text
    assert "not measured" in with_summary(text, [])
    with pytest.raises(InputError, match="results: begin"):
        with_summary("no markers", entries)


def test_the_command_line_has_bench(capsys):
    assert run_bench(options("--match_budget", "--frames", "8")) == 0
    assert "frames at retention 0.3 cost what 8 frames cost the full model." in capsys.readouterr().out


def on_gpu(*arguments, python="python3"):
    script = Path(__file__).parents[2] / "benchmarks" / "on_gpu.sh"
    environment = {"PATH": os.environ["PATH"], "PYTHON": str(python)}
    return subprocess.run(["bash", str(script), *arguments], env=environment, capture_output=True, text=True)


def test_the_script_for_a_gpu_tells_how_it_is_called():
    done = on_gpu("--help")
    assert (done.returncode, done.stderr) == (0, "")
    assert all(word in done.stdout for word in ("--dry", "--out FOLDER", "PYTHON="))


@pytest.mark.parametrize(
    ("arguments", "code", "sentence"),
    [
        (["--dri"], 0, "unknown argument --dri; valid: --dry, --out FOLDER, --help."),
        (["--out"], 0, "--out needs a folder."),
        (["--out", "--dry"], 0, "--out needs a folder."),
        (["--dry"], 1, "has no torch or no transformers: name another with PYTHON=."),
        ([], 3, "torch sees no CUDA GPU; --dry tries every part on the CPU."),
        (["--dry"], None, "there is no interpreter "),
    ],
)
def test_the_script_for_a_gpu_refuses_in_a_sentence_before_anything_runs(tmp_path, arguments, code, sentence):
    """code: what the interpreter ends with, None where there is none."""
    python = tmp_path / "python"
    if code is not None:
        python.write_text(f"#!/bin/sh\nexit {code}\n")
        python.chmod(0o755)
    folder = [] if "--out" in arguments else ["--out", str(tmp_path / "results")]
    done = on_gpu(*folder, *arguments, python=python)
    assert done.returncode == 2
    assert done.stderr.startswith("on_gpu.sh: ")
    assert sentence in done.stderr
    assert done.stderr.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["python"] * (code is not None)
