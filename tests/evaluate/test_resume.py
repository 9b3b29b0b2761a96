"""A run that is killed goes on, with another number of processes too, and asks nothing twice."""

import os
import shutil
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import psutil
import pytest
from command_line import OFFLINE, finish

from st_simdiff.runs.journal import read_records

QUESTIONS = 12
DEADLINE = 240


def command(checkpoint: Path, processes: int) -> list[str]:
    own = ["st_simdiff", "eval", "--model_path", str(checkpoint), "--tasks", "clips", "--method", "st_simdiff"]
    return [*own, "--num_processes", str(processes), "--", "--gen_kwargs", "max_new_tokens=150"]


def records(folder: Path) -> list[dict]:
    return [record for journal in folder.rglob("answers") for record in read_records(journal)]


def kill_in_the_middle(arguments: list[str], folder: Path) -> None:
    """Starts the command and kills it, and all that it started, once some of its answers are there."""
    environment = {**os.environ, **OFFLINE, "HF_HOME": str(folder / "hf"), "OMP_NUM_THREADS": "1"}
    with (folder / "output").open("w") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", *arguments], cwd=folder, env=environment, stdout=output, stderr=output
        )
        started = time.monotonic()
        while len(records(folder)) < 3:
            assert process.poll() is None, (folder / "output").read_text()
            assert time.monotonic() - started < DEADLINE
            time.sleep(0.02)
        everyone = [*psutil.Process(process.pid).children(recursive=True), psutil.Process(process.pid)]
        for one in everyone:
            one.kill()
        psutil.wait_procs(everyone, timeout=30)
        process.wait()


@pytest.mark.slow
def test_killed_with_two_processes_and_continued_with_one_and_with_three(checkpoint, tmp_path_factory):
    whole = finish(command(checkpoint, 1), tmp_path_factory.mktemp("whole"))
    assert whole.code == 0, whole.output
    expected = {doc: row["filtered_resps"] for doc, row in whole.samples("clips").items()}
    assert len(expected) == QUESTIONS

    killed = tmp_path_factory.mktemp("killed")
    kill_in_the_middle(command(checkpoint, 2), killed)
    before = records(killed)
    assert 3 <= len(before) < QUESTIONS
    assert not list(killed.rglob("*_results.json"))
    ranks = sorted(path.name for path in killed.rglob("answers.rank*.jsonl"))
    assert "answers.rank1.jsonl" in ranks

    for processes in (1, 3):
        folder = tmp_path_factory.mktemp(f"continued{processes}") / "copy"
        shutil.copytree(killed, folder)
        (journal,) = folder.rglob("answers.rank0.jsonl")
        with journal.open("a") as file:
            file.write('{"task": "clips", "doc')  # as if the kill had cut it off
        done = finish(command(checkpoint, processes), folder)
        assert done.code == 0, done.output
        assert f"goes on from {len(before)} answers" in done.output
        assert {doc: row["filtered_resps"] for doc, row in done.samples("clips").items()} == expected
        asked = Counter((record["doc_id"], record["index"]) for record in records(folder))
        assert asked == {(doc, 0): 1 for doc in range(QUESTIONS)}
        again = [record for record in records(folder) if record in before]
        assert len(again) == len(before)
        counted = {doc: row["token_counts"][0]["seconds"] for doc, row in done.samples("clips").items()}
        assert all(counted[record["doc_id"]] == record["counts"]["seconds"] for record in before)
