"""What stands for the answer to a question whose video cannot be read, and which videos those were."""

from __future__ import annotations

from pathlib import Path

UNREADABLE = "[the video could not be read]"
"""Tasks can tell it from what a model says, and leave the question out of the score."""

UNREADABLE_COUNTS = {"input_tokens": 0, "output_tokens": 0, "unreadable": 1}
"""The counts of a question whose video could not be read."""


def unreadable_videos(journal_folder: str | Path) -> list[tuple[str, str]]:
    """(video, reason), sorted, of the questions that the journals in `journal_folder` have not found an answer to.

    A question that a resumed run could answer after all is none of them. No journal, no videos.
    """
    from st_simdiff.runs.journal import read_records

    failed: dict[tuple, tuple[str, str]] = {}
    answered = set()
    for record in read_records(journal_folder):
        question = tuple(record.get(key) for key in ("task", "doc_id", "index", "asked"))
        if "unreadable" in record:
            failed[question] = (record["video"], record["unreadable"])
        else:
            answered.add(question)
    return sorted({failed[question] for question in failed.keys() - answered})
