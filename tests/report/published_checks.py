"""Checks that find what does not add up in the paper's printed numbers."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence

from st_simdiff.report.published import (
    OPTIMA,
    PRINTED_NAMES,
    PublishedCost,
    PublishedOptimum,
    PublishedSaving,
    PublishedScore,
)
from st_simdiff.report.published_notes import Inconsistency
from st_simdiff.vocabulary import BENCHMARK_NAMED, FULL, OURS, OVERALL

HALF_A_TENTH = 0.05
"""Scores are printed to a tenth of a point."""

_SLACK = 1e-9

CONTRADICTED_CLAIMS = (
    "Section 5.3 says that ST-SimDiff outperforms all competing methods across all test configurations; a rival is "
    "printed higher in the cells of `rivals_ahead`.",
    "Appendix C says that ++ Diff brought the most significant gains; in Table 5 it adds no more than + Sim does, at "
    "either retention and on all three benchmarks.",
    "Section 5.4 names Table 5 for LLaVA-Video's ablation, which is Table 3; Appendix D names Figure 6 for Figure 5.",
    "Appendix B names two benchmarks for Qwen2.5-VL; Table 4 prints three.",
)


def cell_in_words(score: PublishedScore) -> str:
    """The cell in words."""
    return (
        f"Table {score.table}, {PRINTED_NAMES[score.method]}, {100 * score.retention:g} %, {score.frames} frames, "
        f"{score.benchmark} {score.split}"
    )


def find_inconsistencies(
    scores: Sequence[PublishedScore], costs: Sequence[PublishedCost] = (), savings: Sequence[PublishedSaving] = ()
) -> list[Inconsistency]:
    """Every printed number that other printed numbers contradict by more than rounding."""
    return [*overall_against_splits(scores), *repeated_scores(scores), *savings_against_costs(costs, savings)]


def overall_against_splits(scores: Iterable[PublishedScore]) -> list[Inconsistency]:
    """Overall scores that differ from the mean of their splits, weighted by questions, by more than both roundings."""
    rows: dict[tuple, dict[str, PublishedScore]] = defaultdict(dict)
    for score in scores:
        rows[score.table, score.frames, score.retention, score.method, score.benchmark][score.split] = score
    found = []
    for row in rows.values():
        benchmark = BENCHMARK_NAMED[next(iter(row.values())).benchmark]
        splits = [(row[name].score, size) for name, size in benchmark.splits if name in row]
        if not splits or any(score is None for score, _ in splits):
            continue
        mean = sum(score * size for score, size in splits) / sum(size for _, size in splits)
        overall = row[OVERALL]
        if abs(mean - overall.score) > 2 * HALF_A_TENTH + _SLACK:
            found.append(Inconsistency(cell_in_words(overall), overall.score, round(mean, 2)))
    return found


def repeated_scores(
    scores: Iterable[PublishedScore], optima: Iterable[PublishedOptimum] = OPTIMA
) -> list[Inconsistency]:
    """Scores of one setting that two tables, or a table and the text of Figure 6, print differently."""
    first: dict[tuple, float] = {}
    found = []
    for score in scores:
        if score.score is None:
            continue
        key = (score.model, score.frames, score.retention, score.method, score.benchmark, score.split)
        if first.setdefault(key, score.score) != score.score:
            found.append(Inconsistency(cell_in_words(score), score.score, first[key]))
    for optimum in optima:
        table = first.get((optimum.model, 64, 0.3, OURS, optimum.benchmark, OVERALL))
        if optimum.score is not None and table is not None and optimum.score != table:
            found.append(Inconsistency(f"Figure {optimum.figure}, {optimum.benchmark}", optimum.score, table))
    return found


def savings_against_costs(costs: Iterable[PublishedCost], savings: Iterable[PublishedSaving]) -> list[Inconsistency]:
    """Printed savings that the printed costs of both models cannot give, whatever was rounded away."""
    by_method = {(cost.model, cost.frames, cost.method): cost for cost in costs}
    found = []
    for saving in savings:
        full = by_method.get((saving.model, saving.frames, FULL))
        ours = by_method.get((saving.model, saving.frames, OURS))
        if full is None or ours is None:
            continue
        for quantity, half_digit in (("seconds", 0.005), ("gigabytes", 0.05)):
            printed, before, after = (getattr(record, quantity) for record in (saving, full, ours))
            lowest = 100 * (1 - (after + half_digit) / (before - half_digit)) - HALF_A_TENTH
            highest = 100 * (1 - (after - half_digit) / (before + half_digit)) + HALF_A_TENTH
            if not lowest <= printed <= highest:
                place = f"Figure 3, {saving.frames} frames, {quantity} saved"
                found.append(Inconsistency(place, printed, round(100 * (1 - after / before), 2)))
    return found


def impossible_scores(scores: Iterable[PublishedScore]) -> list[PublishedScore]:
    """Printed scores that no whole number of right answers gives on all questions of their split."""
    return [score for score in scores if score.score is not None and not is_possible(score.score, _questions(score))]


def is_possible(percent: float, questions: int) -> bool:
    """Whether some whole number of right answers out of `questions` is printed as `percent` (one digit)."""
    fewest = -(-(percent - HALF_A_TENTH - _SLACK) * questions // 100)
    return fewest * 100 <= (percent + HALF_A_TENTH + _SLACK) * questions


def _questions(score: PublishedScore) -> int:
    return BENCHMARK_NAMED[score.benchmark].split_size(score.split)


def rivals_ahead(scores: Iterable[PublishedScore]) -> list[tuple[PublishedScore, PublishedScore]]:
    """(ST-SimDiff's cell, the best rival's) wherever a rival at the same retention is printed higher."""
    cells: dict[tuple, list[PublishedScore]] = defaultdict(list)
    for score in scores:
        if score.score is not None and score.method != FULL:
            cells[score.table, score.frames, score.retention, score.benchmark, score.split].append(score)
    ahead = []
    for cell in cells.values():
        ours = next(score for score in cell if score.method == OURS)
        best = max(cell, key=lambda score: score.score)
        if best.score > ours.score:
            ahead.append((ours, best))
    return ahead
