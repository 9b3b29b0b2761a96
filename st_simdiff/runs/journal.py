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

FOLDER = "answers"
"""In a run's folder: what was written down answer by answer."""

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
        for record in read_records(folder):
            if "answer" in record and "asked" in record:
                self._earlier.setdefault(_key(record), deque()).append(record)
            elif "unreadable" in record and "asked" in record:
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


def read_records(folder: str | Path) -> Iterator[dict[str, Any]]:
    """The lines of all ranks' journals in `folder`, without those that a kill left half-written."""
    for path in sorted(Path(folder).glob("answers.rank*.jsonl")):
        for number, line in enumerate(path.read_bytes().split(b"\n"), start=1):
            if not line.strip():
                continue
            try:
                record = json.loads(line)
            except ValueError:
                logger.warning(f"Line {number} of {path} was cut off; its question is asked again.")
                continue
            yield record


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
