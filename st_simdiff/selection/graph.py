"""The spatio-temporal graph of a video's visual tokens as three planes of edge weights (Section 4.2, Eq. 1 to 3).

Every node has at most one right, one lower and one next-frame neighbour, so dense planes hold the whole graph:
no edge list, no index arithmetic, and the planes live where the features live.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import dataclass

import torch

from st_simdiff.selection.grid import TokenGrid, check_features

_CPU_BLOCK_BYTES = 1 << 20
"""Features per block on a CPU: small enough for a block and its products to stay in the cache."""
_GPU_BLOCK_BYTES = 1 << 27
SAME = 5e-7
"""How far rounding in float32 takes the cosine of two copies from 1."""


@dataclass(frozen=True)
class Planes:
    """One value per edge of a T x H x W node grid.

    right: (T, H, W-1), edge (t,h,w)-(t,h,w+1). down: (T, H-1, W), edge (t,h,w)-(t,h+1,w).
    next: (T-1, H, W), edge (t,h,w)-(t+1,h,w).
    """

    right: torch.Tensor
    down: torch.Tensor
    next: torch.Tensor

    def __iter__(self) -> Iterator[torch.Tensor]:
        return iter((self.right, self.down, self.next))

    @property
    def shape(self) -> tuple[int, int, int]:
        """(T, H, W) of the nodes."""
        return self.right.shape[0], self.right.shape[1], self.down.shape[2]


def node_view(features: torch.Tensor, grid: TokenGrid, *, newline_column: bool = True) -> torch.Tensor:
    """The features on the node grid, (T, H, W', D), as a view of (N, D): nothing is copied.

    A newline token after every row is the last column (W' = W + 1) if `newline_column`, else left out.
    Separators after a frame or at the end have no place on the grid: they are nodes without neighbours.
    Raises `InputError` unless there is one feature vector a token.
    """
    check_features(features, grid)
    row = grid.width + (grid.separators == "row")
    frames = features[: grid.frames * grid.frame_length].unflatten(0, (grid.frames, grid.frame_length))
    nodes = frames[:, : grid.height * row].unflatten(1, (grid.height, row))
    return nodes if newline_column else nodes[:, :, : grid.width]


def cosine_planes(nodes: torch.Tensor) -> Planes:
    """Cosine similarity of every pair of neighbours (Eq. 3), float32, accumulated in float32 for any dtype.

    nodes: (T, H, W, D) features. Values lie in [-1, 1]; those within `SAME` of 1 are 1, so that copies do not fall
    below a threshold of 1. The cosine of a zero vector with anything is 0. An edge of a token with a non-finite
    feature is NaN.
    """
    return cosines_and_norms(nodes)[0]


@torch.no_grad()
def cosines_and_norms(nodes: torch.Tensor) -> tuple[Planes, torch.Tensor]:
    """The planes of `cosine_planes`, and 1 / |x| of every node, float32 (T, H, W), 0 for a zero vector.

    The features are read once: norms and the three kinds of products are taken of a block of frames while it is in
    the cache, and half precision is converted once a block.
    """
    frames, height, width, dim = nodes.shape
    size = _CPU_BLOCK_BYTES if nodes.device.type == "cpu" else _GPU_BLOCK_BYTES
    step = max(1, size // (4 * height * width * dim))
    new = functools.partial(torch.empty, dtype=torch.float32, device=nodes.device)
    norm = new(frames, height, width)
    planes = Planes(new(frames, height, width - 1), new(frames, height - 1, width), new(frames - 1, height, width))
    products = new(min(step, frames) * height * width * dim)

    def multiply(one: torch.Tensor, other: torch.Tensor, out: torch.Tensor) -> None:
        room = products[: one.numel()].view(one.shape)
        torch.sum(torch.mul(one, other, out=room), -1, out=out)

    before = nodes[:0].float()
    for start in range(0, frames, step):
        here = nodes[start : start + step].float()
        block = slice(start, start + step)
        torch.linalg.vector_norm(here, dim=-1, out=norm[block])
        multiply(here[:, :, 1:], here[:, :, :-1], planes.right[block])
        multiply(here[:, 1:], here[:, :-1], planes.down[block])
        multiply(here[1:], here[:-1], planes.next[start : start + len(here) - 1])
        if start:
            multiply(here[:1], before[-1:], planes.next[start - 1 : start])
        before = here

    scale = torch.where(norm == 0, 0.0, 1 / norm)
    planes.right.mul_(scale[:, :, 1:] * scale[:, :, :-1])
    planes.down.mul_(scale[:, 1:] * scale[:, :-1])
    planes.next.mul_(scale[1:] * scale[:-1])
    for plane in planes:
        plane.clamp_(-1, 1).masked_fill_(plane >= 1 - SAME, 1.0)
    return planes, scale


def threshold(
    planes: Planes,
    tau_sim: float | torch.Tensor,
    *,
    spatial: bool = True,
    temporal: bool = True,
    right: bool = True,
    down: bool = True,
) -> Planes:
    """The edges of G' (Section 4.3): weight > tau_sim, strictly. NaN is no edge. Boolean planes."""
    return Planes(
        (planes.right > tau_sim) & (spatial and right),
        (planes.down > tau_sim) & (spatial and down),
        (planes.next > tau_sim) & temporal,
    )


def enabled_planes(
    planes: Planes, *, spatial: bool = True, temporal: bool = True, right: bool = True, down: bool = True
) -> list[torch.Tensor]:
    """The planes of those kinds of edges that are switched on."""
    switches = ((planes.right, spatial and right), (planes.down, spatial and down), (planes.next, temporal))
    return [plane for plane, switched_on in switches if switched_on]
