"""Reading what lmms-eval writes, and the table made of it."""

import json

from st_simdiff.harness.journal import Journal, count_answers
from st_simdiff.harness.results import find_results, format_table, read_results, table_row


def write_run(folder, metrics, samples):
    folder.mkdir(parents=True)
    (folder / "20260102_030405_results.json").write_text(json.dumps({"results": metrics}))
    for task, rows in samples.items():
        lines = "".join(json.dumps(row) + "\n" for row in rows)
        (folder / f"20260102_030405_samples_{task}.jsonl").write_text(lines)


def counts(tokens, kept, seconds):
    return {"visual_tokens": tokens, "visual_tokens_kept": kept, "seconds": seconds}


def test_a_run_becomes_a_row(tmp_path):
    metrics = {"videomme": {"alias": "videomme", "score_stderr,none": 0.1, "score,none": 62.5, "other,none": 1.0}}
    samples = {"videomme": [{"token_counts": [counts(100, 30, 1.0)]}, {"token_counts": [counts(200, 60, 2.0)]}]}
    write_run(tmp_path / "a" / "model", metrics, samples)
    (path,) = find_results(tmp_path)
    (result,) = read_results(path)
    assert table_row("st_simdiff", 0.3, result) == (
        *("videomme", "score", "st_simdiff", "0.3", "2", "62.5", "150", "45", "1.50"),
    )


def test_several_requests_a_question_and_questions_without_counts(tmp_path):
    rows = [{"token_counts": [counts(100, 30, 1.0), counts(100, 30, 3.0)]}, {"token_counts": [None]}]
    write_run(tmp_path / "model", {"choice": {"acc,none": 0.25}, "text": {"acc,none": "N/A"}}, {"choice": rows})
    choice, text = read_results(find_results(tmp_path)[0])
    assert (choice.questions, choice.tokens_in, choice.tokens_kept, choice.seconds) == (2, 100, 30, 2.0)
    assert (text.score, text.questions, text.tokens_in) == (None, 0, None)
    assert table_row("full", 1.0, text)[-4:] == ("-", "-", "-", "-")


def test_the_table_aligns_numbers_right_and_words_left():
    assert format_table([("task", "score"), ("clips", "25.0"), ("a", "-")]) == (
        "task   score\n-----  -----\nclips   25.0\na          -"
    )


def test_journals_of_all_ranks_are_counted(tmp_path):
    for rank, answers in enumerate((["A", "B\n"], ["C"])):
        journal = Journal(tmp_path / "answers", rank)
        for answer in answers:
            journal.write({"answer": answer})
    assert count_answers(tmp_path / "answers") == 3
    assert count_answers(tmp_path / "nothing") == 0
