"""A results folder of an older version, with two finished runs and one that was killed: read, and gone on from."""

import csv
import json
import re
import shutil
from pathlib import Path

import pytest

from st_simdiff.report.tables import write_tables
from st_simdiff.runs.protocol import software

OLDER = Path(__file__).parent / "older_results"


@pytest.fixture
def older(tmp_path):
    """A copy of the folder, whose unfinished run names the software of this machine: another one is refused."""
    logs = tmp_path / "logs"
    shutil.copytree(OLDER, logs)
    for record in logs.rglob("run.json"):
        written = json.loads(record.read_text())
        written["protocol"]["software"] = software()
        record.write_text(json.dumps(written))
    return logs


def test_tables_are_made_of_it(older, tmp_path):
    write_tables(older, tmp_path / "out", ["csv"])
    with (tmp_path / "out" / "runs.csv").open() as file:
        rows = [(row["method"], float(row["r"]), row["questions"], row["reported"]) for row in csv.DictReader(file)]
    assert rows == [("Full model", 1.0, "6", "100.0"), ("ST-SimDiff", 0.3, "6", "100.0")]


def test_its_runs_are_finished_or_gone_on_from(older, start):
    grid = ["--method", "full,st_simdiff,fastv", "--retention", "0.3", "--limit", "6"]
    (folder,) = older.rglob("fastv*")
    before = (folder / "answers" / "answers.rank0.jsonl").read_text().splitlines()[:3]
    done = start(["st_simdiff", "eval", *grid], folder=older.parent).result()
    assert done.code == 0, done.output
    assert done.output.count("finished before") == 2
    assert "fastv, retention 0.3: goes on from 3 answers" in done.output
    rows = [re.split(r"\s{2,}", line) for line in done.output.splitlines() if line.startswith("synthevents  ")]
    assert [row[1:5] for row in rows] == [
        [method, kept, "6 of 300", "100.0"] for method, kept in (("full", "1"), ("st_simdiff", "0.3"), ("fastv", "0.3"))
    ]
    after = (folder / "answers" / "answers.rank0.jsonl").read_text().splitlines()
    assert after[:3] == before
    records = [json.loads(line) for line in (line for line in after if line.endswith("}"))]
    assert [record["doc_id"] for record in records] == list(range(6))
    assert {run.name for run in older.glob("embedded/synthevents/*")} == {
        run.name for run in OLDER.glob("embedded/synthevents/*")
    }
