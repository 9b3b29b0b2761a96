"""Which videos of a run could not be read."""

from __future__ import annotations

from pathlib import Path

from st_simdiff.runs.journal import read_records
from st_simdiff.vocabulary import UNREADABLE_COUNT

UNREADABLE_COUNTS = {"input_tokens": 0, "output_tokens": 0, UNREADABLE_COUNT: 1}
"""The counts of a question whose video could not be read."""


def unreadable_videos(journal_folder: str | Path) -> list[tuple[str, str]]:
    """(video, reason), sorted, of the questions that the journals in `journal_folder` have not found an answer to.

    A question that a resumed run could answer after all is none of them. No journal, no videos.
    """
    failed: dict[tuple, tuple[str, str]] = {}
    answered = set()
    for record in read_records(journal_folder):
        question = tuple(record.get(key) for key in ("task", "doc_id", "index", "asked"))
        if "unreadable" in record:
            failed[question] = (record["video"], record["unreadable"])
        else:
            answered.add(question)
    return sorted({failed[question] for question in failed.keys() - answered})
