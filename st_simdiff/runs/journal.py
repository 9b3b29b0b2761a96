"""Every answer on disk the moment it is there, so that a run that was killed goes on where it stopped.

lmms-eval itself writes nothing before the last question is answered.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from loguru import logger

from st_simdiff.checks import is_number
from st_simdiff.errors import InputError

FOLDER = "answers"
"""In a run's folder: what was written down answer by answer."""

_KEY_TYPES = {"task": str, "doc_id": int, "index": int, "asked": str}

Key = tuple[str, int, int, str]
"""Task, document, index of the request within the document, and `fingerprint` of what was asked."""


class Journal:
    """One JSON line an answer, in `folder`/answers.rank<rank>.jsonl, flushed to the disk before `write` returns.

    What all processes of earlier runs wrote in `folder` is read at the start, whatever their number was.
    """

    def __init__(self, folder: str | Path, rank: int) -> None:
        self.path = Path(folder) / f"answers.rank{rank}.jsonl"
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._earlier: dict[Key, deque[dict[str, Any]]] = {}
        self._unreadable: dict[Key, dict[str, Any]] = {}
        for record in read_records(folder, warn=rank == 0):
            if "answer" in record:
                self._earlier.setdefault(_key(record), deque()).append(record)
            else:
                self._unreadable[_key(record)] = record
        _end_last_line(self.path)

    @property
    def earlier(self) -> int:
        """How many answers of earlier runs have not been taken yet."""
        return sum(len(records) for records in self._earlier.values())

    def recorded(self, task: str, doc_id: int, index: int, asked: str) -> dict[str, Any] | None:
        """Takes the record of an answer that an earlier run wrote down; None if there is none (left).

        A question that is asked several times takes one record each time.
        """
        records = self._earlier.get((task, doc_id, index, asked))
        return records.popleft() if records else None

    def unreadable(self, task: str, doc_id: int, index: int, asked: str) -> tuple[str, str] | None:
        """(video, reason) where an earlier run could not read the video of a question, and its file is still the same.

        None otherwise: such a question is asked again.
        """
        record = self._unreadable.get((task, doc_id, index, asked))
        if record is None or record.get("file") is None or record["file"] != file_state(record["video"]):
            return None
        return record["video"], record["unreadable"]

    def write(self, record: dict[str, Any]) -> None:
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(record, ensure_ascii=False) + "\n")
            file.flush()
            os.fsync(file.fileno())


def file_state(path: str) -> list[int] | None:
    """Size and time of the last change of a file; None where there is none."""
    try:
        status = os.stat(path)
    except (OSError, ValueError):
        return None
    return [status.st_size, status.st_mtime_ns]


def fingerprint(*parts: str | None) -> str:
    """16 hex digits of what was asked: a document's number alone does not say that it is still the same document."""
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]


def read_records(folder: str | Path, *, warn: bool = False) -> Iterator[dict[str, Any]]:
    """The well-formed lines of all ranks' journals in `folder`: none that is half-written or no record of an answer.

    The questions of lines that are passed over are asked again. warn: log how many there are. Raises `InputError` where
    a journal is no regular file.
    """
    for path in sorted(Path(folder).glob("answers.rank*.jsonl")):
        if not path.is_file():
            raise InputError(f"{path} is no regular file, as a journal of answers must be: remove it.")
        passed_over = []
        for number, line in enumerate(path.read_bytes().split(b"\n"), start=1):
            if not line.strip():
                continue
            try:
                record = json.loads(line)
            except (ValueError, RecursionError):
                record = None
            if is_record(record):
                yield record
            else:
                passed_over.append(number)
        if passed_over and warn:
            logger.warning(
                f"{len(passed_over)} lines of {path} are no answers (the first is line {passed_over[0]}): the "
                "questions are asked again."
            )


def is_record(value: Any) -> bool:
    """Whether a line of a journal is an answer with its counts, or says why a video could not be read."""
    if not isinstance(value, dict) or not all(isinstance(value.get(key), kind) for key, kind in _KEY_TYPES.items()):
        return False
    if "answer" not in value:
        return isinstance(value.get("unreadable"), str) and isinstance(value.get("video"), str)
    answer, counts = value["answer"], value.get("counts")
    is_likelihood = isinstance(answer, list) and len(answer) == 2 and is_number(answer[0])
    return (
        (isinstance(answer, str) or (is_likelihood and isinstance(answer[1], bool)))
        and isinstance(counts, dict)
        and all(is_number(counts.get(key)) for key in ("input_tokens", "output_tokens"))
    )


def count_answers(folder: str | Path) -> int:
    """How many lines the journals of all ranks in `folder` hold."""
    return sum(1 for _ in read_records(folder))


def _key(record: dict[str, Any]) -> Key:
    return record["task"], record["doc_id"], record["index"], record["asked"]


def _end_last_line(path: Path) -> None:
    """A line that a kill left half-written must not run into the next one."""
    if path.exists() and (content := path.read_bytes()) and not content.endswith(b"\n"):
        with path.open("ab") as file:
            file.write(b"\n")
