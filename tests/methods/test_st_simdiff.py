"""The paper's method as a method: settings, budgets, the final pruning."""

import dataclasses
import math
from fractions import Fraction

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from st_simdiff.errors import InputError
from st_simdiff.methods.base import StageRecord, VisualTokens
from st_simdiff.methods.ranking import highest
from st_simdiff.methods.registry import METHODS, make_method
from st_simdiff.methods.st_simdiff import STSimDiff
from st_simdiff.methods.st_simdiff_adaptive import STSimDiffAdaptive
from st_simdiff.methods.st_simdiff_release import STSimDiffRelease
from st_simdiff.selection.budget import layer_averaged_share
from st_simdiff.selection.grid import TokenGrid
from st_simdiff.selection.select import select

LAYERS = 6


def clip(grid: TokenGrid, seed: int = 0) -> torch.Tensor:
    return torch.randn(grid.count, 3, generator=torch.Generator().manual_seed(seed))


def prefill(method, grid, features, attention):
    """Offsets that enter the model and offsets left in the end, int64; the attention is by offset, (N,)."""
    everyone = torch.arange(grid.count)
    first = method.reduce_input(VisualTokens(features, everyone, grid, LAYERS))
    history = () if first is None else (StageRecord(-1, grid.count, first),)
    entered = everyone if first is None else first.kept
    (layer,) = method.layers(LAYERS)
    tokens = VisualTokens(
        features[entered], entered, grid, LAYERS, attention=lambda: attention[entered], history=history
    )
    second = method.reduce_after_layer(layer, tokens)
    return entered, entered if second is None else entered[second.kept]


grids = st.builds(
    TokenGrid,
    frames=st.integers(2, 5),
    height=st.integers(1, 3),
    width=st.integers(2, 4),
    separators=st.sampled_from(["none", "row", "frame", "end"]),
)


