"""Selection from the features alone, against a literal reading, and the promises that serving rests on."""

import itertools
import math
import random

import pytest
import torch
from device_reads import counted_reads
from reading_input import read_input

from st_simdiff.errors import InputError
from st_simdiff.selection.coverage import tubes
from st_simdiff.selection.grid import TokenGrid
from st_simdiff.selection.select_input import select_input
from st_simdiff.selection.sketch import patch_sketch

LAYOUTS = ("none", "row", "frame", "end")
DTYPES = (torch.float32, torch.bfloat16, torch.float16, torch.float64)
KINDS = ("noise", "drift", "copies", "constant", "zeros", "some zeros", "nan", "inf", "still", "offset")


def video(grid, kind, dim, seed):
    """(N, dim) features of a kind."""
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(grid.count, dim, generator=generator)
    frame = grid.frame_of()
    if kind == "drift":
        place = torch.arange(grid.count) % grid.frame_length
        return noise[place] + 0.3 * noise * frame[:, None].sqrt()
    if kind == "copies":
        return noise[:3][torch.randint(0, min(3, grid.count), (grid.count,), generator=generator)]
    if kind == "still":
        return noise[torch.arange(grid.count) % grid.frame_length]
    if kind == "constant":
        return noise[:1].repeat(grid.count, 1)
    if kind == "zeros":
        return torch.zeros_like(noise)
    if kind == "offset":
        return noise + 20 * noise[:1]
    noise[1::3] = {"some zeros": 0.0, "nan": torch.nan, "inf": -torch.inf}.get(kind, noise[1::3])
    return noise


def cases():
    draw = random.Random(0)
    shapes = [(1, 1, 1), (1, 3, 4), (1, 1, 5), (9, 1, 1), (2, 2, 2), (70, 1, 1), (66, 2, 1), (5, 3, 3)]
    for index in range(200):
        shape = shapes[index] if index < len(shapes) else [draw.randint(1, n) for n in (7, 4, 5)]
        grid = TokenGrid(*shape, LAYOUTS[index % 4])
        retention = draw.choice([0.02, 0.1, 0.3, 0.5, 0.8, 0.95])
        yield grid, KINDS[index % len(KINDS)], draw.randint(1, 70), DTYPES[index // 4 % 4], retention, index


@pytest.mark.parametrize("events", [True, False])
def test_the_selection_equals_a_literal_reading(events):
    layouts, seen = set(), 0
    for grid, kind, dim, dtype, retention, seed in cases():
        features = video(grid, kind, dim, seed).to(dtype)
        count = max(1, math.ceil(retention * grid.count))
        chosen = select_input(features, grid, count, events=events)
        kept, event, first, reach = read_input(features, grid, count, events)
        about = (grid, kind, dim, dtype, count)
        assert set(chosen.kept.nonzero().flatten().tolist()) == kept, about
        assert set(chosen.event.nonzero().flatten().tolist()) == event, about
        assert chosen.seed.nonzero().flatten().tolist() == ([] if first is None else [first]), about
        assert len(kept) == count
        for offset in (~chosen.reach.isnan()).nonzero().flatten().tolist():
            assert float(chosen.reach[offset]) == pytest.approx(reach[offset], abs=1e-4), about
        layouts.add((grid.separators, kind, dtype))
        seen += 1
    assert seen == 200
    assert len(layouts) > 40


@pytest.mark.parametrize("kind", KINDS)
def test_without_events_a_smaller_budget_keeps_a_subset(kind):
    for separators in ("none", "row"):
        grid = TokenGrid(9, 5, 4, separators)
        features = video(grid, kind, 24, 3)
        sets = [select_input(features, grid, count, events=False).kept for count in range(1, grid.count)]
        assert [int(kept.sum()) for kept in sets] == list(range(1, grid.count))
        of_patches = sets[: 9 * 5 * 4]  # separators, which return behind them, are spread evenly anew
        assert all(bool((larger | ~smaller).all()) for smaller, larger in itertools.pairwise(of_patches))


@pytest.mark.parametrize("kind", ["noise", "drift", "copies", "still"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_one_and_two_threads_choose_the_same(kind, dtype):
    grid = TokenGrid(24, 9, 8, "row")
    features = video(grid, kind, 512, 5).to(dtype)
    before, found = torch.get_num_threads(), []
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            found.append([select_input(features, grid, count).kept for count in (60, 900)])
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(one, two) for one, two in zip(*found, strict=True))


def test_copies_far_apart_in_memory_have_the_same_sketch():
    features = torch.randn(1, 3584, generator=torch.Generator().manual_seed(0)).repeat(3000, 1)
    assert float(patch_sketch(features, torch.arange(3000), 30).abs().max()) == 0
    features[::7] += torch.randn(3584, generator=torch.Generator().manual_seed(1))
    sketch = patch_sketch(features, torch.arange(3000), 1)
    assert torch.equal(sketch[0].expand(429, -1), sketch[::7])


def test_rounding_errors_of_a_still_video_are_no_difference():
    picture = torch.randn(1, 512, generator=torch.Generator().manual_seed(0)).double()
    noise = torch.randn(400, 512, generator=torch.Generator().manual_seed(1)).double()
    features = picture * (1 + 1e-8 * noise)  # what is left of this in float32 is the last bit of a few numbers
    assert float(patch_sketch(features, torch.arange(400), 20).abs().max()) == 0
    assert float(patch_sketch(picture * (1 + 1e-3 * noise), torch.arange(400), 20).abs().max()) > 0


def test_scale_and_a_common_offset_change_nothing():
    grid = TokenGrid(8, 6, 6)
    features = video(grid, "drift", 48, 1).double()
    kept = select_input(features, grid, 60).kept
    assert torch.equal(select_input(1000 * features, grid, 60).kept, kept)
    assert torch.equal(select_input(features + 5 * torch.ones(48).double(), grid, 60).kept, kept)


def test_a_cut_is_kept_as_an_event():
    grid = TokenGrid(16, 4, 4)
    generator = torch.Generator().manual_seed(0)
    still = torch.randn(16, 32, generator=generator).repeat(16, 1)
    still[9 * 16 + 5 :] += 0
    still[9 * 16 + 5] += 4 * torch.randn(32, generator=generator)
    noisy = still + 0.02 * torch.randn(256, 32, generator=generator)
    chosen = select_input(noisy, grid, 26)
    assert bool(chosen.event[9 * 16 + 5])
    assert int(chosen.event.sum()) == 26 * 26 // 256


@pytest.mark.parametrize("shape", [(1, 1, 1), (3, 5, 7), (64, 2, 2), (65, 3, 2), (200, 4, 5)])
def test_parts_hold_every_patch_once_and_no_more_than_256(shape):
    parts = tubes(*shape)
    held = parts[parts >= 0]
    assert held.sort().values.tolist() == list(range(math.prod(shape)))
    assert bool(((parts >= 0).sum(1) <= 256).all())
    assert bool((parts >= 0).any(1).all())
    assert all(line == sorted(line) for line in (row[row >= 0].tolist() for row in parts))


def test_device_reads_do_not_grow_with_the_video():
    totals = []
    for frames in (64, 256):
        grid = TokenGrid(frames, 14, 14, "row")
        with counted_reads() as reads:
            select_input(video(grid, "drift", 16, 0), grid, grid.count // 10)
        totals.append(reads.total())
    assert max(totals) <= 40


def test_features_of_another_grid_are_refused():
    with pytest.raises(InputError, match="The grid has 8 tokens"):
        select_input(torch.randn(9, 4), TokenGrid(2, 2, 2), 3)
