"""Where an evaluation's time went: means without warm-up, the limit by FLOPs, the same questions compared."""

import pytest
from lmms_logs import answers, counts
from test_grid_and_figures import add

from st_simdiff.models import clock
from st_simdiff.report.reading import read_logs
from st_simdiff.report.tables import make_sheets
from st_simdiff.report.times import FEWEST_QUESTIONS, STAGES, run_times, time_sheet

SIZE = 12


def times(flops, **milliseconds):
    every = dict.fromkeys(STAGES, 0.0) | milliseconds
    peaks = {"peak_memory_bytes": 3e9, "host_peak_bytes": 2e9}
    return counts(
        seconds=1.0, **{f"{stage}_ms": ms for stage, ms in every.items()}, flops=flops, full_flops=100, **peaks
    )


@pytest.fixture
def logs(tmp_path):
    right = answers(0.5, SIZE)
    full = times(100, decode=50.0, vision=40.0, prefill=160.0)
    ours = times(40, decode=50.0, vision=40.0, prefill=50.0, selection=8.0, scoring=2.0)
    add(tmp_path, "events", right, 1, recorded=full, method="full", max_frames_num=32)
    add(tmp_path, "events", right, 2, recorded=ours, method="st_simdiff", retention=0.3, max_frames_num=32)
    add(tmp_path, "events", right, 3, recorded=ours, method="st_simdiff", retention=0.3, max_frames_num=64)
    add(tmp_path, "events", right, 4, recorded=counts(), method="fastv", retention=0.3, max_frames_num=32)
    return read_logs(tmp_path)


def test_the_stages_are_those_of_the_clock():
    assert STAGES == clock.STAGES


def test_speed_up_and_limit_of_the_same_questions(logs):
    (table,) = time_sheet("times", "a model", logs.runs).tables
    titles = [column.title for column in table.columns]
    rows = [dict(zip(titles, row, strict=True)) for row in table.rows]
    full, ours, alone = rows
    assert (full["total ms"], full["speed-up"], full["limit"], full["% of limit"]) == (250, None, None, None)
    assert ours["speed-up"] == pytest.approx(250 / 150)
    assert ours["computing: speed-up"] == pytest.approx(200 / 100)
    assert ours["limit"] == pytest.approx(2.5)
    assert ours["% of limit"] == pytest.approx(80)
    assert (ours["peak GB"], ours["host peak GB"]) == (3, 2)
    assert (alone["frames"], alone["speed-up"], alone["limit"]) == (64, None, pytest.approx(2.5))


@pytest.mark.parametrize("questions", [FEWEST_QUESTIONS - 1, FEWEST_QUESTIONS])
def test_few_questions_have_no_speed_up_of_all_questions(logs, questions):
    runs = [run.__class__(**vars(run) | {"documents": run.documents[:questions]}) for run in logs.runs]
    (table,) = time_sheet("times", "a model", runs).tables
    titles = [column.title for column in table.columns]
    ours = dict(zip(titles, table.rows[1], strict=True))
    assert (ours["speed-up"] is None) == (questions < FEWEST_QUESTIONS)
    assert ours["computing: speed-up"] == pytest.approx(200 / 100)


def test_the_tables_of_a_run_with_times_have_their_sheet(logs):
    assert [sheet.name for sheet in make_sheets(logs) if sheet.name.startswith("times_")]
    untimed = [run for run in logs.runs if run.condition.method == "fastv"]
    assert time_sheet("times", "a model", untimed) is None


def test_the_first_question_of_a_process_is_left_out(logs):
    run = next(run for run in logs.runs if run.condition.method == "full")
    slow = run.documents[0].counts | {"vision_ms": 9e6, "warm_up": 1}
    first = run.documents[0].__class__(**vars(run.documents[0]) | {"counts": slow})
    (time,) = run_times([run.__class__(**vars(run) | {"documents": (first, *run.documents[1:])})])
    assert time.milliseconds["vision"] == 40
    assert time.questions == SIZE - 1
    (alone,) = run_times([run.__class__(**vars(run) | {"documents": (first,)})])
    assert alone.questions == 1


def test_computing_is_compared_where_nothing_was_shared(logs):
    """The full model goes on from one prefill for all questions about a video: its later ones say nothing of FLOPs."""
    run = next(run for run in logs.runs if run.condition.method == "full")
    (before,) = run_times([run])
    shared = {"vision_ms": 0.0, "prefill_ms": 4.0, "reused_features": 1, "reused_tokens": 900}
    documents = [
        document.__class__(**vars(document) | {"counts": document.counts | (shared if place % 3 else {})})
        for place, document in enumerate(run.documents)
    ]
    (after,) = run_times([run.__class__(**vars(run) | {"documents": tuple(documents)})])
    assert (before.computing, after.computing) == (200, 200)
    assert after.total == pytest.approx(50 + (200 + 2 * 4) / 3)
    (later,) = run_times([run.__class__(**vars(run) | {"documents": tuple(documents[1:3])})])
    assert (later.computing, later.limit) == (None, None)
