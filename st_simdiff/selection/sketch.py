"""A short, half-whitened description of every patch: what is left of it once its frame's mean is taken away.

A random projection keeps distances (Johnson and Lindenstrauss, 1984) at a 56th of the width of a 3,584-wide token.
Dividing every principal axis by the square root of its singular value, halfway between plain distances and whitened
ones, keeps a few strong axes from deciding alone what is far apart.
"""

from __future__ import annotations

import math

import torch

WIDTH = 64
"""Columns of the projection."""
WEAKEST_AXIS = 1e-4
"""Principal axes of a singular value up to this share of the largest are left out."""
NOISE = 1e-6
"""Axes weaker than this share of the whole sketch, frame means included, are rounding errors of a still video."""

_CPU_BLOCK_BYTES = 1 << 22
"""Features in float32 that are projected at a time: on a CPU few enough to stay in the cache."""
_GPU_BLOCK_BYTES = 1 << 26


def patch_sketch(features: torch.Tensor, where: torch.Tensor, frames: int) -> torch.Tensor:
    """Half-whitened sketches of the n = T*P patches of a video, of root mean square distance 1: float64 (n, 64).

    features: (N, D), any floating dtype; numbers that are not finite count as 0. where: int64 (n,), the patches'
    offsets, by frame. frames: T. Every frame's mean is removed, the video's if a frame has one patch; patches without
    any difference are all zero. The device is read twice, and a third time where a number is not finite.
    """
    sketch = project(features)[where].double()
    norm = torch.linalg.vector_norm(sketch)
    sketch = sketch.unflatten(0, (frames, -1))
    mean = sketch.mean(1, keepdim=True) if sketch.shape[1] > 1 else sketch.mean(0, keepdim=True)
    sketch = (sketch - mean).flatten(0, 1)
    # A matrix of 64 x 64: the host decomposes it faster than a GPU does.
    values, axes = torch.linalg.eigh((sketch.T @ sketch).cpu())
    strength = values.clamp(min=0).sqrt()
    weak = strength <= max(WEAKEST_AXIS * strength[-1], NOISE * norm.cpu())
    scale = torch.where(weak, 0.0, strength.rsqrt())
    sketch = sketch @ (axes * scale).to(sketch.device)
    spread = (2 * sketch.square().sum(1).mean()).sqrt()
    return sketch / torch.where(spread == 0, 1.0, spread)


@torch.no_grad()
def project(features: torch.Tensor) -> torch.Tensor:
    """Features times a standard normal matrix over 8, float32 (N, 64): the same matrix in every call.

    features: (N, D), any floating dtype; numbers that are not finite count as 0.
    """
    dim = features.shape[1]
    matrix = torch.randn(dim, WIDTH, generator=torch.Generator().manual_seed(0)) / math.sqrt(WIDTH)
    matrix = matrix.to(features.device)
    step = max(1, (_CPU_BLOCK_BYTES if features.device.type == "cpu" else _GPU_BLOCK_BYTES) // (4 * dim))
    wide = features.new_empty((0 if features.dtype == torch.float32 else step), dim, dtype=torch.float32)
    sketch = features.new_empty(len(features), WIDTH, dtype=torch.float32)
    for block, out in zip(features.split(step), sketch.split(step), strict=True):
        rows = block if block.dtype == torch.float32 else wide[: len(block)].copy_(block)
        torch.mm(rows, matrix, out=out)
    # A number that is not finite reaches every column of its row: looking there saves a pass over the features.
    spoilt = (~sketch.isfinite()).any(1).nonzero().flatten()
    if spoilt.numel():
        rows = features[spoilt].float().nan_to_num(nan=0.0, posinf=0.0, neginf=0.0)
        sketch[spoilt] = (rows @ matrix).nan_to_num(nan=0.0, posinf=0.0, neginf=0.0)
    return sketch