@settings(max_examples=150, deadline=None)
@given(
    grid=grids,
    seed=st.integers(0, 2**31),
    retention=st.sampled_from([0.3, 0.5, 0.75, 0.9]),
    budget=st.sampled_from(["tokens", "compute"]),
    newline=st.sampled_from(["node", "keep", "drop"]),
    protect_events=st.booleans(),
    entry=st.sampled_from([1, 0.5, 0]),
    cover=st.sampled_from([0.0, 0.5, 1.0]),
    prune_layer=st.integers(0, LAYERS - 2),
)
def test_final_pruning_read_literally(
    grid, seed, retention, budget, newline, protect_events, entry, cover, prune_layer
):
    """First come kept newlines, what covers the communities, and events up to half the budget, by change; then
    attention decides, and the earliest among equals."""
    method = STSimDiff(
        retention=retention,
        tau_sim=0.5,
        budget=budget,
        newline=newline,
        protect_events=protect_events,
        entry=entry,
        cover=cover,
        prune_layer=prune_layer,
    )
    features = clip(grid, seed)
    attention = torch.randint(8, (grid.count,), generator=torch.Generator().manual_seed(seed)) / 8
    separators = grid.separator_offsets().tolist()
    target = math.ceil(Fraction(str(retention)) * grid.count)
    share = Fraction(str(retention)) if entry == 1 else Fraction(retention**entry).limit_denominator(10**12)
    if budget == "compute" and entry != 1:
        share = min(share, max(Fraction(str(retention)), Fraction(str(retention)) * LAYERS / 2 / (prune_layer + 1)))
    if newline == "keep" and len(separators) >= math.ceil(share * grid.count):
        with pytest.raises(InputError, match="newline='node' or 'drop'"):
            prefill(method, grid, features, attention)
        return
    entered, final = prefill(method, grid, features, attention)
    core = Fraction(cover) * Fraction(str(retention)) / share
    chosen = select(features, grid, share, method, core=core)
    assert entered.tolist() == chosen.candidate.nonzero().flatten().tolist()

    if budget == "compute":
        spent = Fraction(str(retention)) * LAYERS * grid.count - (prune_layer + 1) * len(entered)
        target = max(1, math.ceil(spent / (LAYERS - prune_layer - 1)))
    first = set(separators) & set(entered.tolist()) if newline == "keep" else set()
    if cover:
        first |= set(chosen.core.nonzero().flatten().tolist())
    if protect_events:
        events = chosen.event.nonzero().flatten().tolist()
        events.sort(key=lambda i: (-float(chosen.change[i]), i))
        first |= set(events[: target // 2])
    ranked = sorted(entered.tolist(), key=lambda i: (i not in first, -float(attention[i]), i))
    assert final.tolist() == sorted(ranked[:target])
    if budget == "tokens":
        assert len(final) == target
    elif target > 1 and target < len(entered):
        per_layer = [len(entered)] * (prune_layer + 1) + [len(final)] * (LAYERS - prune_layer - 1)
        off = layer_averaged_share(per_layer, grid.count) - retention
        assert 0 <= off < 1 / grid.count


@pytest.mark.parametrize("name", ["st_simdiff", "st_simdiff_adaptive", "st_simdiff_release"])
@pytest.mark.parametrize("separators", ["none", "row", "frame", "end"])
def test_retention_1_is_the_identity(name, separators):
    grid = TokenGrid(3, 2, 3, separators)
    tokens = VisualTokens(clip(grid), torch.arange(grid.count), grid, LAYERS, attention=lambda: pytest.fail("asked"))
    graph = {"candidates": "communities"} if name == "st_simdiff_adaptive" else {}
    variants = [make_method(name)]
    if name != "st_simdiff_release":
        variants += [
            make_method(name, newline=rule, budget="compute", protect_events=True, **graph) for rule in ("keep", "drop")
        ]
        variants += [make_method(name, max_tokens=grid.count), make_method(name, max_tokens=10**6)]
    for method in variants:
        assert method.reduce_input(tokens) is None
        assert all(method.reduce_after_layer(layer, tokens) is None for layer in method.layers(LAYERS))


@pytest.mark.parametrize("count", [1, 5, 12, 35])
@pytest.mark.parametrize("newline", ["node", "drop"])
def test_max_tokens_is_the_retention_that_leaves_as_many(count, newline):
    grid = TokenGrid(3, 3, 3, "row")
    features, attention = clip(grid), torch.rand(grid.count, generator=torch.Generator().manual_seed(1))
    _, final = prefill(STSimDiff(max_tokens=count, newline=newline), grid, features, attention)
    assert final.numel() == count
    if 36 % count == 0:
        same = prefill(STSimDiff(retention=count / 36, newline=newline), grid, features, attention)[1]
        assert torch.equal(final, same)


def test_newline_tokens_that_are_dropped_return_only_where_the_budget_exceeds_the_patches():
    grid = TokenGrid(2, 2, 3, "row")
    attention = torch.rand(grid.count)
    newlines = set(grid.separator_offsets().tolist())
    for kept, returned in ((0.3, 0), (0.7, 0), (0.8, 1), (0.95, 4)):
        _, final = prefill(STSimDiff(retention=kept, newline="drop"), grid, clip(grid), attention)
        assert len(newlines & set(final.tolist())) == returned
        assert final.numel() == math.ceil(Fraction(str(kept)) * grid.count)


def test_compute_budget_lets_more_tokens_go_on_where_fewer_enter():
    """One still shot, so the candidates are few, against noise, where every token is a candidate."""
    grid = TokenGrid(5, 4, 4)
    random = torch.Generator().manual_seed(0)
    still = torch.randn(1, 16, 64, generator=random).expand(5, 16, 64).flatten(0, 1)
    noise = torch.randn(80, 64, generator=random)
    method = STSimDiff(retention=0.5, budget="compute", tau_sim=0.9, tau_diff=-1.0)
    kept = {}
    for name, features in (("still", still), ("noise", noise)):
        entered, final = prefill(method, grid, features, torch.rand(80))
        kept[name] = (entered.numel(), final.numel())
    assert kept == {"still": (48, 36), "noise": (80, 20)}


def test_a_compute_budget_needs_a_layer_behind_the_pruning():
    grid = TokenGrid(2, 2, 2)
    method = STSimDiff(retention=0.5, budget="compute", prune_layer=LAYERS - 1)
    with pytest.raises(InputError, match="6 of 6 layers run before it"):
        prefill(method, grid, clip(grid), torch.rand(8))


def test_adaptive_is_the_papers_method_with_other_settings():
    grid = TokenGrid(4, 3, 3)
    features, attention = clip(grid), torch.rand(grid.count)
    rule = {"tau_sim": "q0.25", "tau_diff": "q0.05", "community_cap": 64, "ranking": "farthest"}
    rule |= {"newline": "drop", "entry": 0.33, "cover": 0.5, "prune_layer": 2}
    one = prefill(STSimDiffAdaptive(retention=0.3, candidates="communities"), grid, features, attention)
    other = prefill(STSimDiff(retention=0.3, **rule), grid, features, attention)
    assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True))
    assert len(one[1]) == 11


