"""Which methods can run in vLLM, how many tokens they keep, and which. No vLLM here.

vLLM sizes a prompt before the vision tower has seen a video. So the number of kept tokens must follow from the grid
alone, and everything must be decided from the tokens that enter the language model.
"""

from __future__ import annotations

from functools import lru_cache

import torch

from st_simdiff.errors import InputError
from st_simdiff.methods.base import Method, Reduction, VisualTokens
from st_simdiff.methods.patches import PatchMethod
from st_simdiff.methods.registry import METHODS
from st_simdiff.selection.grid import TokenGrid

_TRIED_GRID = TokenGrid(8, 4, 4)


def check_servable(method: Method, num_layers: int) -> None:
    """Raises `InputError` unless vLLM can run `method` in a decoder of `num_layers` layers."""
    refused = f"vLLM cannot run {method.name}: "
    if layers := method.layers(num_layers):
        raise InputError(f"{refused}it acts inside the language model, after layer {layers[0]}.")
    if method.vision_inputs:
        needed = " and ".join(sorted(method.vision_inputs))
        raise InputError(f"{refused}it needs the vision tower's {needed}, which vLLM does not give.")
    if not method.exact or getattr(method, "budget", "tokens") == "as_published":
        raise InputError(
            f"{refused}how many tokens it keeps is known only after it ran, and vLLM sizes the prompt before."
        )
    if method.retention < 1 and method.name not in METHODS.own:
        _try_out(method, _TRIED_GRID, num_layers)


def kept_count(method: Method, grid: TokenGrid, num_layers: int) -> int:
    """How many of the grid's tokens `method` keeps. Raises `InputError` if it cannot keep so few of them."""
    count = min(method.target(grid.count), grid.count)
    if count < grid.count:
        if isinstance(method, PatchMethod):
            method.check_count(count, grid)
        if method.name not in METHODS.own:
            _try_out(method, grid, num_layers)
    return count


def reduce_video(method: Method, features: torch.Tensor, grid: TokenGrid, num_layers: int) -> Reduction:
    """The reduction of one video to exactly `kept_count` tokens.

    features: (N, D), what enters the language model. Raises `InputError` if the method keeps another number.
    """
    count = min(method.target(grid.count), grid.count)
    everything = torch.arange(grid.count, device=features.device)
    if count == grid.count:
        return Reduction(kept=everything)
    tokens = VisualTokens(features=features, offsets=everything, grid=grid, num_layers=num_layers)
    reduction = method.reduce_input(tokens)
    kept = grid.count if reduction is None else reduction.kept.numel()
    if reduction is None or kept != count:
        raise InputError(
            f"{method.name} kept {kept} of {grid.count} tokens at retention {method.retention}, and the prompt has "
            f"places for {count}."
        )
    return reduction


@lru_cache(maxsize=1024)
def _try_out(method: Method, grid: TokenGrid, num_layers: int) -> None:
    """Runs a method of another package on random features: what it refuses must be told before the engine runs it."""
    features = torch.randn(grid.count, 8, generator=torch.Generator().manual_seed(0))
    reduce_video(method, features, grid, num_layers)
