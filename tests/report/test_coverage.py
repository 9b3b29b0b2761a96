"""Questions that were not asked or not scored: counted, named, kept out of scores and out of comparisons."""

import pytest
from lmms_logs import METRICS, counts, model_args, results_json, row, videomme, write

from st_simdiff.errors import InputError
from st_simdiff.report.caveats import caveats, coverage_caveats
from st_simdiff.report.comparison import Comparer, comparable, name_protocols, newest
from st_simdiff.report.paper_scores import PAPER_TABLES, make_scores
from st_simdiff.report.reading import read_logs, read_results
from st_simdiff.report.tables import make_sheets, write_tables
from st_simdiff.report.task_sheet import grid_sheet
from st_simdiff.vocabulary import TASKS, stock_task

METRICS["videomme_local"] = METRICS["videomme"]
LEFT_OUT = [["q8-1", "data/v8.mp4", "missing"], ["q9-1", "data/v9.mp4", "empty"]]


def local_row(doc_id, question, correct=True, readable=True, left_out=(), in_all=10):
    """A row of `videomme_local` on the question of that number."""
    told = {"question": f"{question:03d}-1", "video": f"data/v{question}.mp4", "in_all": in_all}
    metrics = {"coverage": {**told, "left_out": list(left_out), "readable": readable}}
    if readable:
        metrics |= videomme(question, correct, f"v{question}", "short")
    return row(doc_id, metrics, [counts() if readable else {"unreadable": 1}])


def local_run(folder, rows, value=100.0, method="full", retention=1.0, stamp="s", task="videomme_local", **more):
    args = model_args(method=method, retention=retention)
    return write(folder, stamp, results_json(task, value, args, **more), {task: rows})


def test_counted_named_and_not_scored(tmp_path):
    rows = [local_row(0, 0, left_out=LEFT_OUT), local_row(1, 1, correct=False), local_row(2, 7, readable=False)]
    (run,) = read_results(local_run(tmp_path, rows, 50.0))
    assert (run.task, run.asked_as) == ("videomme", "videomme_local")
    assert [document.correct for document in run.documents] == [1, 0]
    assert (run.coverage.in_all, run.coverage.unreadable, len(run.coverage.left_out)) == (10, ("data/v7.mp4",), 2)
    assert caveats([run]) == [
        "videomme_local, Full model at 1: 2 of 10 questions scored; 2 questions left out: "
        "data/v8.mp4 (missing), data/v9.mp4 (empty); 1 question not scored, videos not readable: data/v7.mp4; "
        "5 questions not asked."
    ]
    assert caveats([run])[0] in grid_sheet("g", [run], Comparer(), name_protocols([run])).notes


def test_the_stock_task_counts_an_unreadable_video_as_wrong_and_the_report_does_not(tmp_path):
    rows = [row(i, videomme(i, i == 0, f"v{i}", "short"), [counts()]) for i in range(2)]
    rows.append(row(2, videomme(2, False, "v2", "short"), [{**counts(), "unreadable": 1}]))
    (run,) = read_results(local_run(tmp_path, rows, 100 / 3, task="videomme"))
    assert run.reported == pytest.approx(100 / 3)
    assert Comparer().estimate(run).score == pytest.approx(50)
    table = grid_sheet("g", [run], Comparer(), name_protocols([run])).tables[0]
    shown = dict(zip((column.title for column in table.columns), table.rows[0], strict=True))
    assert (shown["score"], shown["as the task counts"]) == (pytest.approx(50), pytest.approx(100 / 3))
    assert caveats([run]) == [
        "videomme, Full model at 1: 2 questions scored; 1 question not scored, videos not readable: the video of "
        "question 2; lmms-eval's own score counts these as wrong."
    ]


def test_the_harness_says_how_many_questions_a_stock_task_has(tmp_path):
    rows = [row(i, videomme(i, True, f"v{i}", "short"), [counts()]) for i in range(2)]
    written = {"task": "videomme", "coverage": {"asked": 2, "in_all": 2700, "unreadable": 0}, "fps": 1}
    (run,) = read_results(local_run(tmp_path, rows, 100.0, task="videomme", protocol=written))
    assert run.coverage.text == "2 of 2,700"
    assert caveats([run]) == []
    assert not {"task", "coverage", "coverage.asked"} & run.condition.protocol.keys()
    assert run.condition.protocol["fps"] == "1"


