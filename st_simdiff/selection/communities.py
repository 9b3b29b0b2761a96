"""Communities of G': connected components on the planes, without a loop over tokens or edges."""

from __future__ import annotations

import torch

from st_simdiff.selection.graph import Planes


def connected_components(edges: Planes) -> torch.Tensor:
    """Component label of every node: the smallest raster index in its component, int64 (T, H, W).

    Every round offers each node's root the smallest label among the node's neighbours, then jumps pointers;
    a round that changes nothing ends it. The rounds grow with the logarithm of the longest path, in practice 5 to 10,
    and each reads the device once.
    """
    right, down, following = edges.right, edges.down, edges.next
    shape = (right.shape[0], right.shape[1], down.shape[2])
    parent = torch.arange(right.shape[0] * right.shape[1] * down.shape[2], device=right.device)
    outside = parent.numel()
    while True:
        grid = parent.view(shape)
        best = grid.clone()
        for mask, later, earlier in (
            (right, (..., slice(1, None)), (..., slice(None, -1))),
            (down, (slice(None), slice(1, None)), (slice(None), slice(None, -1))),
            (following, (slice(1, None),), (slice(None, -1),)),
        ):
            best[later] = torch.minimum(best[later], torch.where(mask, grid[earlier], outside))
            best[earlier] = torch.minimum(best[earlier], torch.where(mask, grid[later], outside))
        best = best.view(-1)
        hooked = best.scatter_reduce(0, parent, best, "amin", include_self=True)
        hooked = hooked[hooked]
        hooked = hooked[hooked]
        if torch.equal(hooked, parent):
            return parent.view(shape)
        parent = hooked
