"""The table of any task, costs over frames, sweeps of thresholds, and the folder of files."""

import json
import sys

import pytest
from lmms_logs import answers, counts, flip, model_args, task_rows, write_task

from st_simdiff.cli import build_parser, carry_out
from st_simdiff.errors import InputError
from st_simdiff.evaluate.summary import summary
from st_simdiff.report.comparison import Comparer, name_protocols
from st_simdiff.report.figures import (
    cost_sheet,
    measured_costs,
    printed_costs,
    printed_optimum,
    sweep_name,
    sweep_points,
    sweep_sheet,
)
from st_simdiff.report.reading import read_logs
from st_simdiff.report.render import render, to_csv, to_markdown
from st_simdiff.report.tables import write_tables
from st_simdiff.report.task_sheet import grid_sheet, parts_of

TINY = "/x/llava-video-tiny"


def add(folder, task, right, number, pretrained=TINY, recorded=None, **given):
    entries = task_rows(task, right)
    write_task(folder, task, entries, model_args(pretrained, **given), right, recorded or counts(), number)


def grid(folder):
    runs = read_logs(folder).runs
    return runs, grid_sheet("grid", runs, Comparer(), name_protocols(runs))


def test_a_grid_of_methods_and_retentions(tmp_path):
    full = answers(0.9, 120)
    add(tmp_path, "events", full, 1, method="full", recorded=counts(320, 320, 0.2))
    for number, retention in enumerate((0.3, 0.5), start=2):
        kept = int(320 * retention)
        add(
            tmp_path,
            "events",
            flip(full, 30, number),
            number,
            method="fastv",
            retention=retention,
            recorded=counts(320, kept, 0.1, layer_averaged_share=0.4),
        )
    runs, sheet = grid(tmp_path)
    scores, paired = sheet.tables
    titles = [column.title for column in scores.columns]
    assert titles[:5] == ["method", "r", "questions", "score", "95 % interval"]
    assert titles[5:7] == ["kind: event", "kind: stable"]
    assert titles[7:] == ["tokens in", "tokens kept", "realised retention", "layer-averaged share", "seconds"]
    assert [row[:2] for row in scores.rows] == [("Full model", 1.0), ("FastV", 0.5), ("FastV", 0.3)]
    assert scores.rows[0][3] == pytest.approx(90.0)
    assert scores.rows[0][6] == pytest.approx(100 * full[::2].mean())
    assert scores.rows[0][5] == pytest.approx(100 * full[1::2].mean())
    assert scores.rows[2][7:] == (320, 96, pytest.approx(0.3), pytest.approx(0.4), pytest.approx(0.1))
    assert scores.rows[0][10] is None
    assert [row[:3] for row in paired.rows] == [("FastV", 0.5, "Full model"), ("FastV", 0.3, "Full model")]
    assert len(parts_of(runs)) == 2


def test_groups_of_many_values_are_in_csv_only(tmp_path):
    """VideoMME has three durations, which are columns, and here six categories."""
    right = answers(0.5, 60)
    entries = task_rows("videomme", right)
    for number, entry in enumerate(entries):
        entry["videomme_perception_score"]["category"] = f"category {number % 6}"
    write_task(tmp_path, "videomme", entries, model_args(TINY, method="full"), right)
    _, sheet = grid(tmp_path)
    table = sheet.tables[-1]
    assert [row[3:6] for row in table.rows] == [("category", f"category {number}", 10) for number in range(6)]
    assert [row[6] for row in table.rows] == [pytest.approx(100 * right[number::6].mean()) for number in range(6)]
    assert "category 3" in render(sheet, "csv")["grid_groups.csv"]
    assert "category 3" not in to_markdown(sheet)


def test_two_videos_give_no_interval_and_say_so(tmp_path):
    right = answers(0.5, 12)
    write_task(tmp_path, "events", task_rows("events", right, per_video=6), model_args(TINY, method="full"), right)
    _, sheet = grid(tmp_path)
    assert sheet.tables[0].rows[0][4] == (None, None)
    assert "2 videos: too few for an interval" in to_markdown(sheet)
    assert len(sheet.tables) == 1


