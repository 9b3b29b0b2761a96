"""Quadtrees over the frames of a video, all of them at once: STTM's spatial step (see `sttm.py` for the source)."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch.nn.functional import avg_pool2d

from st_simdiff.errors import InputError

BLOCK_PATCHES = 1024
"""Patches that a CPU works on at once: few enough for its cache, many enough to outweigh the calls."""


@dataclass(frozen=True)
class Pyramid:
    """The cells of every frame's quadtree: R rows, level by level from the patches to the roots, frame by frame.

    shapes: (h, w) of each level, the patches' (H, W) first. frames: T.
    patches, coarse: float32 (T*H*W, D) and (R - T*H*W, D), the features: apart, so that the patches are not copied.
    A coarse cell is the mean of its children. norms: (R, heads), the lengths of all, head by head.
    least: (R,), the lowest cosine of a cell to its four children, +inf for patches.
    still: (R,), the cosine of a cell to the same cell of the frame before, NaN in the first frame.
    box: int64 (R, 5), (t, y0, x0, y1, x1), ends exclusive. place: (R,), the first patch, t*H*W + y0*W + x0.
    """

    shapes: list[tuple[int, int]]
    frames: int
    patches: torch.Tensor
    coarse: torch.Tensor
    norms: torch.Tensor
    least: torch.Tensor
    still: torch.Tensor
    box: torch.Tensor
    place: torch.Tensor

    def levels(self, rows: torch.Tensor) -> list[torch.Tensor]:
        """`rows` (R, ...) by level, (T, h, w, ...) each."""
        return by_level(rows, self.frames, self.shapes)

    def take(self, rows: torch.Tensor) -> torch.Tensor:
        """Features of `rows` (k,), float32 (k, D)."""
        border = len(self.patches)
        features = self.patches.index_select(0, rows.clamp(max=border - 1))
        above = (rows >= border).nonzero().flatten()
        return features.index_copy_(0, above, self.coarse.index_select(0, rows[above] - border))


@dataclass(frozen=True)
class Nodes:
    """The n cells that a video is split into, by first patch.

    cell: int64 (n,), rows of the pyramid. owner: int64 (T*H*W,), the node (0..n-1) of every patch.
    """

    cell: torch.Tensor
    owner: torch.Tensor


def build_pyramid(features: torch.Tensor, root_level: int = 1, head_dim: int | None = None) -> Pyramid:
    """features: (T, H, W, D). root_level: the last level kept, counted from the coarsest (0), which has a side of 2.

    head_dim: cosines are means over those of D / head_dim heads of this width; None for a single head.
    Raises `InputError` where heads of that width do not make up D.
    """
    frames, height, width, dim = features.shape
    shapes = [(height, width)]
    while min(shapes[-1]) > 2:
        rows, columns = shapes[-1]
        shapes.append((-(-rows // 2), -(-columns // 2)))
    shapes = shapes[: max(len(shapes) - root_level, 1)]
    box = torch.cat(boxes(frames, shapes)).to(features.device)
    place = (box[:, 0] * height + box[:, 1]) * width + box[:, 2]
    features = features.float()
    coarse = features.new_empty(len(box) - features[..., 0].numel(), dim)
    if dim % (head_dim or dim):
        raise InputError(f"head_dim must divide the features' {dim} dimensions, got {head_dim}.")
    norms = features.new_zeros(len(box), dim // (head_dim or dim))
    least, still = (features.new_full((len(box),), value) for value in (torch.inf, torch.nan))
    cells = [features, *by_level(coarse, frames, shapes[1:])]
    levels = list(zip(cells, *(by_level(rows, frames, shapes) for rows in (norms, least, still)), strict=True))
    step = max(1, BLOCK_PATCHES // (height * width)) if features.device.type == "cpu" else frames
    scratch = features.new_empty(step * (height + 1) * (width + 1), dim)
    for start in range(0, frames, step):
        block = slice(start, start + step)
        for level, (cell, norm, low, same) in enumerate(levels):
            if level:
                child, child_norm, *_ = levels[level - 1]
                fill(child[block], child_norm[block], cell[block], norm[block], low[block], scratch)
            else:
                norm[block] = lengths_by_head(cell[block], norm.shape[-1])
            own, before = slice(max(start, 1), start + step), slice(max(start, 1) - 1, min(start + step, frames) - 1)
            same[own] = cosines(cell[own], cell[before], norm[own], norm[before], scratch)
    return Pyramid(shapes, frames, features.flatten(0, 2), coarse, norms, least, still, box, place)


def by_level(rows: torch.Tensor, frames: int, shapes: list[tuple[int, int]]) -> list[torch.Tensor]:
    """Views (T, h, w, ...) of the rows of each level."""
    parts = rows.split([frames * height * width for height, width in shapes])
    return [part.unflatten(0, (frames, *shape)) for part, shape in zip(parts, shapes, strict=True)]


def fill(
    child: torch.Tensor,
    child_norm: torch.Tensor,
    parent: torch.Tensor,
    norm: torch.Tensor,
    least: torch.Tensor,
    scratch: torch.Tensor,
) -> None:
    """Writes the means of some frames' cells (B, H, W, D) into `parent` (B, h, w, D), and their lengths and lowest
    cosines to their children."""
    odd = (child.shape[1] % 2, child.shape[2] % 2)
    pooled = avg_pool2d(child.permute(0, 3, 1, 2), 2, padding=odd, count_include_pad=False)
    parent[:] = pooled.permute(0, 2, 3, 1)
    norm[:] = lengths_by_head(parent, norm.shape[-1])
    children, lengths = quads(child, scratch), quads(child_norm)
    cosine = cosines(children, parent[:, :, None, :, None], lengths, norm[:, :, None, :, None], scratch)
    least[:] = cosine.amin((2, 4))


def cosines(
    a: torch.Tensor, b: torch.Tensor, norm_a: torch.Tensor, norm_b: torch.Tensor, scratch: torch.Tensor
) -> torch.Tensor:
    """Cosine similarities along the last dimension, means over heads, given their lengths (..., heads); 0 with a zero
    vector.

    scratch: (k, D), where the products go, which may be where `a` is: on a CPU, fresh memory costs more than they do.
    """
    product = torch.mul(a, b, out=scratch[: a[..., 0].numel()].view(a.shape))
    product = product.unflatten(-1, (norm_a.shape[-1], -1)).sum(-1)
    return (product / (norm_a * norm_b).clamp(min=1e-12)).mean(-1)


def lengths_by_head(features: torch.Tensor, heads: int) -> torch.Tensor:
    """Lengths of the parts of (..., D) that each head has: (..., heads)."""
    return features.unflatten(-1, (heads, -1)).norm(dim=-1)


def quads(cells: torch.Tensor, scratch: torch.Tensor | None = None) -> torch.Tensor:
    """The four children of every cell above: (B, h, 2, w, 2, ...). cells: (B, H, W, ...).

    Children are paired from the end. The child that an odd border then lacks is the frame's cell (0, 0), as in the
    official code. A grid with such a border is copied: to the beginning of `scratch`, if given.
    """
    top, left = cells.shape[1] % 2, cells.shape[2] % 2
    if top or left:
        shape = (len(cells), cells.shape[1] + top, cells.shape[2] + left, *cells.shape[3:])
        padded = cells.new_empty(shape) if scratch is None else scratch[: math.prod(shape[:3])].view(shape)
        padded[:, :top] = padded[:, :, :left] = cells[:, :1, :1]
        padded[:, top:, left:] = cells
        cells = padded
    return cells.unflatten(2, (-1, 2)).unflatten(1, (-1, 2))


def boxes(frames: int, shapes: list[tuple[int, int]]) -> list[torch.Tensor]:
    """(t, y0, x0, y1, x1) of every cell of each level, int64 (T*h*w, 5)."""
    bounds = [torch.arange(size + 1) for size in shapes[0]]
    found = []
    for height, width in shapes:
        (y0, y1), (x0, x1) = ((bound[:-1], bound[1:]) for bound in bounds)
        t, y, x = torch.meshgrid(torch.arange(frames), torch.arange(height), torch.arange(width), indexing="ij")
        found.append(torch.stack([t, y0[y], x0[x], y1[y], x1[x]], -1).flatten(0, 2))
        bounds = [coarser(bound) for bound in bounds]
    return found


def coarser(bounds: torch.Tensor) -> torch.Tensor:
    """First rows (or columns) of the cells and the end, one level up: of an odd number the first stays alone."""
    return bounds[::2] if len(bounds) % 2 else torch.cat([bounds[:1], bounds[1::2]])


def split(pyramid: Pyramid, threshold: float) -> Nodes:
    """The spatial step: from the roots down, a cell stays whole if all its children are like it, else it splits."""
    own = pyramid.levels(torch.arange(len(pyramid.least), device=pyramid.least.device))
    closes = pyramid.levels(pyramid.least >= threshold)
    cell, whole = own[-1], closes[-1]
    for child, child_closes in zip(own[-2::-1], closes[-2::-1], strict=True):
        rows, columns = ((torch.arange(size, device=child.device) + size % 2) // 2 for size in child.shape[1:])
        inherited = whole[:, rows[:, None], columns]
        cell = torch.where(inherited, cell[:, rows[:, None], columns], child)
        whole = inherited | child_closes
    cell = cell.flatten()
    place = pyramid.place[cell]
    first = place == torch.arange(len(place), device=place.device)
    return Nodes(cell[first], (first.cumsum(0) - 1)[place])


def cell_sizes(pyramid: Pyramid) -> torch.Tensor:
    """Patches of every cell, int64 (R,)."""
    _, y0, x0, y1, x1 = pyramid.box.unbind(1)
    return (y1 - y0) * (x1 - x0)