def test_nothing_to_say_where_everything_was_asked(tmp_path):
    (run,) = read_results(local_run(tmp_path, [local_row(i, i, in_all=2) for i in range(2)]))
    assert run.coverage.text == "2"
    assert caveats([run]) == []


def test_runs_that_lack_the_same_share_a_sentence(tmp_path):
    for number, method in enumerate(("full", "fastv", "random")):
        rows = [local_row(0, 0, in_all=2), local_row(1, 1, readable=number == 2, in_all=2)]
        local_run(tmp_path / method, rows, method=method)
    assert caveats(read_logs(tmp_path).runs) == [
        "videomme_local, 2 runs: 1 of 2 questions scored; 1 question not scored, videos not readable: data/v1.mp4."
    ]
    (unnamed,) = coverage_caveats(read_logs(tmp_path).runs, named=False)
    assert unnamed.endswith("1 question not scored, videos not readable.")


def test_no_readable_video_at_all(tmp_path):
    results = results_json("videomme_local", 0.0, model_args())
    results["results"]["videomme_local"] = {"alias": "videomme_local", "coverage,none": 0.0}
    rows = [local_row(i, i, readable=False, in_all=2) for i in range(2)]
    (run,) = read_results(write(tmp_path, "s", results, {"videomme_local": rows}))
    assert run.documents == ()
    assert run.reported is None
    assert Comparer().estimate(run) is None
    assert caveats([run])[0].endswith(
        "0 of 2 questions scored; 2 questions not scored, videos not readable: data/v0.mp4, data/v1.mp4."
    )
    assert {"runs", "table1"} < {sheet.name for sheet in make_sheets(read_logs(tmp_path))}


def test_random_weights_are_named(tmp_path):
    path = write(
        tmp_path,
        "s",
        results_json("videomme", 100.0, model_args("/x/llava-video-random")),
        {"videomme": [row(0, videomme(0, True, "v", "short"))]},
    )
    assert caveats(read_results(path)) == [
        "llava-video-random has random weights: its scores mean nothing, all else is real."
    ]


def test_runs_on_other_questions_are_not_compared_though_their_numbers_agree(tmp_path):
    """A video that came or went between two runs shifts the documents' numbers."""
    local_run(tmp_path / "a", [local_row(0, 0, in_all=3), local_row(1, 1, in_all=3), local_row(2, 2, in_all=3)])
    gone = [["002-1", "data/v2.mp4", "missing"]]
    fewer = [local_row(0, 0, left_out=gone, in_all=3), local_row(1, 1, in_all=3)]
    local_run(tmp_path / "b", fewer, method="fastv", retention=0.3)
    other = [local_row(0, 1, left_out=[["000-1", "data/v0.mp4", "missing"]], in_all=3), local_row(1, 2, in_all=3)]
    local_run(tmp_path / "c", other, method="random", retention=0.3)
    full, fastv, random = read_logs(tmp_path).runs
    assert not comparable(full, fastv)
    assert not comparable(fastv, random)
    (note,) = name_protocols([full, fastv, random]).notes
    assert "questions left out=1" in note
    assert "questions left out=not given" in note


def test_the_stock_task_and_the_local_one_on_the_same_videos_are_one(tmp_path):
    local_run(tmp_path / "a", [local_row(i, i, in_all=3) for i in range(3)])
    rows = [row(i, videomme(i, True, f"v{i}", "short"), [counts()]) for i in range(3)]
    local_run(tmp_path / "b", rows, method="fastv", retention=0.3, task="videomme")
    full, fastv = read_logs(tmp_path).runs
    assert comparable(full, fastv)
    scores = make_scores(PAPER_TABLES[0], [full, fastv], Comparer(), name_protocols([full, fastv]))
    assert {score.row.method for score in scores if score.run is not None} == {"full", "fastv"}


