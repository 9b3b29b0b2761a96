"""The host waits for the device as often at 128 frames as at 8."""

import pytest
import torch
from device_reads import counted_reads

from st_simdiff.methods.base import VisualTokens
from st_simdiff.methods.st_simdiff import STSimDiff
from st_simdiff.methods.st_simdiff_adaptive import STSimDiffAdaptive
from st_simdiff.methods.st_simdiff_release import STSimDiffRelease
from st_simdiff.selection.grid import TokenGrid

METHODS = {
    "paper": STSimDiff(retention=0.3),
    "paper, sqrt(N) parts, newlines kept": STSimDiff(retention=0.3, community_cap="sqrt", newline="keep"),
    "release": STSimDiffRelease(retention=0.3),
    "adaptive, communities": STSimDiffAdaptive(retention=0.3, candidates="communities"),
}
MOST = 20


def video(grid, cuts):
    """Three regions that hold still between `cuts` cuts, and noise in one of them."""
    generator = torch.Generator().manual_seed(0)
    row = grid.width + (grid.separators == "row")
    shot = torch.arange(grid.frames) * (cuts + 1) // grid.frames
    regions = torch.randn(cuts + 1, 3, 16, generator=generator)
    place = torch.arange(grid.height * row) * 3 // (grid.height * row)
    features = regions[shot][:, place]
    features[:, place == 2] += torch.randn(grid.frames, int((place == 2).sum()), 16, generator=generator)
    return features.flatten(0, 1)


def reads_of(method, grid, cuts):
    tokens = VisualTokens(video(grid, cuts), torch.arange(grid.count), grid, num_layers=28)
    with counted_reads() as reads:
        method.reduce_input(tokens)
    return reads


@pytest.mark.parametrize("name", METHODS)
def test_device_reads_do_not_grow_with_the_video(name):
    method = METHODS[name]
    short, long = (reads_of(method, TokenGrid(frames, 14, 14, "row"), cuts=3) for frames in (8, 128))
    rounds = [reads.pop("equal") for reads in (short, long)]
    assert short == long
    assert max(rounds) + sum(long.values()) <= MOST
    still, cut = (reads_of(method, TokenGrid(64, 14, 14, "row"), cuts=cuts) for cuts in (0, 15))
    assert still.total() <= MOST
    assert cut.total() <= MOST


def test_the_counter_counts():
    mask = torch.tensor([True, False])
    with counted_reads() as reads:
        assert bool(mask[0])
        mask[mask].tolist()
        mask[mask] = False
        torch.equal(mask, mask)
        mask.nonzero()
        int(mask.sum())
        torch.repeat_interleave(torch.tensor([1, 2]))
    names = {"__bool__": 1, "boolean index": 2, "tolist": 1, "equal": 1, "nonzero": 1, "__int__": 1}
    assert dict(reads) == names | {"repeat_interleave": 1}


def test_the_worst_maze_takes_few_rounds():
    """One path that winds through the whole video: its tokens are as far apart as tokens can be."""
    grid = TokenGrid(64, 14, 15)
    features = torch.eye(2)[torch.arange(grid.count) % 2].view(64, 14, 15, 2)
    walls = torch.zeros(64, 14, 15, dtype=torch.bool)
    walls[1::2] = True
    walls[1::4, -1, -1] = False
    walls[3::4, 0, 0] = False
    walls[::2, 1::2] = True
    walls[::2, 1::4, -1] = False
    walls[::2, 3::4, 0] = False
    features = torch.where(walls[..., None], torch.randn(64, 14, 15, 2).sign() * features, torch.ones(2))
    tokens = VisualTokens(features.flatten(0, 2), torch.arange(grid.count), grid, num_layers=28)
    with counted_reads() as reads:
        chosen = STSimDiff(retention=0.3).reduce_input(tokens)
    largest = torch.bincount(chosen.details.community).max()
    assert largest > 3000
    assert reads.total() <= MOST
