"""Tables 1 to 5: which run stands where, what it is compared with, and what is withheld."""

import csv
import io

import numpy as np
import pytest
from lmms_logs import answers, counts, flip, model_args, task_rows, write_task

from st_simdiff.report import tables
from st_simdiff.report.comparison import Comparer, comparable, full_model, is_rival, name_protocols, newest
from st_simdiff.report.paper_scores import PAPER_TABLES, belongs, make_scores
from st_simdiff.report.paper_tables import noise_note, paper_sheet, subset_note
from st_simdiff.report.reading import read_logs
from st_simdiff.report.render import to_csv, to_markdown

FULL = answers(0.633, 2700)
SCORES = {
    ("full", 1.0): FULL,
    ("random", 0.3): answers(0.50, 2700, seed=4),
    ("fastv", 0.3): flip(FULL, 200, seed=1),
    ("framefusion", 0.3): flip(FULL, 100, seed=2),
    ("st_simdiff", 0.3): flip(FULL, 12, seed=3),
    ("st_simdiff_release", 0.3): flip(FULL, 14, seed=5),
}


def add(folder, task, right, number, pretrained="/models/LLaVA-Video-7B-Qwen2", limit=None, **given):
    args = model_args(pretrained, **given)
    return write_task(folder, task, task_rows(task, right), args, right, counts(), number, limit=limit)


@pytest.fixture(scope="module")
def logs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("logs")
    number = 0
    for (method, retention), right in SCORES.items():
        add(folder, "videomme", right, number, method=method, retention=retention)
        number += 1
    lvb = answers(0.58, 1337)
    for method, retention, right in (("full", 1.0, lvb), ("st_simdiff", 0.3, flip(lvb, 40, seed=1))):
        add(folder, "longvideobench_val_v", right, number, method=method, retention=retention)
        number += 1
    add(folder, "egoschema", answers(0.561, 200), number, limit=200, method="st_simdiff", retention=0.3)
    add(folder, "videomme", SCORES["fastv", 0.3], number + 1, method="st_simdiff", retention=0.3, tau_diff=-1)
    add(folder, "videomme", SCORES["fastv", 0.3], number + 2, method="st_simdiff", retention=0.3, tau_sim=0.9)
    return read_logs(folder)


@pytest.fixture(scope="module")
def first_table(logs):
    return make_scores(PAPER_TABLES[0], logs.runs, Comparer(), name_protocols(logs.runs))


def cell(scores, method, benchmark="VideoMME", split="overall", retention=0.3):
    found = [
        score
        for score in scores
        if (score.row.method, score.benchmark.name, score.split, score.row.retention)
        == (method, benchmark, split, retention)
    ]
    assert len(found) == 1
    return found[0]


def run_of(logs, method, task="videomme"):
    return next(
        run for run in logs.runs if (run.condition.method, run.task) == (method, task) and not run.condition.settings
    )


def test_ours_printed_and_difference(first_table):
    score = cell(first_table, "fastv")
    assert score.ours.score == pytest.approx(100 * SCORES["fastv", 0.3].mean())
    assert score.printed == 59.3
    assert score.difference == pytest.approx(score.ours.score - 59.3)
    assert score.agrees == (score.ours.low <= 59.3 <= score.ours.high)
    assert (score.ours.questions, score.ours.videos) == (2700, 900)


def test_splits(first_table):
    for number, split in enumerate(("short", "medium", "long")):
        score = cell(first_table, "st_simdiff", split=split)
        assert score.ours.score == pytest.approx(100 * SCORES["st_simdiff", 0.3].reshape(3, 900)[number].mean())
        assert score.printed == (74.7, 61.9, 53.0)[number]
    relation = cell(first_table, "st_simdiff", "LongVideoBench", "relation")
    assert (relation.ours.questions, relation.printed) == (712, 52.5)
    assert cell(first_table, "full", split="short", retention=1.0).printed is None


def test_rows_are_the_papers_and_ours(first_table):
    rows = list(dict.fromkeys((score.row.retention, score.row.label) for score in first_table))
    assert rows[0] == (1.0, "Full model")
    at_30 = [label for retention, label in rows if retention == 0.3]
    assert at_30 == [
        *("Random", "FastV", "PruMerge", "FasterVLM", "VisionZip", "FrameFusion"),
        *("ST-SimDiff", "ST-SimDiff (release)"),
    ]
    assert cell(first_table, "prumerge").ours is None
    assert cell(first_table, "random").printed is None


def test_the_release_is_compared_with_what_is_printed_for_st_simdiff(first_table):
    assert cell(first_table, "st_simdiff_release").printed == cell(first_table, "st_simdiff").printed == 63.2


