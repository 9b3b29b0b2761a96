"""The compared methods' building blocks against literal readings of their rules, and the official codes' failures."""

from __future__ import annotations

import itertools
import math
import sys
from dataclasses import replace
from pathlib import Path

import networkx as nx
import numpy as np
import published_forms
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from moments import check, synthetic, walk

from st_simdiff.errors import InputError
from st_simdiff.methods import (
    density,
    fastvid,
    framefusion,
    holitom,
    llava_scissor,
    patches,
    prumerge,
    prumerge_plus,
    quadtree,
)
from st_simdiff.methods.base import StageRecord
from st_simdiff.methods.budgeted import (
    between,
    compute_count,
    equal_groups,
    even_quotas,
    largest_remainder,
    nearest_threshold,
)
from st_simdiff.methods.fastv import FastV, published_count
from st_simdiff.methods.random import random_subset
from st_simdiff.methods.ranking import highest
from st_simdiff.methods.registry import make_method
from st_simdiff.methods.sttm import PUBLISHED, STTM
from st_simdiff.methods.uniform_frames import frame_subset
from st_simdiff.methods.visionzip import effivlm_counts, split_quota
from st_simdiff.methods.vispruner import select
from st_simdiff.selection.grid import TokenGrid, spread

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
import methods as readings

QUICK = settings(max_examples=60, deadline=None)