def test_mixed_protocols_in_a_grid(tmp_path):
    right = answers(0.5, 60)
    add(tmp_path, "events", right, 1, method="full")
    add(tmp_path, "events", right, 2, method="full", max_frames_num=16)
    _, sheet = grid(tmp_path)
    text = to_markdown(sheet)
    assert "| method | r | frames | protocol |" in text
    assert "Mixed protocols for events on llava-video-tiny" in text
    assert "max\\_frames\\_num=16" in text


def test_costs_over_frames(tmp_path):
    right = answers(0.5, 12)
    for number, (method, retention, frames, seconds, peak) in enumerate(
        (
            ("full", 1.0, 32, 2.0, 20e9),
            ("full", 1.0, 128, 8.0, 40e9),
            ("st_simdiff", 0.3, 32, 1.5, 18e9),
            ("st_simdiff", 0.3, 128, 4.0, 25e9),
            ("fastv", 0.3, 32, 1.0, 19e9),
        )
    ):
        add(
            tmp_path,
            "events",
            right,
            number,
            "/m/LLaVA-Video-7B-Qwen2",
            counts(100, 30, seconds, peak_memory_bytes=peak),
            method=method,
            retention=retention,
            max_frames_num=frames,
        )
    points = measured_costs(read_logs(tmp_path).runs)
    assert [(p.method, p.frames, p.seconds, p.gigabytes) for p in points] == [
        ("full", 32, 2.0, 20.0),
        ("st_simdiff", 32, 1.5, 18.0),
        ("full", 128, 8.0, 40.0),
        ("st_simdiff", 128, 4.0, 25.0),
    ]
    (table,) = cost_sheet("figure3", "Costs", [*points, *printed_costs()]).tables
    saved = {(row[0], row[1], row[3].startswith("printed")): (row[5], row[7]) for row in table.rows}
    assert saved[128, "ST-SimDiff", False] == pytest.approx((50.0, 37.5))
    assert saved[128, "Full model", False] == (None, None)
    assert saved[128, "ST-SimDiff", True] == pytest.approx((30.2, 31.7), abs=0.06)
    assert saved[32, "ST-SimDiff", True] == (pytest.approx(23.0), None)


def test_costs_of_different_questions_are_not_set_against_each_other(tmp_path):
    for number, (method, size) in enumerate((("full", 12), ("full", 12), ("st_simdiff", 9), ("st_simdiff", 9))):
        add(
            tmp_path,
            "events",
            answers(0.5, size),
            number,
            recorded=counts(seconds=2.0),
            method=method,
            max_frames_num=(16, 32)[number % 2],
        )
    (table,) = cost_sheet("costs", "Costs", measured_costs(read_logs(tmp_path).runs)).tables
    assert len(table.rows) == 4
    assert {row[5] for row in table.rows} == {None}


def test_sweeps(tmp_path):
    model, number = "/m/NVILA-8B-Video", 0
    for settings in (
        {},
        {"tau_sim": 0.6},
        {"tau_sim": 0.9},
        {"tau_diff": 0.4},
        {"tau_diff": -1},
        {"tau_sim": "q0.5"},
        {"tau_sim": 0.7, "tau_diff": 0.1},
    ):
        add(
            tmp_path,
            "videomme",
            answers(0.6, 60, number),
            number,
            model,
            method="st_simdiff",
            retention=0.3,
            **settings,
        )
        number += 1
    add(tmp_path, "videomme", answers(0.6, 60), number, model, method="st_simdiff", retention=0.5)
    runs = read_logs(tmp_path).runs
    points = sweep_points(runs, Comparer(), name_protocols(runs))
    assert [(p.parameter, p.value) for p in points] == [
        *(("tau_sim", 0.6), ("tau_sim", 0.8), ("tau_sim", 0.9), ("tau_diff", 0.2), ("tau_diff", 0.4)),
    ]
    assert {p.retention for p in points} == {0.3}
    assert [printed_optimum(p) for p in points] == [None, 60.2, None, 60.2, None]
    assert sweep_name("NVILA-8B-Video") == "figure6"
    assert sweep_name("tiny") == "sweep_tiny"
    (table,) = sweep_sheet("figure6", "NVILA", points).tables
    assert to_csv(table).splitlines()[0].startswith("parameter,value,task,r,questions,ours,95 % interval low,")


