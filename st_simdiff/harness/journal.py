"""Every answer on disk the moment it is there: lmms-eval itself writes nothing before the last question is answered."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any


class Journal:
    """One JSON line an answer, in `folder`/answers.rank<rank>.jsonl, flushed to the disk before `write` returns."""

    def __init__(self, folder: str | Path, rank: int) -> None:
        self.path = Path(folder) / f"answers.rank{rank}.jsonl"
        self.path.parent.mkdir(parents=True, exist_ok=True)

    def write(self, record: dict[str, Any]) -> None:
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(record, ensure_ascii=False) + "\n")
            file.flush()
            os.fsync(file.fileno())


def count_answers(folder: str | Path) -> int:
    """How many answers the journals of all ranks in `folder` hold."""
    return sum(len(path.read_text(encoding="utf-8").splitlines()) for path in Path(folder).glob("answers.rank*.jsonl"))
