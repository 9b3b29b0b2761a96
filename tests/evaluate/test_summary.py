"""Reading what lmms-eval writes, and the table made of it."""

import json

from st_simdiff.evaluate.summary import summary
from st_simdiff.report.render import Column, Table, to_text
from st_simdiff.runs.journal import Journal, count_answers
from st_simdiff.runs.results import find_results


def write_run(folder, method, retention, scores, kept, model="a", **protocol):
    """A run of a task of ours: two questions a video."""
    folder.mkdir(parents=True)
    metric = [{"metric": "accuracy"}]
    results = {
        "results": {"own": {"accuracy,none": sum(scores) / len(scores)}},
        "configs": {"own": {"metric_list": metric}},
        "config": {"model": "llava_video", "model_args": f"pretrained={model},method={method},retention={retention}"},
        **({"protocol": protocol} if protocol else {}),
    }
    (folder / "20260102_030405_results.json").write_text(json.dumps(results))
    rows = [
        {
            "doc_id": number,
            "accuracy": {"video": f"v{number // 2}", "score": score},
            "token_counts": [{"visual_tokens": 100, "visual_tokens_kept": kept, "seconds": 1.5}],
        }
        for number, score in enumerate(scores)
    ]
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    (folder / "20260102_030405_samples_own.jsonl").write_text(lines)
    return folder / "20260102_030405_results.json"


def test_runs_become_rows_with_intervals_and_the_difference_from_the_full_model(tmp_path):
    full = write_run(tmp_path / "a", "full", 1, [100.0, 0.0] * 20 + [100.0] * 20, kept=100)
    half = write_run(tmp_path / "b", "st_simdiff", 0.5, [100.0, 0.0] * 30, kept=50)
    assert find_results(tmp_path) == [full, half]
    lines = summary([full, half]).splitlines()
    first, second = lines[2].split(), lines[3].split()
    assert first[:5] == ["own", "full", "1", "60", "66.7"]
    assert first[-4:] == ["-", "100", "100", "1.50"]
    assert second[:5] == ["own", "st_simdiff", "0.5", "60", "50.0"]
    low, high = (float(part.strip("[],")) for part in first[5:7])
    assert low < 66.7 < high
    difference, low, high = (float(part.strip("[],")) for part in second[-6:-3])
    assert difference == -16.7
    assert low < difference < high <= 0


def test_runs_with_several_budgets_of_subtitles_are_told_apart(tmp_path):
    budgets = (16, "all")
    paths = [write_run(tmp_path / str(one), "fastv", 0.5, [1.0], kept=50, subtitle_frames=one) for one in budgets]
    lines = summary(paths).splitlines()
    assert ["fastv (subtitle_frames=16)" in lines[2], "fastv (subtitle_frames=all)" in lines[3]] == [True, True]


def test_every_model_is_compared_with_itself(tmp_path):
    """Two models in one table: the second one's difference is from its own full model."""
    scores = {"a": ([100.0] * 20, [0.0] * 20), "b": ([0.0] * 20, [100.0] * 20)}
    paths = []
    for model, (full, half) in scores.items():
        paths.append(write_run(tmp_path / model / "full", "full", 1, full, kept=100, model=model))
        paths.append(write_run(tmp_path / model / "half", "st_simdiff", 0.5, half, kept=50, model=model))
    head, _, *lines = summary(paths).splitlines()
    assert head.split()[:2] == ["model", "task"]
    rows = [line.split() for line in lines[:4]]
    assert [row[0] for row in rows] == ["a", "a", "b", "b"]
    assert [row[-6] for row in (rows[1], rows[3])] == ["-100.0", "+100.0"]


def test_results_of_an_unknown_shape_cost_their_row_only(tmp_path):
    good = write_run(tmp_path / "a", "full", 1, [100.0, 0.0], kept=100)
    broken = write_run(tmp_path / "b", "full", 1, [100.0, 0.0], kept=100)
    samples = broken.with_name("20260102_030405_samples_own.jsonl")
    samples.write_text(samples.read_text().replace('"accuracy"', '"other"'))
    lines = summary([broken, good]).splitlines()
    assert lines[2].startswith("own")
    assert lines[-1].startswith(f"Not in the table: {samples} cannot be scored")


def test_the_table_aligns_numbers_right_and_words_left():
    table = Table("", "", (Column("task"), Column("score")), (("clips", 25.0), ("a", None)))
    assert to_text(table) == ("task   score\n-----  -----\nclips   25.0\na          -")


def test_journals_of_all_ranks_are_counted(tmp_path):
    for rank, answers in enumerate((["A", "B\n"], ["C"])):
        journal = Journal(tmp_path / "answers", rank)
        for answer in answers:
            place = {"task": "own", "doc_id": 0, "index": 0, "asked": "ab"}
            journal.write({**place, "answer": answer, "counts": {"input_tokens": 1, "output_tokens": 1}})
    assert count_answers(tmp_path / "answers") == 3
    assert count_answers(tmp_path / "nothing") == 0