def randn(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


# Budgets -----------------------------------------------------------------------------------------------------------


@QUICK
@given(st.integers(1, 99), st.integers(1, 3000), st.integers(2, 40), st.integers(-1, 30))
def test_compute_count_solves_the_equation(percent: int, count: int, layers: int, layer: int) -> None:
    retention, full = percent / 100, layer + 1
    if percent * layers <= 100 * full:
        with pytest.raises(InputError):
            compute_count(retention, count, layers, layer)
        return
    kept = compute_count(retention, count, layers, layer)

    def cost(left: int) -> int:
        return 100 * (full * count + (layers - full) * left)

    budget = percent * layers * count
    assert kept == 1 or cost(kept - 1) < budget
    assert kept == count or cost(kept) >= budget


@QUICK
@given(st.integers(0, 500), st.integers(1, 70))
def test_even_quotas(total: int, parts: int) -> None:
    quotas = even_quotas(total, parts)
    assert sum(quotas) == total
    assert len(quotas) == parts
    assert max(quotas) - min(quotas) <= 1
    ones = [sum(q > min(quotas) for q in quotas[: k + 1]) for k in range(parts)]
    extra = total - min(quotas) * parts
    if max(quotas) > min(quotas):
        assert all(abs(seen - (k + 1) * extra / parts) < 1 for k, seen in enumerate(ones)), "spread evenly over time"


@QUICK
@given(st.lists(st.tuples(st.integers(0, 50), st.integers(0, 20)), min_size=1, max_size=12), st.data())
def test_largest_remainder(items: list[tuple[int, int]], data: st.DataObject) -> None:
    weights = torch.tensor([weight for weight, _ in items], dtype=torch.float64)
    capacity = torch.tensor([room for _, room in items])
    total = data.draw(st.integers(0, int(capacity.sum())))
    quotas = largest_remainder(weights, total, capacity)
    assert int(quotas.sum()) == total
    assert bool((quotas >= 0).all())
    assert bool((quotas <= capacity).all())
    free = (quotas < capacity) & (weights > 0)
    if int(free.sum()) > 1:
        share = quotas[free] / weights[free]
        slack = 1 / weights[free]
        assert float((share - slack).max()) <= float((share + slack).min()) * (1 + 1e-9), "in proportion below the caps"
    ideal = weights / weights.sum() * total if weights.sum() > 0 else torch.zeros_like(weights)
    if weights.sum() > 0 and bool((ideal.ceil() <= capacity).all()):
        assert bool(((quotas - ideal).abs() < 1).all()), "each within one of its exact share"
        rounded_up = (quotas > ideal.floor()).nonzero().flatten().tolist()
        rounded_down = (quotas == ideal.floor()).nonzero().flatten().tolist()
        remainder = ideal - ideal.floor()
        assert all(remainder[a] >= remainder[b] - 1e-9 for a in rounded_up for b in rounded_down if ideal[a] % 1)


def test_largest_remainder_of_odd_weights() -> None:
    capacity = torch.tensor([3, 3, 3])
    for weights in ([5e-324, 0, 0], [torch.nan, 1, 0], [torch.inf, 0, 0], [0, 0, 0], [-1, 2, 1]):
        for total in range(10):
            quotas = largest_remainder(torch.tensor(weights, dtype=torch.float64), total, capacity)
            assert int(quotas.sum()) == total
            assert bool(((quotas >= 0) & (quotas <= capacity)).all())


def test_largest_remainder_refuses_what_does_not_fit() -> None:
    with pytest.raises(InputError, match="do not fit"):
        largest_remainder(torch.ones(2), 5, torch.tensor([2, 2]))


def test_equal_groups() -> None:
    assert list(equal_groups([3, 1, 3])) == [(1, [1]), (3, [0, 2])]


@QUICK
@given(st.lists(st.integers(0, 40), min_size=1, max_size=40), st.integers(-5, 45))
def test_nearest_threshold_is_the_nearest(counts: list[int], target: int) -> None:
    counts = sorted(counts)
    calls = []

    def count_of(threshold: float) -> int:
        calls.append(threshold)
        return counts[round(threshold * 100)]

    candidates = torch.arange(len(counts)).double() / 100
    found = nearest_threshold(count_of, candidates.flip(0), target)
    assert abs(counts[round(found * 100)] - target) == min(abs(count - target) for count in counts)
    assert len(calls) <= math.log2(len(counts)) + 1


def test_thresholds_between_similarities_part_no_two_that_rounding_may_swap() -> None:
    similarities = torch.tensor([0.8, 0.2, 0.2 + 1e-7, float("nan"), 0.5])
    assert between(similarities).tolist() == pytest.approx([-0.8, 0.35, 0.65, 1.8], abs=1e-6)


# Patches -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("separators", ["none", "row", "frame", "end"])
def test_touched_separators_close_rows_that_keep_a_patch(separators: str) -> None:
    grid = TokenGrid(3, 2, 3, separators)
    where = grid.patches().flatten()
    for seed in range(20):
        kept = where[torch.rand(18, generator=torch.Generator().manual_seed(seed)) < 0.2]
        expected = []
        for separator in grid.separator_offsets().tolist():
            before = [offset for offset in grid.separator_offsets().tolist() if offset < separator]
            start = before[-1] + 1 if before else 0
            if separators == "end" or any(start <= offset < separator for offset in kept.tolist()):
                expected.append(separator)
        assert patches.touched_separators(kept, grid).tolist() == expected


@QUICK
@given(st.integers(0, 30), st.integers(0, 35))
def test_spread(total: int, count: int) -> None:
    items = torch.arange(total) * 10
    chosen = spread(items, count)
    assert chosen.numel() == min(total, count)
    assert torch.equal(chosen, chosen.unique())
    if 0 < count < total:
        gaps = [b - a for a, b in itertools.pairwise([-1, *(chosen // 10).tolist(), total])]
        assert max(gaps[1:-1], default=0) <= math.ceil(total / count)


def test_highest_prefers_the_earlier_of_equals_and_takes_nan_last() -> None:
    scores = torch.tensor([1.0, torch.nan, 2.0, 1.0, -9.0, 1.0])
    assert [highest(scores, k).tolist() for k in (1, 2, 3, 5, 6)] == [
        [2],
        [0, 2],
        [0, 2, 3],
        [0, 2, 3, 4, 5],
        [0, 1, 2, 3, 4, 5],
    ]


def test_separators_come_back_only_after_all_patches() -> None:
    grid = TokenGrid(4, 3, 3, "row")
    tokens, patch_offsets = synthetic(grid), set(grid.patches().flatten().tolist())
    for retention in (0.5, 0.75, 0.76, 0.9):
        kept = set(make_method("fastervlm", retention=retention).reduce_input(tokens).kept.tolist())
        count = math.ceil(retention * 48 - 1e-9)
        assert len(kept) == count
        assert len(kept & patch_offsets) == min(count, 36)


# Baselines ---------------------------------------------------------------------------------------------------------


def test_random_is_uniform_and_seeded() -> None:
    draws = torch.stack([torch.zeros(40).scatter(0, random_subset(40, 12, seed), 1) for seed in range(3000)])
    share = draws.mean(0)
    assert float((share - 0.3).abs().max()) < 5 * math.sqrt(0.3 * 0.7 / 3000)
    pairs = (draws.T @ draws / 3000)[~torch.eye(40, dtype=torch.bool)]
    assert float((pairs - 12 * 11 / (40 * 39)).abs().max()) < 0.05
    assert torch.equal(random_subset(40, 12, 7), random_subset(40, 12, 7))
    assert not torch.equal(random_subset(40, 12, 7), random_subset(40, 12, 8))


def test_uniform_frames_are_those_of_a_shorter_sampling() -> None:
    grid = TokenGrid(64, 14, 14, "row")
    kept = frame_subset(grid, 32 * 210)
    frames = (kept // 210).unique(return_counts=True)
    assert frames[0].tolist() == np.linspace(0, 63, 32, dtype=int).tolist()
    assert set(frames[1].tolist()) == {210}


@pytest.mark.parametrize("separators", ["none", "row", "frame", "end"])
def test_uniform_frames_fill_all_but_the_last(separators: str) -> None:
    grid = TokenGrid(9, 2, 3, separators)
    for count in range(1, grid.count + 1):
        kept = frame_subset(grid, count)
        assert kept.unique().numel() == count
        frames, sizes = (kept[kept < 9 * grid.frame_length] // grid.frame_length).unique(return_counts=True)
        assert set(sizes[:-1].tolist()) <= {grid.frame_length}
        if separators == "end" and count > 1:
            assert int(kept[-1]) == grid.count - 1
        if len(frames) > 1:
            assert int(frames[0]) == 0
            assert int(frames[-1]) == 8


def test_temporal_drop_ranks_by_change_behind_the_first_frame() -> None:
    """Two directions over five frames of three patches: the second turns by 90 degrees at frame 2, the third by 37."""
    grid = TokenGrid(5, 1, 3, "row")
    features = torch.zeros(grid.count, 2)
    features[grid.patches().flatten()] = torch.tensor([1.0, 0.0])
    features[grid.patches()[2:, 0, 1]] = torch.tensor([0.0, 3.0])
    features[grid.patches()[3:, 0, 2]] = torch.tensor([0.8, 0.6])
    tokens = replace(synthetic(grid), features=features)
    first, sharp, mild = grid.patches()[0, 0].tolist(), int(grid.patches()[2, 0, 1]), int(grid.patches()[3, 0, 2])
    for count, expected in ((2, first[:2]), (3, first), (4, [*first, sharp]), (5, [*first, sharp, mild])):
        assert walk(make_method("temporal_drop", retention=count / 20), tokens).kept.tolist() == sorted(expected)


def test_fastv_acts_after_layer_k_minus_one() -> None:
    assert FastV(retention=0.5).layers(28) == (1,)
    assert FastV(retention=0.5, k=3).layers(28) == (2,)
    assert [published_count(n, 0.5) for n in (33, 34, 35, 37)] == [16, 17, 18, 18]


def test_importance_is_fastv_with_two_layers_and_the_exact_count() -> None:
    tokens = synthetic(TokenGrid(5, 4, 4, "row"))
    for retention in (0.3, 0.5):
        importance = walk(make_method("importance", retention=retention), tokens)
        assert torch.equal(importance.kept, walk(FastV(retention=retention), tokens).kept)
        assert [record.layer for _, record in importance.stages] == [1]


# Literal readings --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [8, 40, 100])
def test_prumerge_per_token(size: int) -> None:
    features, keys, attention = readings.frame_input(size, 12)
    for count in (1, size // 3, size - 1):
        ours = readings.prumerge_vectorised(features, keys, attention, count)
        if size > prumerge.NEIGHBOURS:
            reading = readings.prumerge_per_token(features, keys, attention, count)
            torch.testing.assert_close(ours, reading, atol=1e-5, rtol=1e-5)
        assert ours[0].shape == (count, 12)


@pytest.mark.parametrize("size", [40, 41, 97])
def test_vispruner_per_token(size: int) -> None:
    for seed in range(5):
        features, _, attention = readings.frame_input(size, 12, seed)
        for count in (1, 2, 9, size // 2, size - 1, size):
            ours = readings.vispruner_vectorised(features, attention, count)
            assert ours == readings.vispruner_per_token(features, attention, count)
            assert len(ours) == count


@pytest.mark.parametrize(("frames", "side"), [(4, 14), (3, 13), (3, 9), (5, 6), (2, 27), (3, 2), (2, 1), (1, 7)])
@pytest.mark.parametrize("root_level", [0, 1, 2])
def test_sttm_cell_by_cell(frames: int, side: int, root_level: int) -> None:
    video = readings.video_input(frames, side, 8, seed=side)
    for spatial, temporal in ((0.9, 0.6), (0.7, 0.3), (0.4, 0.9), (-1.0, -1.0)):
        ours = readings.sttm_vectorised(video, spatial, temporal, root_level)
        reading = readings.sttm_per_token(video, spatial, temporal, root_level)
        assert ours[0] == reading[0]
        torch.testing.assert_close(ours[1], reading[1], atol=1e-5, rtol=1e-5)


def test_sttm_on_oblong_frames() -> None:
    video = torch.cat([readings.video_input(3, 10, 8), readings.video_input(3, 10, 8, seed=1)[:, :5]], 1)[:, :, :7]
    ours, reading = (f(video, 0.8, 0.5) for f in (readings.sttm_vectorised, readings.sttm_per_token))
    assert ours[0] == reading[0]
    torch.testing.assert_close(ours[1], reading[1], atol=1e-5, rtol=1e-5)


def naive_peaks(distance: np.ndarray, count: int, neighbours: int) -> list[int]:
    """Density peaks, point by point."""
    size = len(distance)
    density_of = [math.exp(-float(np.mean(np.sort(distance[i])[:neighbours] ** 2))) for i in range(size)]
    scores = []
    for i in range(size):
        denser = [j for j in range(size) if (density_of[j], -j) > (density_of[i], -i)]
        separation = min((distance[i, j] for j in denser), default=distance.max())
        scores.append(separation * density_of[i])
    return sorted(sorted(range(size), key=lambda i: -scores[i])[:count])


@pytest.mark.parametrize("size", [1, 5, 30])
def test_density_peaks_point_by_point(size: int) -> None:
    for seed in range(5):
        distance = density.distances(randn(size, 6, seed=seed).double())
        for count in {1, size // 2, size} - {0}:
            ours = density.density_peaks(distance, count, min(4, size))
            assert ours.tolist() == naive_peaks(distance.double().numpy(), count, min(4, size))


@QUICK
@given(st.integers(1, 3), st.integers(1, 14), st.floats(0, 0.5), st.integers(0, 1000))
def test_components_equal_networkx(batch: int, size: int, share: float, seed: int) -> None:
    random = torch.rand(batch, size, size, generator=torch.Generator().manual_seed(seed))
    edges = (random < share) | (random < share).mT
    names = llava_scissor.components(edges)
    for own, name in zip(edges, names, strict=True):
        graph = nx.from_numpy_array(own.numpy())
        graph.remove_edges_from(list(nx.selfloop_edges(graph)))
        for component in nx.connected_components(graph):
            best = min(component, key=lambda node: (-graph.degree(node), node))
            assert {int(name[node]) for node in component} == {best}


def test_components_of_a_long_chain_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(llava_scissor, "BLOCK_VALUES", 100)
    order = torch.randperm(300, generator=torch.Generator().manual_seed(0))
    edges = torch.zeros(1, 300, 300, dtype=torch.bool)
    edges[0, order[:-1], order[1:]] = True
    names = llava_scissor.components(edges | edges.mT)
    assert names.unique().numel() == 1


def all_cuts(frames: int) -> list[list[tuple[int, int]]]:
    """Every way to cut range(frames) into windows (start, end)."""
    cuts = []
    for chosen in itertools.product([False, True], repeat=frames - 1):
        bounds = [0, *(k + 1 for k, cut in enumerate(chosen) if cut), frames]
        cuts.append(list(itertools.pairwise(bounds)))
    return cuts


@QUICK
@given(st.integers(1, 7), st.integers(1, 6), st.floats(0, 1), st.integers(0, 1000))
def test_static_windows_are_the_best_cut(frames: int, size: int, share: float, seed: int) -> None:
    still = torch.rand(frames - 1, size, generator=torch.Generator().manual_seed(seed)) < share

    def saved(windows: list[tuple[int, int]]) -> int:
        return sum(
            int(still[start : end - 1].all(0).sum()) * (end - start - 1) for start, end in windows if end - start > 1
        )

    windows, reduced = holitom.static_windows(still)
    assert reduced == max(saved(windows) for windows in all_cuts(frames))
    assert saved([(window.start, window.end) for window in windows]) == reduced
    assert [window.start for window in windows][1:] == [window.end for window in windows][:-1]
    assert (windows[0].start, windows[-1].end) == (0, frames)
    for window in windows:
        alone = window.end - window.start == 1
        expected = torch.zeros(size, dtype=torch.bool) if alone else still[window.start : window.end - 1].all(0)
        assert torch.equal(window.static, expected)


@QUICK
@given(st.integers(1, 6), st.integers(1, 5), st.floats(0, 1), st.integers(0, 1000))
def test_framefusion_runs_one_by_one(frames: int, places: int, share: float, seed: int) -> None:
    random = torch.Generator().manual_seed(seed)
    alive = torch.rand(frames * places, generator=random) < 0.8
    alive[0] = True
    place = (torch.arange(frames * places) % places)[alive]
    features = torch.randn(len(place), 4, generator=random)
    cosine = framefusion.similarity_before(features, place)
    merged = (cosine > -2) & (torch.rand(len(place), generator=random) < share)
    first, means = framefusion.merge_runs(features, place, merged)
    last, run = {}, {}
    for token in range(len(place)):
        before = last.get(int(place[token]))
        expected = -2.0
        if before is not None:
            expected = readings.cosine(features[token], features[before])
        assert float(cosine[token]) == pytest.approx(expected, abs=1e-5)
        run[token] = run[before] if bool(merged[token]) else token
        last[int(place[token])] = token
    assert first.tolist() == [run[token] for token in range(len(place))]
    for start in set(run.values()):
        members = [token for token, own in run.items() if own == start]
        torch.testing.assert_close(means[start], features[members].mean(0))


def test_framefusion_bound_is_the_cost() -> None:
    """Whatever has been merged so far, removing the bound leaves a mean share of exactly the cost."""
    for cost, removed in ((0.3, []), (0.3, [0.6]), (0.4, [0.2, 0.3, 0.15]), (0.9, [0.05])):
        left, shares = 1.0, []
        for sparsity in removed:
            left *= 1 - sparsity
            shares.append(left)
        bound = framefusion.upper_bound(cost, 28, tuple(removed))
        shares += [left * (1 - bound)] * (28 - len(removed))
        assert sum(shares) / 28 == pytest.approx(cost)
    assert framefusion.upper_bound(0.9, 28, (0.5,)) == 0
    with pytest.raises(InputError, match="mean share"):
        framefusion.upper_bound(0.05, 28, (0.1, 0.1, 0.1))


def test_framefusion_acts_in_stages() -> None:
    """Merges while it pays, prunes once by attention, then rests; a call that merges nothing is recorded too."""
    tokens = synthetic(TokenGrid(6, 5, 5, "row"), num_layers=12)
    result = walk(make_method("framefusion", retention=0.3, similarity=0.97), tokens)
    progress = [record.reduction.details for _, record in result.stages]
    assert [own.done for own in progress] == [False] * (len(progress) - 1) + [True]
    assert result.stages[-1][1].reduction.values is None, "the last stage prunes"
    assert result.kept.numel() == math.ceil(0.3 * 180)
    without_newlines = synthetic(TokenGrid(6, 5, 6), num_layers=12)
    nothing = walk(make_method("framefusion", retention=0.3, similarity=1), without_newlines)
    assert [record.after for _, record in nothing.stages] == [180, 54]


def test_framefusion_keeps_the_end_apart_from_the_first_place() -> None:
    grid = TokenGrid(3, 1, 2, "end")
    tokens = synthetic(grid)
    tokens = replace(tokens, features=tokens.features[:1].repeat(7, 1))
    reduction = make_method("framefusion", retention=0.4).reduce_input(tokens)
    assert reduction.merged_into.tolist() == [0, 1, 0, 1, 0, 1, 6]


def test_framefusion_without_time_to_merge_still_counts() -> None:
    for layers in (1, 2, 3):
        for similarity in (-1, 0.9, 1):
            tokens = synthetic(TokenGrid(6, 5, 5, "end"), num_layers=layers)
            result = walk(make_method("framefusion", retention=0.3, similarity=similarity, least_merged=0.0), tokens)
            assert result.kept.numel() == math.ceil(0.3 * 151)


# What the official codes fail on -----------------------------------------------------------------------------------


def test_vispruner_takes_odd_remainders() -> None:
    scores, features = torch.rand(2, 729, generator=torch.Generator().manual_seed(0)), randn(2, 729, 8)
    important, diverse = select(scores, features, 365, 0.5)
    assert important.shape[1] == 183, "one more than int(365 / 2), as in LightCompress"
    assert torch.cat([important, diverse], 1).sort(1).values.unique(dim=1).shape == (2, 365)


@pytest.mark.parametrize("ratio", [0.3, 0.5, 0.9, 1.0])
def test_fixed_prumerge_plus_takes_every_ratio(ratio: float) -> None:
    features, keys, attention = readings.frame_input(576, 8)
    kept = published_forms.fixed_centres(attention, ratio)[None]
    dropped = prumerge.dropped_of(kept, 576)
    centres, rest = prumerge.merge(features[None], keys[None], attention[None], kept, dropped)
    assert bool(centres.isfinite().all())
    assert bool(rest.isfinite().all())
    assert kept.shape[1] + dropped.shape[1] == max(576, kept.shape[1])


@pytest.mark.parametrize("retention", [0.3, 0.5])
def test_prumerge_plus_keeps_the_count_on_a_frame_of_576(retention: float) -> None:
    tokens = synthetic(TokenGrid(2, 24, 24), dim=8)
    reduction = make_method("prumerge_plus", retention=retention).reduce_input(tokens)
    check(tokens, reduction)
    assert reduction.kept.numel() == math.ceil(retention * 1152)
    assert bool(reduction.values.isfinite().all())


@pytest.mark.parametrize(
    "attention", [torch.ones(64), torch.arange(64.0) ** 9, torch.cat([torch.ones(40), torch.zeros(24)])]
)
def test_adaptive_prumerge_plus_without_outliers_or_with_many(attention: torch.Tensor) -> None:
    for ratio in (0.0, 0.2, 0.34, 0.6, 1.0):
        kept = prumerge_plus.adaptive_centres(attention, ratio)
        assert kept.numel() == kept.unique().numel() > 0
    tokens = synthetic(TokenGrid(1, 8, 8))
    tokens = replace(tokens, vision=replace(tokens.vision, attention=attention))
    for name in ("prumerge", "prumerge_plus"):
        check(tokens, make_method(name, retention=0.5, budget="as_published").reduce_input(tokens))


@pytest.mark.parametrize("context", [0.25, 0.5, 1.0])
def test_holitom_with_density_peaks(context: float) -> None:
    tokens = synthetic(TokenGrid(6, 6, 6))
    for budget in ("tokens", "as_published"):
        method = make_method("holitom", retention=0.3, tau=0.9, context=context, budget=budget)
        reduction = method.reduce_input(tokens)
        check(tokens, reduction)
        assert reduction.merged_into is not None
        share = float((reduction.merged_into < 0).float().mean())
        assert share == 0, "peaks take in whatever attention does not choose"
    assert not torch.equal(reduction.values, tokens.features[reduction.kept])


def test_holitom_on_a_still_video_fills_the_budget() -> None:
    """Merging alone leaves 1/8 of a video of 8 equal frames; the rest of the budget is not given away."""
    frame = randn(36, 8)
    grid = TokenGrid(8, 6, 6)
    tokens = replace(synthetic(grid, dim=8), features=frame.repeat(8, 1))
    reduction = make_method("holitom", retention=0.5).reduce_input(tokens)
    check(tokens, reduction)
    assert reduction.kept.numel() == 144
    torch.testing.assert_close(reduction.values, tokens.features[reduction.kept])


def test_fastvid_anchors_hold_no_more_than_a_frame() -> None:
    """At 50 % of a long segment the published shares ask an anchor frame for more patches than it has."""
    salient, peaks = fastvid.segment_quotas(784, 8, 196, 0.4, 4)
    assert sum(salient) + sum(peaks) == 784
    assert max(s + p for s, p in zip(salient, peaks, strict=True)) == 196
    assert [p > 0 for p in peaks] == [False, False, False, True, False, False, False, True]
    tokens = synthetic(TokenGrid(16, 6, 6))
    method = make_method("fastvid", retention=0.5, segments=1, tau=-1)
    assert method.reduce_input(tokens).kept.numel() == 288


@QUICK
@given(st.integers(1, 20), st.integers(1, 20), st.floats(0, 1), st.integers(1, 6), st.data())
def test_fastvid_segment_quotas(length: int, size: int, context: float, anchor: int, data: st.DataObject) -> None:
    total = data.draw(st.integers(0, length * size))
    salient, peaks = fastvid.segment_quotas(total, length, size, context, anchor)
    assert sum(salient) + sum(peaks) == total
    assert min(salient) >= 0
    assert min(peaks) >= 0
    assert all(own + other <= size for own, other in zip(salient, peaks, strict=True))
    assert all(not p or (length - 1 - frame) % anchor == 0 for frame, p in enumerate(peaks))


def test_fastvid_drops_into_the_most_similar_peak() -> None:
    tokens = synthetic(TokenGrid(4, 5, 5))
    reduction = make_method("fastvid", retention=0.2, segments=1, tau=-1, anchor=2).reduce_input(tokens)
    check(tokens, reduction)
    assert bool((reduction.merged_into >= 0).all())
    vectors = patches.unit(tokens.features)
    changed = (reduction.values != tokens.features[reduction.kept]).any(1)
    peaks = reduction.kept[changed]
    dropped = torch.tensor([slot for slot in range(100) if slot not in set(reduction.kept.tolist())])
    expected = peaks[(vectors[dropped] @ vectors[peaks].T).argmax(1)]
    assert torch.equal(reduction.merged_into[dropped], expected)


def test_fastvid_without_peaks_drops() -> None:
    tokens = synthetic(TokenGrid(6, 4, 4))
    reduction = make_method("fastvid", retention=0.25, context=0.0).reduce_input(tokens)
    check(tokens, reduction)
    assert int((reduction.merged_into == -1).sum()) == 96 - 24
    torch.testing.assert_close(reduction.values, tokens.features[reduction.kept])


def test_merged_values_are_what_their_members_make() -> None:
    """merged_into accounts for the values where a method takes plain means of what it merged."""
    tokens = synthetic(TokenGrid(6, 8, 8), num_layers=8)
    sttm = walk(STTM(retention=0.3, weighted=True), tokens)
    fusion = walk(make_method("framefusion", retention=0.3), tokens)
    for given_tokens, record in (sttm.stages[0], fusion.stages[0]):
        into = record.reduction.merged_into
        for slot, value in zip(record.reduction.kept.tolist(), record.reduction.values, strict=True):
            torch.testing.assert_close(value, given_tokens.features[into == slot].mean(0), atol=1e-5, rtol=1e-5)


def test_visionzip_keeps_54_to_10() -> None:
    assert [split_quota(quota) for quota in (64, 128, 1, 2, 3)] == [(54, 10), (108, 20), (1, 0), (1, 1), (2, 1)]


# Published thresholds ----------------------------------------------------------------------------------------------


def test_sttm_published_thresholds() -> None:
    tokens = synthetic(TokenGrid(5, 8, 8))
    published = {
        ("videomme", 0.5): (0.85, 0.55),
        ("videomme", 0.3): (0.8, 0.5),
        ("longvideobench", 0.5): (0.85, 0.6),
        ("longvideobench", 0.3): (0.8, 0.55),
        ("egoschema", 0.5): (0.85, 0.55),
        ("egoschema", 0.3): (0.8, 0.6),
    }
    assert published == PUBLISHED
    for (task, retention), (spatial, temporal) in published.items():
        result = walk(STTM(retention=retention, budget="as_published", task=task), tokens)
        details = result.stages[0][1].reduction.details
        assert details == {"spatial": spatial, "temporal": temporal}
    with pytest.raises(InputError, match=r"0\.3 and 0\.5"):
        STTM(retention=0.4, budget="as_published")
    with pytest.raises(InputError, match="videomme"):
        STTM(retention=0.5, task="video_mme")


def test_sttm_needs_the_whole_grid() -> None:
    tokens = synthetic(TokenGrid(3, 4, 4))
    part = replace(tokens, features=tokens.features[:20], offsets=tokens.offsets[:20])
    with pytest.raises(InputError, match="only 20 of them"):
        STTM(retention=0.5).reduce_after_layer(1, part)


def test_sttm_renumbers_and_the_others_do_not() -> None:
    assert STTM.renumbers_positions
    assert not STTM.exact
    assert not FastV.renumbers_positions


# Differences from the originals that were found once ------------------------------------------------------------------


@pytest.mark.parametrize(("side", "tokens"), [(7, 22), (14, 29)])
def test_visionzip_as_published_keeps_a_newline_after_every_row(side: int, tokens: int) -> None:
    grid = TokenGrid(1, side, side, "row")
    retention = next(r / 1000 for r in range(1, 1000) if sum(effivlm_counts(side * side, r / 1000)) == 15)
    method = make_method("visionzip", retention=retention, budget="as_published")
    assert method.reduce_input(synthetic(grid)).kept.numel() == tokens


@pytest.mark.parametrize("head_dim", [None, 8])
def test_sttm_compares_head_by_head(head_dim: int | None) -> None:
    video = randn(3, 4, 4, 16)
    pyramid = quadtree.build_pyramid(video, 0, head_dim)
    heads = video.flatten(0, 2).unflatten(1, (-1, head_dim or 16))
    cosine = torch.nn.functional.cosine_similarity(heads[16:32], heads[:16], dim=-1).mean(-1)
    torch.testing.assert_close(pyramid.still[16:32], cosine)
    parents = pyramid.coarse[:4].view(2, 2, 16)
    for row, column in itertools.product(range(2), range(2)):
        children = video[0, 2 * row : 2 * row + 2, 2 * column : 2 * column + 2].reshape(4, -1, head_dim or 16)
        parent = parents[row, column].view(1, -1, head_dim or 16)
        least = torch.nn.functional.cosine_similarity(children, parent, dim=-1).mean(-1).min()
        assert float(pyramid.least[48 + 2 * row + column]) == pytest.approx(float(least), abs=1e-6)
    with pytest.raises(InputError, match="head_dim must divide"):
        quadtree.build_pyramid(video, 0, 7)


@pytest.mark.parametrize("name", ["st_simdiff", "st_simdiff_adaptive", "st_simdiff_release", "fastv", "importance"])
def test_a_token_of_undefined_attention_goes_first_in_every_method(name: str) -> None:
    grid = TokenGrid(5, 4, 4)
    tokens = synthetic(grid, num_layers=28)
    all_enter = {"tau_sim": 1.0} if name.startswith("st_simdiff") and name != "st_simdiff_adaptive" else {}
    method = make_method(name, retention=0.3, **all_enter)
    first = method.reduce_input(tokens)
    kept = tokens.offsets if first is None else first.kept
    history = () if first is None else (StageRecord(-1, grid.count, first),)
    attention = torch.rand(len(kept), generator=torch.Generator().manual_seed(0))
    attention[::9] = torch.nan
    later = replace(tokens, features=tokens.features[kept], offsets=kept, history=history, attention=lambda: attention)
    (layer,) = method.layers(28)
    if name == "st_simdiff_adaptive":
        method = replace(method, cover=0.0)
    left = method.reduce_after_layer(layer, later).kept
    assert len(left) < len(kept) - len(attention[::9])
    assert not attention[left].isnan().any()
