"""The printed numbers, and what does not add up in them."""

import dataclasses

import published_checks as checks
import pytest

from st_simdiff.report.published import (
    FIGURE_3,
    FIGURE_3_SAVINGS,
    OPTIMA,
    PRINTED_NAMES,
    PUBLISHED,
    SIMILARITY,
    SPATIAL,
    PublishedCost,
    PublishedSaving,
    implied_seconds,
    published_score,
)
from st_simdiff.report.published_notes import IMPOSSIBLE_SCORES, KNOWN_INCONSISTENCIES, notes_on_table
from st_simdiff.vocabulary import BENCHMARK_NAMED, OURS, PERCEPTION, RELATION, longvideobench_level


@pytest.mark.parametrize(
    ("cell", "score"),
    [
        ((1, 64, 1.0, "full", "VideoMME", "overall"), 63.3),
        ((1, 64, 0.3, OURS, "VideoMME", "long"), 53.0),
        ((1, 64, 0.5, "framefusion", "LongVideoBench", "relation"), 51.7),
        ((2, 64, 0.5, "fastv", "VideoMME", "overall"), 58.9),
        ((2, 64, 0.3, "prumerge", "EgoSchema", "overall"), 47.5),
        ((3, 64, 0.3, SPATIAL, "EgoSchema", "overall"), 55.2),
        ((3, 64, 0.5, SIMILARITY, "VideoMME", "overall"), 63.7),
        ((3, 64, 0.5, SIMILARITY, "LongVideoBench", "overall"), 57.8),
        ((4, 128, 0.3, OURS, "EgoSchema", "overall"), 64.4),
        ((5, 64, 0.3, "importance", "LongVideoBench", "overall"), 53.8),
    ],
)
def test_cells(cell, score):
    assert published_score(*cell) == score


def test_cells_that_are_not_printed_or_lost():
    assert published_score(1, 64, 1.0, "full", "VideoMME", "short") is None
    lost = [s for s in PUBLISHED if s.table == 3 and s.score is None]
    assert {(s.retention, s.benchmark) for s in lost} == {(0.5, "EgoSchema")}
    assert {s.method for s in lost} == {SPATIAL, "st_simdiff/temporal", SIMILARITY}
    assert published_score(1, 64, 0.3, "random", "VideoMME", "overall") is None


def test_every_row_is_there_once():
    cells = [dataclasses.replace(s, score=None) for s in PUBLISHED]
    assert len(set(cells)) == len(cells)
    rows = {}
    for s in PUBLISHED:
        rows.setdefault(s.table, set()).add((s.frames, s.retention, s.method))
    assert {table: len(members) for table, members in rows.items()} == {1: 13, 2: 13, 3: 10, 4: 6, 5: 10}
    assert {s.method for s in PUBLISHED} == set(PRINTED_NAMES)


def test_the_papers_inconsistencies_are_the_known_ones():
    found = checks.find_inconsistencies(PUBLISHED, FIGURE_3, FIGURE_3_SAVINGS)
    assert tuple(found) == KNOWN_INCONSISTENCIES


def test_scores_that_no_number_of_right_answers_gives():
    assert tuple(map(checks.cell_in_words, checks.impossible_scores(PUBLISHED))) == IMPOSSIBLE_SCORES
    splits = [s for s in PUBLISHED if s.benchmark == "VideoMME" and s.split != "overall" and s.score is not None]
    assert len(splits) == 90


@pytest.mark.parametrize(
    ("percent", "questions", "possible"),
    [(33.3, 3, True), (33.4, 3, False), (50.0, 900, True), (50.5, 900, False), (0.0, 7, True), (100.0, 7, True)],
)
def test_possible_scores(percent, questions, possible):
    assert checks.is_possible(percent, questions) == possible
    by_counting = any(abs(100 * right / questions - percent) <= 0.05 + 1e-9 for right in range(questions + 1))
    assert by_counting == possible


def test_egoschema_is_not_the_public_subset():
    scores = [s.score for s in PUBLISHED if s.benchmark == "EgoSchema" and s.score is not None]
    assert not all(checks.is_possible(score, 500) for score in scores)
    assert all(checks.is_possible(score, BENCHMARK_NAMED["EgoSchema"].questions) for score in scores)


def test_a_rival_is_printed_higher_in_six_cells():
    ahead = checks.rivals_ahead(PUBLISHED)
    assert [(ours.table, ours.retention, ours.split, ours.score, best.method, best.score) for ours, best in ahead] == [
        (1, 0.3, "perception", 63.2, "framefusion", 63.3),
        (1, 0.5, "long", 52.7, "prumerge", 52.8),
        (2, 0.3, "long", 49.7, "fastervlm", 51.0),
        (2, 0.3, "perception", 59.2, "framefusion", 59.3),
        (2, 0.5, "short", 73.9, "fastervlm", 74.6),
        (2, 0.5, "overall", 52.5, "framefusion", 52.6),
    ]


def test_the_difference_module_never_adds_more_than_the_similarity_module_in_table_5():
    for retention in (0.3, 0.5):
        for benchmark in BENCHMARK_NAMED:
            base, similarity, full = (
                published_score(5, 64, retention, method, benchmark, "overall")
                for method in ("importance", SIMILARITY, OURS)
            )
            assert full - similarity < similarity - base


def test_checks_find_what_is_wrong():
    changed = [
        dataclasses.replace(s, score=70.0) if checks.cell_in_words(s).startswith("Table 3, ST-Sim") else s
        for s in PUBLISHED
    ]
    assert len(checks.repeated_scores(changed)) == 6
    assert not checks.repeated_scores(PUBLISHED)
    costs = [PublishedCost("m", 8, 1.0, "full", 2.0, 10.0), PublishedCost("m", 8, 0.3, OURS, 1.0, 5.0)]
    assert not checks.savings_against_costs(costs, [PublishedSaving("m", 8, 50.0, 50.0)])
    (found,) = checks.savings_against_costs(costs, [PublishedSaving("m", 8, 53.0, 50.0)])
    assert (found.printed, found.implied) == (53.0, 50.0)


def test_figure_3():
    assert implied_seconds(FIGURE_3_SAVINGS[0]) == pytest.approx(1.56 * 0.77)
    assert implied_seconds(FIGURE_3_SAVINGS[1]) == pytest.approx(4.54, abs=0.01)
    assert implied_seconds(PublishedSaving("another model", 32, 23.0, None)) is None


def test_figure_6_states_what_table_2_prints():
    for optimum in OPTIMA:
        if optimum.score is not None:
            assert optimum.score == published_score(2, 64, 0.3, OURS, optimum.benchmark, "overall")


def test_levels_of_longvideobench():
    assert len(PERCEPTION) == 8
    assert len(RELATION) == 9
    assert not PERCEPTION & RELATION
    assert [longvideobench_level(c) for c in ("S2E", "SSS", "XYZ")] == ["perception", "relation", None]


def test_notes_name_a_tables_own_inconsistencies():
    assert any("FastV, 50 %" in note and "59.83" in note for note in notes_on_table(2))
    assert notes_on_table(5) == []
