"""Damaged journals, results and records of runs."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from inputs import BadInput, Number
from loguru import logger

from st_simdiff.errors import InputError
from st_simdiff.files import digest_of_file
from st_simdiff.report.reading import read_logs
from st_simdiff.runs.journal import read_records
from st_simdiff.runs.record import RECORD, refuse_other_protocol
from st_simdiff.runs.results import why_not_whole

COUNTS = {"input_tokens": 7, "output_tokens": 2}
ANSWER = {"task": "clips", "doc_id": 3, "index": 0, "asked": "ab", "answer": "A", "counts": COUNTS}
PLAIN = [None, 5, -1, 2.5, True, [], {}, [[]], "text", {"a": 1}, "\u2028", [1, 2, 3], float("nan")]
ALLOWED = {"task": str, "doc_id": int, "index": int, "asked": str, "answer": str, "counts": dict}


def journals(number: Number, checkpoint: Path) -> Iterator[BadInput]:  # noqa: ARG001
    whole = json.dumps(ANSWER).encode()
    while True:
        kind = number.choice(["value", "value", "without", "cut", "bytes", "json"])
        if kind == "value":
            key, value = number.choice(list(ALLOWED)), number.choice(PLAIN)
            if isinstance(value, ALLOWED[key]):
                continue
            line = json.dumps({**ANSWER, key: value}).encode()
        elif kind == "without":
            left = number.sample(list(ANSWER), number.randrange(1, len(ANSWER)))
            line = json.dumps({key: value for key, value in ANSWER.items() if key not in left}).encode()
        elif kind == "cut":
            line = whole[: number.randrange(1, len(whole))]
        elif kind == "bytes":
            line = bytes(number.randrange(128, 256) for _ in range(number.randrange(1, 80)))
        else:
            line = number.choice(
                [b"[" * 100_000, b"9" * 5000, b"{}", b"null", b'{"a": 1e999}', b"\x00" * 40, b"{" * 9000]
            )
        yield BadInput(f"a line of a journal: {line[:160]!r} {len(line)}", partial(_read_journal, line))


def _read_journal(line: bytes, folder: Path) -> None:
    """Raises what is said of the line where it alone is set aside."""
    (folder / "answers.rank0.jsonl").write_bytes(json.dumps(ANSWER).encode() + b"\n" + line + b"\n")
    said: list[str] = []
    sink = logger.add(lambda message: said.append(message.record["message"]), level="WARNING")
    try:
        records = list(read_records(folder, warn=True))
    finally:
        logger.remove(sink)
    if records == [ANSWER] and len(said) == 1:
        raise InputError(said[0])
    raise RuntimeError(f"{len(records)} records, {said}") if ANSWER not in records else AssertionError("it counts")


# --- results ---

STAMP = "20260102_030405"


def write_run(folder: Path, questions: int = 4) -> tuple[Path, Path]:
    """A finished run of a task of ours: results and samples."""
    folder.mkdir()
    rows = [{"doc_id": one, "accuracy": {"video": f"v{one}", "score": 100.0}} for one in range(questions)]
    samples = folder / f"{STAMP}_samples_own.jsonl"
    samples.write_text("".join(json.dumps(row) + "\n" for row in rows))
    results = {
        "results": {"own": {"accuracy,none": 100.0}},
        "configs": {"own": {"metric_list": [{"metric": "accuracy"}]}},
        "config": {"model": "llava_video", "model_args": "pretrained=a,method=full"},
        "protocol": {"coverage": {"asked": questions, "in_all": questions, "unreadable": 0}},
        "samples_sha256": {"own": digest_of_file(samples)},
    }
    path = folder / f"{STAMP}_results.json"
    path.write_text(json.dumps(results))
    return path, samples


def results(number: Number, checkpoint: Path) -> Iterator[BadInput]:  # noqa: ARG001
    texts = [
        b"",
        b"[]",
        b"null",
        b"{",
        b"5",
        b"{}",
        b'{"results": []}',
        b'{"results": {}}',
        b"[" * 100_000,
        b"9" * 5000,
    ]
    while True:
        kind = number.choice(["cut", "flip", "lines", "remove", "results", "record", "double", "place", "shape"])
        seed = number.random()
        if kind == "results":
            text = number.choice(texts)
            yield BadInput(f"results of {text[:30]!r} {len(text)}", partial(_read_results, partial(_replace, text)))
        elif kind == "record":
            text = number.choice(
                [*texts, b'{"protocol": 5}', b'{"protocol": {}, "method": 5}', b"\xff\xfe", b'{"protocol": []}']
            )
            yield BadInput(f"a record of {text[:30]!r} {len(text)}", partial(_read_record, text))
        elif kind == "shape":
            key = number.choice(["results", "configs", "config", "protocol"])
            value = number.choice([None, 5, [], "text", {"own": 5}, {"own": None}, {"own": []}, [1], True])
            yield BadInput(f"results with {key} = {value}", partial(_read_shape, key, value))
        else:
            yield BadInput(f"a run, {kind} {seed:.6f}", partial(_read_results, partial(DAMAGES[kind], seed)))


def _read_results(damage: Callable[[Path, Path], None], folder: Path) -> None:
    """Raises why the damaged run does not count; the report must say it, too."""
    damage(*write_run(folder / "run"))
    reasons = [why_not_whole(path) for path in folder.rglob("*_results.json")]
    read = read_logs(folder) if reasons else None
    if read is None:
        raise InputError(f"{folder} has no results.")
    if not all(reasons) or read.runs or not read.problems:
        raise AssertionError(f"it counts: {reasons}, {read.problems}")
    raise InputError(read.problems[0])


def _read_shape(key: str, value: Any, folder: Path) -> None:
    """A results file whose entries have other types: read for what it has, or refused, but in a sentence."""
    path, _ = write_run(folder / "run")
    path.write_text(json.dumps(json.loads(path.read_text()) | {key: value}))
    why_not_whole(path)
    problems = read_logs(folder).problems
    raise InputError(problems[0] if problems else f"{path} is read without {key}.")


def _read_record(text: bytes, folder: Path) -> None:
    (folder / RECORD).write_bytes(text)
    refuse_other_protocol(folder, {"model": "a"}, {"name": "full"})


def _replace(text: bytes, path: Path, samples: Path) -> None:  # noqa: ARG001
    path.write_bytes(text)


def _cut(seed: float, path: Path, samples: Path) -> None:
    target = path if seed < 0.5 else samples
    os.truncate(target, int(target.stat().st_size * (seed * 2 % 1) * 0.98))


def _flip(seed: float, path: Path, samples: Path) -> None:  # noqa: ARG001
    content = bytearray(samples.read_bytes())
    place = int(seed * len(content))
    content[place] ^= 1
    samples.write_bytes(content)


def _lines(seed: float, path: Path, samples: Path) -> None:  # noqa: ARG001
    kept = samples.read_text().splitlines(keepends=True)
    del kept[int(seed * len(kept))]
    samples.write_text("".join(kept))


def _double(seed: float, path: Path, samples: Path) -> None:  # noqa: ARG001
    kept = samples.read_text().splitlines(keepends=True)
    samples.write_text("".join([*kept, kept[int(seed * len(kept))]]))


def _remove(seed: float, path: Path, samples: Path) -> None:
    (path if seed < 0.5 else samples).unlink()


def _place(seed: float, path: Path, samples: Path) -> None:
    """A folder where a file was, or all of it where results are being written."""
    if seed < 0.4:
        samples.unlink()
        samples.mkdir()
    elif seed < 0.7:
        path.unlink()
        path.mkdir()
    else:
        samples.unlink()
        samples.symlink_to("/dev/full" if seed < 0.85 else "nowhere")


DAMAGES = {"cut": _cut, "flip": _flip, "lines": _lines, "double": _double, "remove": _remove, "place": _place}
