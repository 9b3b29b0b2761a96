"""What the methods of 2025 and 2026 do under an exact budget, against literal readings, and their official faults."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from moments import synthetic, walk

from st_simdiff.errors import InputError
from st_simdiff.methods import evs, flashvid_trees, unicomp, v_cast
from st_simdiff.methods.base import VisionRecord
from st_simdiff.methods.divprune import farthest_points
from st_simdiff.methods.dycoke import DyCoke
from st_simdiff.methods.flashvid import FlashVID
from st_simdiff.methods.registry import METHODS, make_method
from st_simdiff.selection.grid import TokenGrid


def randn(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_a_former_name_is_understood_and_not_listed() -> None:
    assert "temporal_drop" in METHODS
    assert METHODS["temporal_drop"] is METHODS["evs"] is evs.EVS
    assert "temporal_drop" not in list(METHODS)
    assert make_method("temporal_drop", retention=0.3) == make_method("evs", retention=0.3)


@pytest.mark.parametrize(
    ("frames", "size", "retention", "count"), [(20, 10, 0.1, 19), (8, 20, 0.5, 80), (4, 9, 0.1, 9)]
)
def test_evs_truncates_and_keeps_a_frame(frames: int, size: int, retention: float, count: int) -> None:
    assert evs.published_count(frames, size, retention) == count
    tokens = synthetic(TokenGrid(frames, 1, size, "end"))
    kept = make_method("evs", retention=retention, budget="as_published").reduce_input(tokens).kept
    assert kept.numel() == count + 1


def test_vcast_hands_the_rest_to_the_largest_fraction_until_it_is_full() -> None:
    shares = torch.tensor([0.1, 0.45, 0.45])
    assert v_cast.frame_budgets(shares, 20, 8, 1).tolist() == [4, 8, 8]
    assert v_cast.frame_budgets(shares, 2, 8, 1).tolist() == [0, 2, 0]
    budgets = v_cast.frame_budgets(torch.softmax(randn(9), 0), 40, 7, 1)
    assert int(budgets.sum()) == 40
    assert int(budgets.max()) <= 7


def read_farthest(features: torch.Tensor, count: int) -> list[int]:
    unit = torch.nn.functional.normalize(features.double(), dim=1)
    distance = (1 - unit @ unit.T).tolist()
    everyone = range(len(distance))
    nearest = [min(distance[i][j] for j in everyone if j != i) for i in everyone]
    chosen = [max(everyone, key=lambda i: nearest[i])]
    while len(chosen) < count:
        reach = {i: min(distance[i][j] for j in chosen) for i in everyone if i not in chosen}
        chosen.append(max(reach, key=lambda i: reach[i]))
    return chosen


def test_divprune_is_farthest_points_and_never_repeats() -> None:
    features = randn(60, 5)
    features[::2] = features[:30].clone() + 1e-3 * randn(30, 5, seed=1)
    assert farthest_points(features, 60).tolist()[:25] == read_farthest(features, 25)
    copies = randn(4, 8)[torch.arange(20) % 4]
    assert farthest_points(copies, 20).unique().numel() == 20
    assert farthest_points(copies, 20, repeat=True).unique().numel() < 20


def test_dycoke_keeps_what_is_least_like_its_reference_and_has_a_floor() -> None:
    grid = TokenGrid(10, 4, 4)
    tokens = synthetic(grid)
    method = DyCoke(retention=0.6)
    kept = method.reduce_input(tokens).kept
    unit = torch.nn.functional.normalize(tokens.features, dim=1).unflatten(0, (10, 16))
    per_frame = torch.bincount(kept // 16, minlength=10).tolist()
    assert [per_frame[frame] for frame in (0, 4, 8)] == [16] * 3
    assert sum(per_frame) == 96
    for frame in (1, 2, 3, 5, 6, 7, 9):
        reference = frame - 1 if frame % 4 == 3 else frame - frame % 4
        alike = (unit[frame] * unit[reference]).sum(-1)
        expected = alike.argsort()[: per_frame[frame]].sort().values
        assert torch.equal(kept[kept // 16 == frame] % 16, expected)
    with pytest.raises(InputError, match="dycoke keeps at least 48 of this video's 160 tokens"):
        make_method("dycoke", retention=0.2).reduce_input(tokens)
    with pytest.raises(InputError, match="fails on videos of up to 4 frames"):
        make_method("dycoke", retention=0.5, budget="as_published").reduce_input(synthetic(TokenGrid(4, 3, 3)))


def test_flashvid_links_no_more_than_leaves_the_budget() -> None:
    vectors = torch.nn.functional.normalize(randn(1, 12, 6) + 0.05 * randn(5, 12, 6, seed=1), dim=-1)
    chosen = torch.zeros(5, 12, dtype=torch.bool)
    chosen[:, ::6] = True
    linked, parent = flashvid_trees.links(vectors, chosen, 0.8, 10)
    assert linked.numel() - int(linked.sum()) == 20  # frame 0, and two chosen in each of the others
    linked, parent = flashvid_trees.links(vectors, chosen, 0.8, 30)
    assert linked.numel() - int(linked.sum()) == 31
    for frame in range(1, 5):
        cosine = vectors[frame] @ vectors[frame - 1].T
        cosine[:, chosen[frame - 1]] = -1
        own = linked[frame]
        assert torch.equal(parent[frame][own], cosine.argmax(1)[own])
    assert not linked[0].any()
    assert not (linked & chosen).any()
    assert not flashvid_trees.links(vectors, chosen, 0.8, 60)[0].any()


@pytest.mark.parametrize("frames", [4, 8, 16])
def test_flashvid_means_of_copies_are_copies(frames: int) -> None:
    copies = torch.nn.functional.normalize(randn(1, 6, 8), dim=-1).expand(frames, -1, -1)
    linked = torch.ones(frames, 6, dtype=torch.bool)
    linked[0] = False
    parent = torch.arange(6).expand(frames, -1).masked_fill(~linked, -1)
    values, owner = flashvid_trees.merge_links(copies, linked, parent, exact=True)
    torch.testing.assert_close(values[0], copies[0])
    assert torch.equal(owner.view(frames, 6), torch.arange(6).expand(frames, -1))
    published, _ = flashvid_trees.merge_links(copies, linked, parent, exact=False)
    assert float(published[0].norm(dim=-1).mean()) > 1.2, "the official fault, kept as published"


def test_flashvid_prunes_again_only_as_published() -> None:
    tokens = synthetic(TokenGrid(9, 6, 6), num_layers=28)
    exact, published = FlashVID(retention=0.25), FlashVID(retention=0.25, budget="as_published")
    assert exact.layers(28) == ()
    assert not exact.asks_query
    assert published.asks_query
    stages = walk(published, tokens).stages
    assert [record.layer for _, record in stages] == [-1, 19]
    assert stages[1][1].after == math.ceil(0.3 * stages[0][1].after)
    with pytest.raises(InputError, match="the model has 12 layers"):
        published.layers(12)


def read_unlike(keys: torch.Tensor, same: float) -> set[int]:
    unit = torch.nn.functional.normalize(keys.double(), dim=1)
    cosine = unit @ unit.T
    taken: list[int] = []
    for patch in cosine.mean(1).argsort(stable=True).tolist():
        if all(1 - float(cosine[patch, other]) >= same for other in taken):
            taken.append(patch)
    return set(taken)


@pytest.mark.parametrize("same", [0.0, 0.2, 0.6, 2.0])
def test_unicomp_takes_what_no_earlier_taken_patch_is_like(same: float) -> None:
    keys = randn(3, 30, 4)
    _, taken, found = unicomp.unlike_patches(keys, same)
    for group in range(3):
        assert set(taken[group].nonzero().flatten().tolist()) == read_unlike(keys[group], same)
    assert found.tolist() == taken.sum(1).tolist()


def test_unicomp_shares_a_surplus_only_where_more_was_found() -> None:
    assert unicomp.given(torch.tensor([5, 5, 5]), torch.tensor([2, 9, 9])).tolist() == [2, 6, 6]
    assert unicomp.given(torch.tensor([5, 5, 5]), torch.tensor([2, 6, 6])).tolist() == [2, 5, 5]


def test_unicomp_reads_the_pooling_head_where_there_is_one() -> None:
    grid = TokenGrid(6, 5, 5)
    tokens = synthetic(grid)
    plain = make_method("unicomp", retention=0.3).reduce_input(tokens)
    record = VisionRecord(keys=tokens.vision.keys, pooled=10 * randn(6, 12))
    told = make_method("unicomp", retention=0.3).reduce_input(replace(tokens, vision=record))
    assert plain.kept.numel() == told.kept.numel() == 45
    assert not torch.equal(plain.kept, told.kept)
    with pytest.raises(InputError, match="told of 3 frames, the grid has 6"):
        make_method("unicomp", retention=0.3).reduce_input(replace(tokens, vision=replace(record, pooled=randn(3, 12))))


def test_unicomp_of_a_still_video_keeps_groups_enough_for_the_budget() -> None:
    grid = TokenGrid(12, 4, 4)
    tokens = synthetic(grid)
    still = replace(tokens, features=tokens.features[:16].repeat(12, 1))
    reduction = make_method("unicomp", retention=0.3).reduce_input(still)
    assert reduction.kept.numel() == math.ceil(0.3 * 192)
    assert len(set((reduction.kept // 16).tolist())) == 4