def test_part_of_a_benchmark_is_not_compared(first_table):
    score = cell(first_table, "st_simdiff", "EgoSchema")
    assert score.ours.score == pytest.approx(56.0)
    assert score.difference is None
    assert score.agrees is None


def test_a_score_without_public_answers_has_an_interval_when_every_question_has_its_video(first_table):
    ours = cell(first_table, "st_simdiff", "EgoSchema").ours
    assert ours.low < 56.0 < ours.high


def test_ablations_stand_in_table_3_only(logs):
    ablated = next(run for run in logs.runs if run.condition.variant == "st_simdiff/similarity")
    swept = next(run for run in logs.runs if run.condition.other_settings)
    assert [belongs(table, ablated) for table in PAPER_TABLES] == [False, False, True, False, False]
    assert not any(belongs(table, swept) for table in PAPER_TABLES)
    assert [belongs(table, run_of(logs, "st_simdiff")) for table in PAPER_TABLES] == [True, False, True, False, False]
    scores = make_scores(PAPER_TABLES[2], logs.runs, Comparer(), name_protocols(logs.runs))
    assert cell(scores, "st_simdiff/similarity").printed == 62.6


def test_a_rivals_settings_are_rows_of_their_own(tmp_path):
    for number, budget in enumerate(("tokens", "as_published")):
        right = answers(0.5 + 0.1 * number, 60)
        add(tmp_path, "videomme", right, number, method="fastv", retention=0.3, budget=budget)
    runs = read_logs(tmp_path).runs
    scores = make_scores(PAPER_TABLES[0], runs, Comparer(), name_protocols(runs))
    found = {s.row.label: (s.ours.score, s.printed) for s in scores if s.ours and s.split == "overall"}
    assert found == {"FastV": (50.0, 59.3), "FastV (budget=as_published)": (60.0, 59.3)}


def test_paired_differences_are_those_of_the_same_questions(logs):
    comparer = Comparer()
    ours, full, fastv = (run_of(logs, method) for method in ("st_simdiff", "full", "fastv"))
    paired = comparer.paired(ours, full)
    gap = SCORES["st_simdiff", 0.3].astype(float) - SCORES["full", 1.0]
    assert paired.difference == pytest.approx(100 * gap.mean())
    assert paired.versus == "Full model"
    assert paired.low < paired.difference < paired.high
    assert not paired.significant
    assert comparer.paired(run_of(logs, "random"), full).significant
    assert comparer.paired(fastv, ours).difference == pytest.approx(-comparer.paired(ours, fastv).difference)


def test_the_best_rival_is_somebody_elses_at_the_same_retention(logs):
    comparer = Comparer()
    ours = run_of(logs, "st_simdiff")
    best = max(("random", "fastv", "framefusion"), key=lambda name: SCORES[name, 0.3].mean())
    assert comparer.best_rival(ours, logs.runs).condition.method == best
    assert not is_rival(ours, run_of(logs, "st_simdiff_release"))
    assert not is_rival(ours, run_of(logs, "full"))
    assert full_model(ours, logs.runs) is run_of(logs, "full")


def test_rivals_at_other_retentions_do_not_count(tmp_path):
    for number, (method, retention, share) in enumerate(
        (("st_simdiff", 0.3, 0.6), ("fastv", 0.5, 0.9), ("fastv", 0.3, 0.5))
    ):
        add(tmp_path, "videomme", answers(share, 60), number, method=method, retention=retention)
    ours, at_50, at_30 = read_logs(tmp_path).runs
    assert Comparer().best_rival(ours, [ours, at_50, at_30]) is at_30
    assert Comparer().best_rival(ours, [ours, at_50]) is None


def test_the_sheet(logs, first_table):
    sheet = paper_sheet(PAPER_TABLES[0], logs.runs, Comparer(), name_protocols(logs.runs))
    text = to_markdown(sheet)
    assert "| 0.30 | Random (ours only) | " in text
    assert "°" in text
    assert "covers 200 of the 5,031 questions of EgoSchema" in text
    assert "0.2 points on 2,700 questions are five answers" in text
    assert "perception questions gives: FastV, 30 %" in text
    _, scores, paired = sheet.tables
    lines = list(csv.DictReader(io.StringIO(to_csv(scores))))
    assert len(lines) == sum(score.ours is not None or score.printed is not None for score in first_table)
    (fastv,) = [
        line
        for line in lines
        if (line["r"], line["method"], line["benchmark"], line["split"]) == ("0.3", "FastV", "VideoMME", "overall")
    ]
    score = cell(first_table, "fastv")
    assert float(fastv["ours − printed"]) == pytest.approx(score.difference, abs=1e-5)
    assert float(fastv["95 % interval low"]) == pytest.approx(score.ours.low, abs=1e-5)
    against = {(line["method"], line["against"]) for line in csv.DictReader(io.StringIO(to_csv(paired)))}
    assert ("ST-SimDiff", "Full model") in against
    assert ("ST-SimDiff", "FrameFusion") in against
    assert ("FastV", "FastV") not in against


