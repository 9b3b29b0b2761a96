"""The cells of the paper's Tables 1 to 5: which run belongs where, what it scored, what the paper prints there."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from st_simdiff.report.comparison import ALL, Comparer, Estimate, Part, Protocols
from st_simdiff.report.names import display_name, is_own, published_model
from st_simdiff.report.published import (
    LLAVA_VIDEO,
    NVILA,
    PUBLISHED,
    QWEN,
    SIMILARITY,
    SPATIAL,
    TEMPORAL,
    published_score,
)
from st_simdiff.report.reading import TaskRun
from st_simdiff.report.settings import Condition
from st_simdiff.vocabulary import BENCHMARK_OF_TASK, BENCHMARKS, FULL, OURS, OVERALL, RELEASE, Benchmark

ABLATIONS = ("importance", SPATIAL, TEMPORAL, SIMILARITY, OURS)


@dataclass(frozen=True)
class PaperTable:
    """number: in the paper. frames: the numbers of frames it has rows for. ablation: whether its rows are parts."""

    number: int
    model: str
    frames: tuple[int, ...]
    title: str
    ablation: bool = False

    @property
    def columns(self) -> list[tuple[Benchmark, str]]:
        """(benchmark, split) in the paper's order."""
        splits = [
            (benchmark, [] if self.ablation else [name for name, _ in benchmark.splits]) for benchmark in BENCHMARKS
        ]
        return [(benchmark, split) for benchmark, names in splits for split in (*names, OVERALL)]


PAPER_TABLES = (
    PaperTable(1, LLAVA_VIDEO, (64,), "Table 1: LLaVA-Video-7B, 64 frames, accuracy in percent"),
    PaperTable(2, NVILA, (64,), "Table 2: NVILA-8B, 64 frames, accuracy in percent"),
    PaperTable(3, LLAVA_VIDEO, (64,), "Table 3: ablation on LLaVA-Video-7B, accuracy in percent", ablation=True),
    PaperTable(4, QWEN, (64, 128), "Table 4: Qwen2.5-VL-7B, 64 and 128 frames, accuracy in percent"),
    PaperTable(5, NVILA, (64,), "Table 5: ablation on NVILA-8B, accuracy in percent", ablation=True),
)


@dataclass(frozen=True, order=True)
class RowKey:
    """One row of a table, in the order of the table. order, rank: place of the retention and of the method.

    checkpoint: folder name of the model that was run, letter: of the protocol; both empty where nothing was run.
    """

    frames: int
    order: float
    rank: int
    label: str
    checkpoint: str
    letter: str
    retention: float
    method: str


@dataclass(frozen=True)
class Score:
    """One cell. ours: None where nothing was run. printed: None where the paper prints nothing."""

    row: RowKey
    benchmark: Benchmark
    split: str
    ours: Estimate | None
    printed: float | None
    run: TaskRun | None

    @property
    def complete(self) -> bool:
        """Whether ours covers every question of the split."""
        return self.ours is not None and self.ours.questions == self.benchmark.split_size(self.split)

    @property
    def difference(self) -> float | None:
        """Ours minus printed; None unless both are there and ours covers the same questions."""
        if self.ours is None or self.printed is None or not self.complete:
            return None
        return self.ours.score - self.printed

    @property
    def agrees(self) -> bool | None:
        """Whether the printed score lies in our interval."""
        if self.difference is None or self.ours.low is None:
            return None
        return self.ours.low <= self.printed <= self.ours.high

    @property
    def part(self) -> Part:
        """The questions of the cell."""
        return ALL if self.split == OVERALL else Part(self.benchmark.group, self.split)


def belongs(table: PaperTable, run: TaskRun) -> bool:
    """Whether `run` is one of the table's: its model, frames and benchmarks, and a method that has a place in it.

    Own methods with other settings than the paper's have none; rivals have a row for every setting.
    """
    condition = run.condition
    if run.task not in BENCHMARK_OF_TASK or published_model(condition.model) != table.model:
        return False
    if condition.frames not in table.frames or (is_own(condition.method) and condition.other_settings):
        return False
    return (
        condition.variant in ABLATIONS if table.ablation else condition.variant not in (SPATIAL, TEMPORAL, SIMILARITY)
    )


def make_scores(table: PaperTable, runs: Sequence[TaskRun], comparer: Comparer, protocols: Protocols) -> list[Score]:
    """Every cell of the table: the printed rows, and the runs that are not printed."""
    found: dict[RowKey, dict[str, TaskRun]] = {}
    for run in runs:
        if belongs(table, run):
            found.setdefault(_key(run.condition, protocols.letter(run)), {})[BENCHMARK_OF_TASK[run.task].name] = run
    covered = {(key.frames, key.retention, key.method) for key in found}
    for key in dict.fromkeys(_printed_keys(table)):
        if (key.frames, key.retention, key.method) not in covered:
            found[key] = {}
    return [score for key in sorted(found) for score in _scores_of_row(table, key, found[key], comparer)]


def _scores_of_row(table: PaperTable, key: RowKey, runs: dict[str, TaskRun], comparer: Comparer) -> Iterator[Score]:
    for benchmark, split in table.columns:
        run = runs.get(benchmark.name)
        printed = _printed(table, key, benchmark, split)
        score = Score(key, benchmark, split, None, printed, run)
        ours = None if run is None else comparer.estimate(run, score.part)
        yield Score(key, benchmark, split, ours, printed, run)


def _key(condition: Condition, letter: str) -> RowKey:
    place = (condition.frames, condition.retention, condition.variant)
    return _row_key(*place, condition.label, condition.model, letter)


def _printed_keys(table: PaperTable) -> Iterator[RowKey]:
    for score in PUBLISHED:
        if score.table == table.number:
            yield _row_key(score.frames, score.retention, score.method, display_name(score.method), "", "")


_FIRST = ("random", "uniform_frames", "importance", "fastv", "prumerge", "fastervlm", "visionzip", "framefusion")
_LAST = (SPATIAL, TEMPORAL, SIMILARITY, OURS, RELEASE)


def _row_key(frames: int, retention: float, variant: str, label: str, checkpoint: str, letter: str) -> RowKey:
    """Full model first, then ever larger retentions; within one, controls, rivals in the paper's order, ours."""
    order = -1.0 if variant == FULL else retention
    return RowKey(frames, order, rank(variant), label, checkpoint, letter, retention, variant)


def rank(variant: str) -> int:
    """The place of a method in a table: the paper's order, then what else this project has."""
    if variant in _FIRST:
        return _FIRST.index(variant) - len(_FIRST)
    if variant in _LAST:
        return 1 + _LAST.index(variant)
    return 1 + len(_LAST) if is_own(variant) else 0


def _printed(table: PaperTable, key: RowKey, benchmark: Benchmark, split: str) -> float | None:
    """The printed score. The release's shares ST-SimDiff's: the paper names it as what its numbers come from (F.3)."""
    method = OURS if key.method == RELEASE else key.method
    return published_score(table.number, key.frames, key.retention, method, benchmark.name, split)