def test_adaptive_does_not_depend_on_the_level_of_the_cosines():
    """A common offset lifts every cosine of random features above any fixed threshold."""
    grid = TokenGrid(6, 4, 4)
    features = torch.randn(grid.count, 64, generator=torch.Generator().manual_seed(0))
    lifted = features + 30
    adaptive = STSimDiffAdaptive(retention=0.3, candidates="communities")
    chosen = adaptive.reduce_input(VisualTokens(lifted, torch.arange(96), grid, LAYERS))
    fixed = STSimDiff(retention=0.3).reduce_input(VisualTokens(lifted, torch.arange(96), grid, LAYERS))
    assert fixed.details.community.unique().numel() == 1
    assert not fixed.details.event.any()
    assert chosen.details.community.unique().numel() > 1
    assert int(chosen.details.event.sum()) == 4


def test_highest_prefers_the_first_and_then_the_earliest():
    score = torch.tensor([0.1, 0.5, 0.5, 0.2])
    assert highest(score, 2).tolist() == [1, 2]
    assert highest(score, 1).tolist() == [1]
    assert highest(score, 2, torch.tensor([False, False, False, True])).tolist() == [1, 3]


@pytest.mark.parametrize(
    ("setting", "sentence"),
    [
        ({"tau_sim": 1.5}, "tau_sim is a quantile of the clip's own cosines such as 'q0.5', or a cosine in [-1, 1]"),
        ({"tau_sim": "q1.5"}, "got 'q1.5'."),
        ({"tau_diff": "median"}, "tau_diff is a quantile"),
        ({"tau_diff": True}, "got True."),
        ({"spatial": "yes"}, "spatial is True or False, got 'yes'."),
        ({"communities": "louvian"}, "Unknown communities 'louvian'. Did you mean 'louvain'?"),
        ({"community_cap": 0}, "community_cap is None, 'sqrt' or the most tokens in a community, at least 1, got 0."),
        ({"community_cap": "sqr"}, "got 'sqr'."),
        ({"community_cap": True}, "got True."),
        ({"ranking": "centrl"}, "Did you mean 'central'?"),
        ({"ranking": "farthest"}, "so it needs a community_cap, got None."),
        ({"newline": "kept"}, "Did you mean 'keep'?"),
        ({"seed": -1}, "seed is a whole number, 0 or more, got -1."),
        ({"budget": "token"}, "Did you mean 'tokens'?"),
        ({"max_tokens": 0}, "max_tokens is None or a number of tokens, at least 1, got 0."),
        ({"max_tokens": 10, "retention": 0.5}, "give one, not both (max_tokens=10, retention=0.5)."),
        ({"entry": "root"}, "entry is a power of the retention, in [0, 1], got 'root'."),
        ({"cover": 1.5}, "cover is a share of the retention, in [0, 1], got 1.5."),
        ({"cover": True}, "cover is a share of the retention, in [0, 1], got True."),
        ({"protect_events": 1}, "protect_events is True or False, got 1."),
        ({"prune_layer": -1}, "prune_layer is the 0-based index of a decoder layer, got -1."),
        ({"retention": 0}, "in (0, 1], got 0."),
    ],
)
def test_settings_out_of_range_are_refused_in_one_sentence(setting, sentence):
    with pytest.raises(InputError) as refusal:
        STSimDiff(**setting)
    assert sentence in str(refusal.value)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    ("setting", "sentence"),
    [
        ({"strategy": 1}, "strategy=1 has no result to reproduce"),
        ({"strategy": 0}, "strategy is 2 or 3, got 0."),
        ({"strategy": True}, "strategy is 2 or 3, got True."),
        ({"retention": 1.2}, "in (0, 1], got 1.2."),
        ({"tau_sim": "q0.5"}, "tau_sim is a number that cosines are compared with, got 'q0.5'."),
        ({"tau_diff": math.nan}, "tau_diff is a number that cosines are compared with, got nan."),
        ({"right": None}, "right is True or False, got None."),
        ({"prune_layer": 1.5}, "prune_layer is a whole number, 0 or more, got 1.5."),
    ],
)
def test_release_settings_out_of_range_are_refused_in_one_sentence(setting, sentence):
    with pytest.raises(InputError) as refusal:
        STSimDiffRelease(**setting)
    assert sentence in str(refusal.value)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("method", [STSimDiff(prune_layer=6), STSimDiffRelease(prune_layer=6)])
def test_a_layer_that_the_model_lacks_is_refused(method):
    with pytest.raises(InputError, match="prune_layer must be below the model's 6 layers, got 6"):
        method.layers(LAYERS)


def test_names_in_the_registry():
    for method in (STSimDiff, STSimDiffAdaptive, STSimDiffRelease):
        assert METHODS[method.name] is method
        assert dataclasses.fields(method)[0].name == "retention"