def test_noise(logs):
    assert "±1.8 points on VideoMME (2,700 questions)" in noise_note(PAPER_TABLES[0])
    assert "±2.7 points on LongVideoBench" in noise_note(PAPER_TABLES[0])
    assert subset_note(logs.runs) == []


def test_mixed_protocols_are_marked_and_not_compared(tmp_path):
    right = answers(0.6, 60)
    add(tmp_path, "videomme", right, 1, method="full", retention=1.0)
    add(tmp_path, "videomme", right, 2, method="fastv", retention=0.3)
    add(tmp_path, "videomme", flip(right, 9, 0), 3, method="fastv", retention=0.3, dtype="float32")
    runs = read_logs(tmp_path).runs
    protocols = name_protocols(runs)
    assert protocols.mixed
    assert [protocols.letter(run) for run in runs] == ["A", "A", "B"]
    assert comparable(runs[0], runs[1])
    assert not comparable(runs[0], runs[2])
    assert Comparer().paired(runs[2], runs[0]) is None
    sheet = paper_sheet(PAPER_TABLES[0], runs, Comparer(), protocols)
    text = to_markdown(sheet)
    assert "| protocol | r | method |" in text
    assert "A: dtype=auto; B: dtype=float32" in text
    assert text.count("| B | 0.30 | FastV") == 5


def test_two_checkpoints_of_one_model_are_two_rows(tmp_path):
    right = answers(0.6, 60)
    add(tmp_path, "videomme", right, 1, method="full")
    add(tmp_path, "videomme", flip(right, 9, 0), 2, "/other/llava-video", method="full")
    runs = read_logs(tmp_path).runs
    text = to_markdown(paper_sheet(PAPER_TABLES[0], runs, Comparer(), name_protocols(runs)))
    assert "| llava-video | 1.00 | Full model" in text
    assert "| LLaVA-Video-7B-Qwen2 | 1.00 | Full model" in text
    assert not comparable(*runs)


def test_other_questions_are_not_compared(tmp_path):
    add(tmp_path, "videomme", answers(0.6, 60), 1, method="full")
    add(tmp_path, "videomme", answers(0.6, 57), 2, method="fastv", retention=0.3)
    first, second = read_logs(tmp_path).runs
    assert Comparer().paired(second, first) is None


def test_the_newest_run_of_a_condition_counts(tmp_path):
    for number, share in enumerate((0.3, 0.6)):
        add(tmp_path, "videomme", answers(share, 60), number, method="fastv", retention=0.3)
    logs = read_logs(tmp_path)
    kept, replaced = newest(logs.runs)
    assert [run.reported for run in kept] == [pytest.approx(60.0)]
    assert [run.reported for run in replaced] == [pytest.approx(30.0)]
    (overview,) = tables.overview_sheet(logs, replaced, name_protocols(kept)).tables
    assert "replaced by a newer run" in to_markdown(tables.overview_sheet(logs, replaced, name_protocols(kept)))
    assert len(overview.rows) == 2
    grid = next(sheet for sheet in tables.make_sheets(logs) if sheet.name.startswith("grid"))
    assert [row[3] for row in grid.tables[0].rows] == [pytest.approx(60.0)]


def test_table_4_has_two_numbers_of_frames(tmp_path):
    for number, frames in enumerate((64, 128, 32)):
        model = "/models/Qwen2.5-VL-7B-Instruct"
        add(tmp_path, "videomme", answers(0.6, 60), number, model, method="full", max_frames_num=frames)
    runs = read_logs(tmp_path).runs
    scores = make_scores(PAPER_TABLES[3], runs, Comparer(), name_protocols(runs))
    printed = {score.row.frames: score.printed for score in scores if score.ours and score.split == "overall"}
    assert printed == {64: 62.9, 128: 66.4}


def test_questions_in_one_video_widen_the_interval(tmp_path):
    right = np.repeat(answers(0.6, 40), 3)
    add(tmp_path, "videomme", right, 1, method="full")
    (run,) = read_logs(tmp_path).runs
    estimate = Comparer().estimate(run)
    independent = 100 * 1.96 * np.sqrt(0.6 * 0.4 / 120)
    assert estimate.high - estimate.low > 1.4 * 2 * independent
