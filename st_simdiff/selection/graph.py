"""The spatio-temporal graph of a video's visual tokens as three planes of edge weights (Section 4.2, Eq. 1 to 3).

Every node has at most one right, one lower and one next-frame neighbour, so dense planes hold the whole graph:
no edge list, no index arithmetic, and the planes live where the features live.
"""

from __future__ import annotations

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


def inverse_norms(nodes: torch.Tensor) -> torch.Tensor:
    """1 / |x| of every node, float32 (T, H, W). A zero vector gets 0, so its cosine with anything is 0."""
    wide = torch.promote_types(nodes.dtype, torch.float32)
    norms = torch.empty(nodes.shape[:3], dtype=torch.float32, device=nodes.device)
    for block in _frame_blocks(nodes):
        norms[block] = torch.linalg.vector_norm(nodes[block].to(wide), dim=-1)
    return torch.where(norms == 0, 0.0, 1.0 / norms)


def cosine_planes(nodes: torch.Tensor, inverse_norm: torch.Tensor | None = None) -> Planes:
    """Cosine similarity of every pair of neighbours (Eq. 3), float32, accumulated in float32 for any dtype.

    nodes: (T, H, W, D) features. Values lie in [-1, 1]; those within `SAME` of 1 are 1, so that copies do not fall
    below a threshold of 1. An edge of a token with a non-finite feature is NaN.
    """
    frames, height, width, _ = nodes.shape
    scale = inverse_norms(nodes) if inverse_norm is None else inverse_norm
    right = scale.new_empty(frames, height, width - 1)
    down = scale.new_empty(frames, height - 1, width)
    following = scale.new_empty(frames - 1, height, width)
    for block in _frame_blocks(nodes):
        here = nodes[block.start : block.stop + 1].float()
        own = here[: block.stop - block.start]
        right[block] = (own[:, :, 1:] * own[:, :, :-1]).sum(-1)
        down[block] = (own[:, 1:] * own[:, :-1]).sum(-1)
        following[block] = (here[1:] * here[:-1]).sum(-1)
    right *= scale[:, :, 1:] * scale[:, :, :-1]
    down *= scale[:, 1:] * scale[:, :-1]
    following *= scale[1:] * scale[:-1]
    return Planes(*(plane.clamp_(-1, 1).masked_fill_(plane >= 1 - SAME, 1.0) for plane in (right, down, following)))


def _frame_blocks(nodes: torch.Tensor) -> list[slice]:
    """The frames of (T, H, W, D) in blocks that are worked on at a time."""
    size = _CPU_BLOCK_BYTES if nodes.device.type == "cpu" else _GPU_BLOCK_BYTES
    step = max(1, size // (4 * nodes[0].numel()))
    return [slice(start, min(start + step, len(nodes))) for start in range(0, len(nodes), step)]


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
