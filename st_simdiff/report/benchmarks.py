"""The paper's three benchmarks: their splits, how many questions each has, and which lmms-eval task asks them."""

from __future__ import annotations

from dataclasses import dataclass

OVERALL = "overall"


@dataclass(frozen=True)
class Benchmark:
    """name: as the paper prints it. task: the lmms-eval task with the same questions. questions: in all of them.

    group: key of a document's groups that the splits are values of. splits: (value, questions) in the paper's order.
    """

    name: str
    task: str
    questions: int
    group: str = ""
    splits: tuple[tuple[str, int], ...] = ()

    def split_size(self, split: str) -> int:
        """How many questions `split` has; `overall` is all of them."""
        return self.questions if split == OVERALL else dict(self.splits)[split]


BENCHMARKS = (
    Benchmark("VideoMME", "videomme", 2700, "duration", (("short", 900), ("medium", 900), ("long", 900))),
    Benchmark("LongVideoBench", "longvideobench_val_v", 1337, "level", (("relation", 712), ("perception", 625))),
    Benchmark("EgoSchema", "egoschema", 5031),
)
"""EgoSchema is the full test set, not `egoschema_subset`: the paper prints 51.3, and 500 questions give even tenths."""

BY_NAME = {benchmark.name: benchmark for benchmark in BENCHMARKS}
BY_TASK = {benchmark.task: benchmark for benchmark in BENCHMARKS}

PERCEPTION = frozenset({"S2E", "S2O", "S2A", "E2O", "O2E", "T2E", "T2O", "T2A"})
RELATION = frozenset({"SSS", "SOS", "SAA", "E3E", "O3O", "T3E", "T3O", "TOS", "TAA"})
"""LongVideoBench's 17 question categories by level. Wu et al., 2024, https://arxiv.org/abs/2407.15754."""


def longvideobench_level(category: str) -> str | None:
    """perception or relation; None for a category that LongVideoBench does not have."""
    if category in PERCEPTION:
        return "perception"
    return "relation" if category in RELATION else None
