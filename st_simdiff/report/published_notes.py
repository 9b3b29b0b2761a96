"""What does not add up in the paper's printed numbers, for whoever reads them beside ours."""

from __future__ import annotations

from dataclasses import dataclass

from st_simdiff.vocabulary import BENCHMARK_NAMED


@dataclass(frozen=True)
class Inconsistency:
    """A printed number beside the one that other printed numbers imply (here to two digits)."""

    where: str
    printed: float
    implied: float


KNOWN_INCONSISTENCIES = (
    Inconsistency("Table 2, FrameFusion, 30 %, 64 frames, LongVideoBench overall", 54.9, 55.04),
    Inconsistency("Table 2, FastV, 50 %, 64 frames, VideoMME overall", 58.9, 59.83),
)
"""Everything that the tests' checks find in the paper: overall scores that are not the mean of their splits."""

IMPOSSIBLE_SCORES = (
    "Table 1, FastV, 30 %, 64 frames, LongVideoBench perception",
    "Table 1, FrameFusion, 30 %, 64 frames, LongVideoBench perception",
    "Table 1, ST-SimDiff, 50 %, 64 frames, LongVideoBench relation",
    "Table 2, FastV, 30 %, 64 frames, LongVideoBench perception",
    "Table 2, FrameFusion, 30 %, 64 frames, LongVideoBench perception",
    "Table 2, FastV, 50 %, 64 frames, LongVideoBench relation",
    "Table 2, FastV, 50 %, 64 frames, LongVideoBench perception",
    "Table 2, ST-SimDiff, 50 %, 64 frames, LongVideoBench relation",
)
"""Printed scores that no whole number of right answers gives on all 712 relation or 625 perception questions.

All 90 printed VideoMME splits are possible on 900 questions each.
"""


def notes_on_table(table: int) -> list[str]:
    """What a reader of Table `table` should know about its printed numbers."""
    notes = [
        f"As printed, {known.where} is {known.printed:.1f}; the printed splits give {known.implied:.2f}."
        for known in KNOWN_INCONSISTENCIES
        if known.where.startswith(f"Table {table},")
    ]
    impossible = [place.partition(", ")[2] for place in IMPOSSIBLE_SCORES if place.startswith(f"Table {table},")]
    if impossible:
        size = dict(BENCHMARK_NAMED["LongVideoBench"].splits)
        notes.append(
            f"Printed scores that no number of right answers on all {size['relation']} relation or "
            f"{size['perception']} perception questions gives: {'; '.join(impossible)}."
        )
    return notes
