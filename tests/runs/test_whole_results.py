"""A run is finished when its results and all of their rows are there and agree, and at no other time."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from st_simdiff.errors import InputError
from st_simdiff.files import digest_of_file, move_whole, write_whole
from st_simdiff.report.reading import read_logs, read_results
from st_simdiff.runs.results import DIGESTS, UNFINISHED, find_results, why_not_whole

STAMP = "20260102_030405"


def write_run(folder: Path, questions: int = 4, *, digest: bool = True) -> Path:
    """A finished run of a task of ours; without a digest as version 0.1 wrote it."""
    folder.mkdir(parents=True)
    rows = [{"doc_id": number, "accuracy": {"video": f"v{number}", "score": 100.0}} for number in range(questions)]
    samples = folder / f"{STAMP}_samples_own.jsonl"
    samples.write_text("".join(json.dumps(row) + "\n" for row in rows))
    results = {
        "results": {"own": {"accuracy,none": 100.0}},
        "configs": {"own": {"metric_list": [{"metric": "accuracy"}]}},
        "config": {"model": "llava_video", "model_args": "pretrained=a,method=full"},
        "protocol": {"coverage": {"asked": questions, "in_all": questions, "unreadable": 0}},
        **({DIGESTS: {"own": digest_of_file(samples)}} if digest else {}),
    }
    path = folder / f"{STAMP}_results.json"
    path.write_text(json.dumps(results))
    return path


def damage(path: Path, how: str) -> None:
    samples = path.with_name(f"{STAMP}_samples_own.jsonl")
    if how == "cut":
        os.truncate(samples, samples.stat().st_size - 20)
    elif how == "fewer rows":
        samples.write_text("".join(f"{line}\n" for line in samples.read_text().splitlines()[:2]))
    elif how == "no rows":
        samples.write_text("")
    elif how == "no samples":
        samples.unlink()
    elif how == "other rows":
        samples.write_text(samples.read_text().replace("100.0", "0.0", 1))
    else:
        path.write_text(how)


@pytest.mark.parametrize("digest", [True, False])
def test_a_whole_run_counts(tmp_path, digest):
    path = write_run(tmp_path / "run", digest=digest)
    assert why_not_whole(path) == ""
    assert len(read_results(path)[0].documents) == 4


@pytest.mark.parametrize("digest", [True, False])
@pytest.mark.parametrize(
    "how",
    ["cut", "fewer rows", "no rows", "no samples", "", "[]", "null", "{", "{}", '{"results": {}}', "[" * 100_000],
)
def test_a_damaged_run_counts_nowhere(tmp_path, how, digest):
    path = write_run(tmp_path / "run", digest=digest)
    damage(path, how)
    reason = why_not_whole(path)
    assert reason.startswith(str(path.parent))
    assert reason.endswith(".")
    assert read_logs(tmp_path).runs == ()


def test_rows_that_were_changed_afterwards_are_noticed(tmp_path):
    path = write_run(tmp_path / "run")
    damage(path, "other rows")
    assert "was changed after its results were written" in why_not_whole(path)
    with pytest.raises(InputError, match="was changed"):
        read_results(path)


def test_what_is_being_written_is_no_result(tmp_path):
    whole = write_run(tmp_path / "a" / "model")
    write_run(tmp_path / "b" / UNFINISHED / "model")
    assert find_results(tmp_path) == [whole]
    assert find_results(tmp_path / "b") == []


def test_a_unicode_line_separator_ends_no_row(tmp_path):
    path = write_run(tmp_path / "run", digest=False)
    samples = path.with_name(f"{STAMP}_samples_own.jsonl")
    samples.write_text(samples.read_text().replace("v1", "v\u20281"))
    assert why_not_whole(path) == ""


def test_a_file_is_replaced_whole_and_a_link_is_not_followed(tmp_path):
    other = tmp_path / "other"
    other.write_text("kept")
    (tmp_path / "link").symlink_to(other)
    write_whole(tmp_path / "link", "new")
    assert (other.read_text(), (tmp_path / "link").read_text()) == ("kept", "new")
    move_whole(other, tmp_path / "folder" / "moved")
    assert (tmp_path / "folder" / "moved").read_text() == "kept"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["folder", "link"]


def test_a_kill_while_writing_leaves_the_old_file(tmp_path):
    target = tmp_path / "file"
    write_whole(target, "0" * 1_000_000)
    code = (
        "import sys; from pathlib import Path; from st_simdiff.files import write_whole\n"
        "print('on', flush=True)\n"
        "for n in range(100000): write_whole(Path(sys.argv[1]), str(n % 10) * 1_000_000)"
    )
    with subprocess.Popen([sys.executable, "-c", code, str(target)], stdout=subprocess.PIPE) as writer:
        assert writer.stdout is not None
        writer.stdout.readline()
        time.sleep(0.2)
        writer.send_signal(signal.SIGKILL)
    content = target.read_text()
    assert len(content) == 1_000_000
    assert len(set(content)) == 1
