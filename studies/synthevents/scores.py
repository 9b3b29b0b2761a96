"""Means, differences and recall of the rows of a comparison, with intervals, and how they are written."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from st_simdiff.report.statistics import LEVEL, ClusterBootstrap, Interval
from studies.synthevents.compare import Comparison, Row

KINDS = ("all", "stable", "event")


class Scores:
    """Of one comparison. Clips are resampled, not questions."""

    def __init__(self, comparison: Comparison) -> None:
        self.comparison = comparison
        kinds = np.asarray(comparison.kinds)
        self.asked = {kind: np.flatnonzero((kinds == kind) | (kind == "all")) for kind in KINDS}

    @cached_property
    def bootstraps(self) -> dict[str, ClusterBootstrap]:
        """For every kind that was asked about."""
        clips = np.asarray(self.comparison.clips).astype(str)
        return {kind: ClusterBootstrap(clips[asked].tolist()) for kind, asked in self.asked.items() if asked.size}

    def accuracy(self, row: Row, kind: str) -> Interval | None:
        """Share of the questions of a kind, 0..1; None if there are none."""
        return self.bootstraps[kind].interval(self._correct(row, kind)) if kind in self.bootstraps else None

    def difference(self, first: Row, second: Row, kind: str, level: float = LEVEL) -> Interval | None:
        """Accuracy of the first less that of the second, on the same questions, with an interval of that level."""
        if kind not in self.bootstraps:
            return None
        return self.bootstraps[kind].difference(self._correct(first, kind), self._correct(second, kind), level)

    def recall(self, row: Row) -> Interval | None:
        """Share of a question's event tokens that are kept, mean over the questions that events decide."""
        return self.bootstraps["event"].interval(self._recalled(row)) if "event" in self.bootstraps else None

    def recall_difference(self, first: Row, second: Row) -> Interval | None:
        """Recall of the first less that of the second."""
        if "event" not in self.bootstraps:
            return None
        return self.bootstraps["event"].difference(self._recalled(first), self._recalled(second))

    def _recalled(self, row: Row) -> list[float]:
        evidence = self.comparison.evidence
        return [row.evidence_kept[number] / evidence[number] for number in self.asked["event"]]

    def _correct(self, row: Row, kind: str) -> NDArray[np.float64]:
        return np.asarray([int(mark) for mark in row.correct], dtype=np.float64)[self.asked[kind]]


def share_text(value: float) -> str:
    """.937"""
    return f"{value:.3f}".removeprefix("0")


def interval_text(interval: Interval | None) -> str:
    """.937 [.920, .951]; a dash where nothing was asked."""
    if interval is None:
        return "–"
    bounds = "" if interval.low is None else f" [{share_text(interval.low)}, {share_text(interval.high)}]"
    return share_text(interval.mean) + bounds


def signed_text(interval: Interval | None, digits: int = 3) -> str:
    """A difference; bold where its interval excludes zero."""
    if interval is None:
        return "–"
    if interval.low is None:
        return f"{interval.mean:+.{digits}f}"
    text = f"{interval.mean:+.{digits}f} [{interval.low:+.{digits}f}, {interval.high:+.{digits}f}]"
    return text if interval.contains(0) else f"**{text}**"


def markdown(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """A table whose first column is left-aligned."""
    head = list(head)
    rule = ["---", *["--:"] * (len(head) - 1)]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (head, rule, *rows))
