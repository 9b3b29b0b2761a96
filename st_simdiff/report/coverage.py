"""How much of a task was asked, and what was not: from the rows of a samples file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from st_simdiff.runs.coverage import LeftOut
from st_simdiff.vocabulary import UNREADABLE_COUNT

LEFT_OUT_ENTRY = "questions left out"
"""Entry of the protocol of a run that did not ask all questions of its task, for want of their videos or subtitles."""


@dataclass(frozen=True)
class Coverage:
    """scored: questions with a score. unreadable: videos that could not be decoded, one for each such question.

    in_all: questions of the whole task, None where the rows do not tell. left_out: those without a video or subtitles.
    counted_wrong: whether lmms-eval counted the unreadable ones as wrong answers, as its own tasks do.
    """

    scored: int
    unreadable: tuple[str, ...] = ()
    in_all: int | None = None
    left_out: tuple[LeftOut, ...] = ()
    counted_wrong: bool = False

    @property
    def text(self) -> str:
        """`2,688 of 2,700`, or just how many, where that is all or the whole is not known."""
        return f"{self.scored:,}" if self.in_all in (None, self.scored) else f"{self.scored:,} of {self.in_all:,}"


def is_unreadable(row: Mapping[str, Any]) -> bool:
    """Whether the row's video could not be read, so that its answer says nothing about the model."""
    coverage = row.get("coverage")
    if isinstance(coverage, Mapping) and "readable" in coverage:
        return not coverage["readable"]
    return any(request.get(UNREADABLE_COUNT) for request in row.get("token_counts") or [] if request)


def read_coverage(rows: Sequence[Mapping[str, Any]], scored: int, stated: int | None = None) -> Coverage:
    """From all rows of a samples file, of which `scored` questions have a score.

    stated: how many questions there are in all, where the rows do not tell.
    """
    own = {row["doc_id"]: row["coverage"] for row in rows if isinstance(row.get("coverage"), Mapping)}
    unreadable = {row["doc_id"]: row for row in rows if is_unreadable(row)}
    left_out = [LeftOut(*one) for coverage in own.values() for one in coverage.get("left_out") or []]
    return Coverage(
        scored=scored,
        unreadable=tuple(_video(unreadable[doc_id]) for doc_id in sorted(unreadable)),
        in_all=next((coverage["in_all"] for coverage in own.values() if "in_all" in coverage), stated),
        left_out=tuple(left_out),
        counted_wrong=any(doc_id not in own for doc_id in unreadable),
    )


def add_coverages(parts: Sequence[Coverage]) -> Coverage:
    """The coverage of several tasks together."""
    known = [part.in_all for part in parts if part.in_all is not None]
    return Coverage(
        scored=sum(part.scored for part in parts),
        unreadable=tuple(video for part in parts for video in part.unreadable),
        in_all=sum(known) if len(known) == len(parts) else None,
        left_out=tuple(one for part in parts for one in part.left_out),
        counted_wrong=any(part.counted_wrong for part in parts),
    )


def _video(row: Mapping[str, Any]) -> str:
    coverage = row.get("coverage")
    return coverage["video"] if isinstance(coverage, Mapping) else f"the video of question {row['doc_id']}"
