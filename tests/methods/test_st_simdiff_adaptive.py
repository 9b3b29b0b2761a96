"""The adaptive rule: what enters, in how many steps attention prunes, and a score in which no text has a part."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from moments import check, synthetic, walk

from st_simdiff.errors import InputError
from st_simdiff.methods.base import StageRecord
from st_simdiff.methods.st_simdiff_adaptive import STSimDiffAdaptive, STSimDiffTwoSteps
from st_simdiff.selection.grid import TokenGrid
from st_simdiff.selection.select_input import select_input

GRIDS = [TokenGrid(7, 6, 7, separators) for separators in ("none", "row", "frame", "end")]


def share(retention: float, power: float, count: int) -> int:
    return max(math.ceil(round(retention * count, 9)), math.ceil(round(retention**power * count, 9)))


@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize("retention", [0.5, 0.15, 0.05, 0.9])
def test_what_enters_is_the_input_rule_at_the_cube_root(grid, retention):
    tokens = synthetic(grid)
    entered = STSimDiffAdaptive(retention=retention).reduce_input(tokens)
    expected = select_input(tokens.features, grid, share(retention, 0.33, grid.count), events=False)
    assert torch.equal(entered.kept, expected.kept.nonzero().flatten())
    core = select_input(tokens.features, grid, int(0.5 * math.ceil(retention * grid.count)), events=False)
    assert torch.equal(entered.details.core, core.kept)
    assert not entered.details.event.any()


@pytest.mark.parametrize("method", [STSimDiffAdaptive, STSimDiffTwoSteps])
@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize("retention", [0.5, 0.15, 0.03, 0.95])
def test_the_count_is_exact(method, grid, retention):
    result = walk(method(retention=retention), synthetic(grid))
    for given, record in result.stages:
        check(given, record.reduction)
    assert result.kept.numel() == math.ceil(round(retention * grid.count, 9))


def later(tokens, details, kept, layer_scores):
    history = (StageRecord(-1, tokens.grid.count, details),)
    features = tokens.features[kept]
    return replace(tokens, features=features, offsets=kept, history=history, attention=lambda: layer_scores)


def test_half_of_the_budget_covers_the_video():
    tokens = synthetic(GRIDS[0])
    method = STSimDiffAdaptive(retention=0.15)
    entered = method.reduce_input(tokens)
    scores = 1.0 * ~entered.details.core[entered.kept]  # attention likes everything but the core
    left = entered.kept[method.reduce_after_layer(2, later(tokens, entered, entered.kept, scores)).kept]
    assert bool(torch.isin(entered.details.core.nonzero().flatten(), left).all())
    uncovered = replace(method, cover=0.0)
    left = entered.kept[uncovered.reduce_after_layer(2, later(tokens, entered, entered.kept, scores)).kept]
    assert not torch.isin(entered.details.core.nonzero().flatten(), left).any()


def test_protected_events_enter_and_stay():
    tokens = synthetic(GRIDS[1])
    method = STSimDiffAdaptive(retention=0.3, protect_events=True, cover=0.0)
    entered = method.reduce_input(tokens)
    event = entered.details.event
    assert event.any()
    scores = 1.0 * ~event[entered.kept]
    left = entered.kept[method.reduce_after_layer(2, later(tokens, entered, entered.kept, scores)).kept]
    target = math.ceil(0.3 * tokens.grid.count)
    assert int(event[left].sum()) == min(int(event.sum()), target // 2)


@pytest.mark.parametrize("retention", [0.5, 0.3, 0.15, 0.05])
def test_two_steps_leave_two_thirds_powers(retention):
    grid = GRIDS[1]
    result = walk(STSimDiffTwoSteps(retention=retention), synthetic(grid))
    layers, counts = zip(*((record.layer, record.after) for _, record in result.stages), strict=True)
    assert layers == (-1, 2, 3)
    assert counts == tuple(share(retention, power, grid.count) for power in (0.33, 0.66, 1))


def test_a_step_with_nothing_to_drop_does_nothing():
    method = STSimDiffTwoSteps(retention=0.3, entry=0.66)
    result = walk(method, synthetic(GRIDS[0]))
    assert [record.layer for _, record in result.stages] == [-1, 3]


def test_the_visual_score_asks_no_query():
    tokens = synthetic(GRIDS[0])
    asked = {"attention": 0, "visual": 0}

    def score(name):
        def give():
            asked[name] += 1
            return torch.rand(40, generator=torch.Generator().manual_seed(0))

        return give

    for name in ("attention", "visual"):
        method = STSimDiffTwoSteps(retention=0.1, score=name)
        assert method.asks_query == (name == "attention")
        entered = method.reduce_input(tokens)
        few = entered.kept[:40]
        tokens_later = replace(
            later(tokens, entered, few, None), attention=score("attention"), visual_attention=score("visual")
        )
        method.reduce_after_layer(3, tokens_later)
        assert asked[name] == 1
    assert asked == {"attention": 1, "visual": 1}


def test_layers_that_the_settings_need():
    assert STSimDiffAdaptive(retention=0.3).layers(28) == (2,)
    assert STSimDiffTwoSteps(retention=0.3).layers(5) == (2, 3)
    with pytest.raises(InputError, match="needs 4 layers, the model has 3"):
        STSimDiffTwoSteps(retention=0.3).layers(3)
    with pytest.raises(InputError, match="needs 5 layers, the model has 4"):
        STSimDiffTwoSteps(retention=0.3, score="visual").layers(4)


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"tau_sim": 0.8}, "tau_sim is a setting of the graph, which chooses the candidates only with"),
        ({"community_cap": 32}, "candidates='communities'; got community_cap=32 without it"),
        ({"candidates": "comunities"}, "Did you mean 'communities'?"),
        ({"score": "text"}, "Unknown score 'text'"),
        ({"middle": 1.5}, "middle is None or a power of the retention"),
        ({"middle": 0.66, "budget": "compute"}, "worked out for one pruning"),
    ],
)
def test_settings_that_cannot_be(settings, sentence):
    with pytest.raises(InputError) as refusal:
        STSimDiffAdaptive(retention=0.3, **settings)
    assert sentence in str(refusal.value)