def test_the_overview_counts(tmp_path):
    rows = [local_row(0, 0, left_out=LEFT_OUT), local_row(1, 7, readable=False)]
    local_run(tmp_path, rows)
    overview = make_sheets(read_logs(tmp_path))[0].tables[0]
    titles = [column.title for column in overview.columns]
    (only,) = overview.rows
    shown = dict(zip(titles, only, strict=True))
    assert (shown["task"], shown["questions"], shown["of"]) == ("videomme_local", 1, 10)
    assert (shown["left out"], shown["unreadable"]) == (2, 1)
    write_tables(tmp_path, tmp_path / "out", ["csv"])
    assert (tmp_path / "out" / "left_out.csv").read_text().splitlines() == [
        "task,question,video,reason",
        "videomme_local,q8-1,data/v8.mp4,missing",
        "videomme_local,q9-1,data/v9.mp4,empty",
        "videomme_local,,data/v7.mp4,not readable",
    ]


def test_a_newer_run_of_either_name_replaces_the_older(tmp_path):
    local_run(tmp_path / "a", [local_row(0, 0, in_all=1)], stamp="20260101_000000")
    rows = [row(0, videomme(0, True, "v0", "short"), [counts()])]
    local_run(tmp_path / "b", rows, stamp="20260102_000000", task="videomme")
    kept, old = newest(read_logs(tmp_path).runs)
    assert [run.asked_as for run in kept] == ["videomme"]
    assert [run.asked_as for run in old] == ["videomme_local"]


def test_the_parts_of_mvbench_are_one_benchmark(tmp_path):
    """Right: 3 of 4 and 1 of 2; the mean over the questions is 4 of 6, over the parts 62.5."""
    rights = {"mvbench_moving_count_local": (1, 1, 1, 0), "mvbench_state_change_local": (1, 0)}
    METRICS.update(dict.fromkeys(rights, "mvbench_accuracy"))
    results, rows = results_json("mvbench_moving_count_local", 75.0, model_args()), {}
    results["results"] |= results_json("mvbench_state_change_local", 50.0, "")["results"]
    for task, right in rights.items():
        rows[task] = [mvbench_row(number, score) for number, score in enumerate(right)]
    rows["mvbench_state_change_local"].append(mvbench_row(2, 0, readable=False))
    (run,) = read_results(write(tmp_path, "s", results, rows))
    assert (run.task, run.asked_as, run.reported) == ("mvbench", "mvbench_local", pytest.approx(62.5))
    assert Comparer().estimate(run).score == pytest.approx(400 / 6)
    assert run.group_values("part") == ["moving_count", "state_change"]
    assert (run.coverage.scored, run.coverage.in_all, len(run.coverage.unreadable)) == (6, 8, 1)
    assert len({document.question for document in run.documents}) == 6


def mvbench_row(doc_id, score, readable=True):
    told = {"question": f"q{doc_id}", "video": f"v{doc_id}.mp4", "in_all": 4, "left_out": [], "readable": readable}
    entry = {"pred_answer": "A", "gt_answer": "A", "score": score, "question_id": f"q{doc_id}", "video": "v"}
    return row(doc_id, {"coverage": told, **({"mvbench_accuracy": entry} if readable else {})})


def test_the_servers_accuracy_of_a_submission_is_read_from_the_runs_folder(tmp_path):
    METRICS["egoschema_local"] = METRICS["egoschema"]
    rows = [row(i, {"submission": {f"v{i}": 1}, "score": {"pred": 1, "ground_truth": None}}) for i in range(200)]
    results = results_json("egoschema_local", "/x/submissions/egoschema.json", model_args())
    path = write(tmp_path / "run" / "model", "s", results, {"egoschema_local": rows})
    (run,) = read_results(path)
    assert run.reported is None
    assert Comparer().estimate(run) is None
    file = tmp_path / "run" / "egoschema_accuracy.txt"
    file.write_text("57.5 %\n")
    (run,) = read_results(path)
    assert (run.task, run.reported) == ("egoschema", 57.5)
    assert Comparer().estimate(run).low < 57.5 < Comparer().estimate(run).high
    file.write_text("0.575 or so")
    with pytest.raises(InputError, match=r"egoschema_accuracy\.txt holds no accuracy in percent, such as 57\.3"):
        read_results(path)


def test_names_agree_with_the_harness():
    assert all(stock_task(task.name) == task.stock for task in TASKS)
