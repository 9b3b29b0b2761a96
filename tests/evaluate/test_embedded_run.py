"""`st-simdiff eval` without a checkpoint, whole: the trained model answers the first questions of SynthEvents."""

import json
import re
from pathlib import Path

RECORDED = json.loads((Path(__file__).parent / "embedded_answers.json").read_text(encoding="utf-8"))
"""The answers of every run on the tested versions: those of the table in the README."""

TOLERANCE = 0.01
"""Share of the answers that other versions of packages may change."""


def rows_of(done):
    """The lines of the final table, cell by cell."""
    return [re.split(r"\s{2,}", line) for line in done.output.splitlines() if line.startswith("synthevents  ")]


def answers_of(done, run):
    """The answers of a run, in the order of the questions. Its folder is its name with a fingerprint behind."""
    (file,) = (done.folder / "logs").rglob(f"{run}-*/**/*_samples_synthevents.jsonl")
    rows = sorted(map(json.loads, file.read_text().splitlines()), key=lambda row: row["doc_id"])
    return [row["filtered_resps"] for row in rows]


def test_the_embedded_default_ends_in_a_table_and_is_not_run_again(start):
    questions = len(RECORDED["full"])
    command = ["st_simdiff", "eval", "--limit", str(questions), "--", "--verbosity", "INFO"]
    done = start(command).result()
    assert done.code == 0, done.output
    table = rows_of(done)
    assert [row[1:4] for row in table] == [
        ["full", "1", f"{questions} of 300"],
        ["st_simdiff", "0.5", f"{questions} of 300"],
        ["st_simdiff", "0.3", f"{questions} of 300"],
    ]
    assert [row[8:10] for row in table] == [["320", "320"], ["320", "160"], ["320", "96"]]
    assert "means nothing" not in done.output
    assert done.output.count("checkpoint on cpu in torch.float32: ") == 1  # said when a model is loaded

    changed = sum(a != b for run in RECORDED for a, b in zip(answers_of(done, run), RECORDED[run], strict=True))
    assert changed <= TOLERANCE * len(RECORDED) * questions

    again = start(command, folder=done.folder).result()
    assert again.code == 0, again.output
    assert again.output.count("finished before") == 3
    assert " on cpu in torch" not in again.output
    assert rows_of(again) == table
