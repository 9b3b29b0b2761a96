"""The size limit of communities (Section 4.6): large ones are cut into compact parts."""

from __future__ import annotations

import torch


def split_large(labels: torch.Tensor, cap: int) -> torch.Tensor:
    """Cuts every community of more than `cap` nodes into ceil(|c| / cap) parts of near equal size; int64 (T, H, W).

    labels: int64 (T, H, W), the smallest raster index in each node's community; likewise on return.

    A part that is too large is cut across the axis along which it extends farthest (frames, rows or columns, the first
    of them among equals), at the rank that leaves both sides a whole number of parts. So parts are boxes of the
    community, compact in space and time, and not runs of raster indices. All communities are cut at once, in
    log2(|c| / cap) rounds; the device is read once.
    """
    count = labels.numel()
    raster = torch.arange(count, device=labels.device)
    coordinates = torch.stack(torch.meshgrid(*(raster[:n] for n in labels.shape), indexing="ij")).flatten(1)
    part = labels.flatten()
    largest = int(part.new_zeros(count).scatter_add_(0, part, torch.ones_like(part)).max())
    for _ in range((-(-largest // cap) - 1).bit_length()):
        size = part.new_zeros(count).scatter_add_(0, part, torch.ones_like(part))
        parts = (size + cap - 1) // cap
        left_size = size * (parts // 2) // parts.clamp(min=1)

        index = part.expand(3, -1)
        lowest = part.new_full((3, count), count).scatter_reduce_(1, index, coordinates, "amin")
        highest = part.new_zeros((3, count)).scatter_reduce_(1, index, coordinates, "amax")
        axis = (highest - lowest).argmax(0)
        along = coordinates.gather(0, axis[part].unsqueeze(0)).squeeze(0)

        ordered = torch.argsort(along, stable=True)
        ordered = ordered[torch.argsort(part[ordered], stable=True)]
        start = size.cumsum(0) - size
        place = torch.empty_like(part)
        place[ordered] = raster - start[part[ordered]]

        half = 2 * part + ((parts[part] > 1) & (place >= left_size[part]))
        part = part.new_full((2 * count,), count).scatter_reduce_(0, half, raster, "amin")[half]
    return part.view(labels.shape)
