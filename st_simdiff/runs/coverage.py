"""How much of a task a run asked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from st_simdiff.vocabulary import UNREADABLE_COUNT


@dataclass(frozen=True)
class LeftOut:
    """A question that was not asked, the video that it needs (below the benchmark's folder), and why."""

    question: str
    video: str
    reason: str


def coverage(samples: Sequence[Mapping], questions: int | None) -> dict[str, int | None]:
    """How much of the task was asked: questions asked and in all, and those whose video could not be read.

    samples: the rows of one task as lmms-eval logs them. questions: in the task as it was loaded; a task that leaves
    out what is not on this machine says in its rows how many there are.
    """
    told = [sample["coverage"] for sample in samples if isinstance(sample.get("coverage"), Mapping)]
    in_all = told[0].get("in_all", questions) if told else questions
    unreadable = sum(
        any(counts and counts.get(UNREADABLE_COUNT) for counts in sample.get("token_counts") or ())
        for sample in samples
    )
    return {"asked": len({sample["doc_id"] for sample in samples}), "in_all": in_all, "unreadable": unreadable}