def test_every_file_of_a_folder(tmp_path):
    full = answers(0.6, 60)
    model = "/m/LLaVA-Video-7B-Qwen2"
    add(tmp_path / "logs", "videomme", full, 1, model, method="full")
    add(tmp_path / "logs", "videomme", flip(full, 9, 0), 2, model, method="st_simdiff", retention=0.3)
    add(tmp_path / "logs", "videomme", flip(full, 9, 1), 3, model, method="st_simdiff", retention=0.3, tau_sim=0.9)
    add(tmp_path / "logs", "egoschema_subset", full, 4, model, method="full")
    (tmp_path / "logs" / "bad_results.json").write_text("{")
    written = write_tables(tmp_path / "logs", tmp_path / "out")
    assert sorted(path.name for path in written.paths if path.suffix == ".md") == [
        "figure5.md",
        "grid_LLaVA-Video-7B-Qwen2_egoschema_subset.md",
        "grid_LLaVA-Video-7B-Qwen2_videomme.md",
        "runs.md",
        "table1.md",
        "table3.md",
    ]
    assert {path.suffix for path in written.paths} == {".md", ".tex", ".csv"}
    assert all(path.read_text(encoding="utf-8") for path in written.paths)
    assert len(written.problems) == 1
    account = (tmp_path / "out" / "runs.md").read_text(encoding="utf-8")
    assert "Not read: " in account
    assert "bad\\_results.json" in account
    assert "has 500 of EgoSchema's 5,031 questions" in account
    only = write_tables(tmp_path / "logs", tmp_path / "csv", formats=["csv"])
    assert {path.suffix for path in only.paths} == {".csv"}


def test_rows_of_a_sweep_tell_their_values_and_the_note_their_videos(tmp_path):
    for number, (tau, questions) in enumerate(((0.8, 120), (0.9, 4))):
        changed = {} if tau == 0.8 else {"tau_sim": tau}
        add(tmp_path, "events", answers(0.9, questions), number, method="st_simdiff", retention=0.3, **changed)
        (path,) = (tmp_path / f"run{number}").rglob("*_results.json")
        written = {"name": "st_simdiff", "retention": 0.3, "tau_sim": tau, "tau_diff": 0.2}
        path.write_text(json.dumps(json.loads(path.read_text()) | {"method": written, "changed_settings": changed}))
    runs, sheet = grid(tmp_path)
    assert sorted(row[0] for row in sheet.tables[0].rows) == ["ST-SimDiff (tau_sim=0.8)", "ST-SimDiff (tau_sim=0.9)"]
    assert sorted(run.condition.label for run in runs) == ["ST-SimDiff", "ST-SimDiff (tau_sim=0.9)"]
    assert " to " in sheet.tables[0].notes[0]
    assert sheet.tables[0].notes[0].endswith("; none for fewer than 10.")
    text = summary(run.path for run in runs)
    assert "st_simdiff (tau_sim=0.8)" in text
    assert "st_simdiff (tau_sim=0.9)" in text


@pytest.mark.parametrize("command", ["tables", "plots"])
def test_a_report_says_what_it_replaced_what_it_left_and_what_it_lacks(tmp_path, capsys, command):
    logs, out = tmp_path / "logs", tmp_path / "out"
    for number, retention in enumerate((0.3, 0.5)):
        add(logs, "videomme", answers(0.6, 60), number, "/m/a", method="fastv", retention=retention)
    options = build_parser().parse_args([command, str(logs), "--output_path", str(out)])
    assert carry_out(options, [], sys.stdout) == 0
    said = capsys.readouterr().out
    assert "earlier report" not in said
    first = next(out.iterdir())
    (out / f"old{first.suffix}").write_text("old")
    (logs / "bad_results.json").write_text("{")
    assert carry_out(options, [], sys.stdout) == 1
    said = capsys.readouterr()
    assert "replaced files of an earlier report" in said.out
    assert f"left as they are: old{first.suffix}." in said.out
    assert said.err.count("bad_results.json is not readable as JSON") == 1
    assert said.err.endswith("1 result was not read; the report is of the others.\n")


def test_an_unknown_format_is_refused_before_anything_is_read(tmp_path):
    with pytest.raises(InputError, match=r"Unknown table format 'cvs'. Did you mean 'csv'\?"):
        write_tables(tmp_path / "nowhere", tmp_path / "out", formats=["cvs"])
    assert not (tmp_path / "out").exists()
