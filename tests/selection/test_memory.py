"""How much memory the selection takes beside the features, counted as torch allocates it."""

import weakref

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from st_simdiff.selection.grid import TokenGrid
from st_simdiff.selection.release import select_release
from st_simdiff.selection.select import select
from st_simdiff.selection.select_input import select_input


class PeakMemory(TorchDispatchMode):
    """The most bytes that tensors made inside the block held at a time; those in `outside` do not count."""

    def __init__(self, *outside):
        super().__init__()
        self.known = {tensor.untyped_storage()._cdata for tensor in outside}
        self.live, self.peak = 0, 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        for tensor in tree_leaves(result):
            if isinstance(tensor, torch.Tensor):
                self._count(tensor.untyped_storage())
        return result

    def _count(self, storage):
        key, size = storage._cdata, storage.nbytes()
        if key in self.known:
            return
        self.known.add(key)
        self.live += size
        self.peak = max(self.peak, self.live)
        weakref.finalize(storage, self._free, key, size)

    def _free(self, key, size):
        self.known.discard(key)
        self.live -= size


def pairs(grid, dim):
    """Two copies side by side and nothing else alike: as many communities of more than one token as there can be."""
    features = torch.randn(grid.frames, grid.height, grid.width // 2, 1, dim)
    return features.expand(-1, -1, -1, 2, -1).reshape(-1, dim)


def still(grid, dim):
    return torch.randn(1, dim).expand(grid.count, dim).clone()


def noise(grid, dim):
    return torch.randn(grid.count, dim)


@pytest.mark.parametrize("make", [pairs, still, noise])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("mode", ["paper", "sqrt(N) parts", "adaptive", "release", "input"])
def test_extra_memory_stays_under_three_times_the_features(make, dtype, mode):
    grid = TokenGrid(32, 14, 14)
    features = make(grid, 896).to(dtype)
    settings = {
        "paper": {},
        "sqrt(N) parts": {"community_cap": "sqrt"},
        "adaptive": {"tau_sim": "q0.25", "tau_diff": "q0.05", "community_cap": 64, "ranking": "farthest"},
    }
    with PeakMemory(features) as memory:
        if mode == "release":
            select_release(features, grid, 0.3)
        elif mode == "input":
            select_input(features, grid, 1882)
        else:
            select(features, grid, 0.3, **settings[mode])
    size = features.numel() * features.element_size()
    assert 0.01 * size < memory.peak < 3 * size
    assert memory.live < size
    if mode in ("paper", "sqrt(N) parts", "release"):  # blocks of the features, and what is known of every token
        assert memory.peak < 16e6 + 300 * grid.count


def test_the_counter_counts():
    with PeakMemory() as memory:
        first = torch.zeros(1000)
        second = first[:10].double() + first.sum()
        assert memory.live >= 4000 + 80
        del second
        first = None
    assert memory.live == 0
    assert 4080 <= memory.peak < 4400
