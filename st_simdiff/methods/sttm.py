"""STTM. Hyun et al., "Multi-Granular Spatio-Temporal Token Merging for Training-Free Acceleration of Video LLMs",
ICCV 2025; github.com/HYUNJS/STTM."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch.nn.functional import avg_pool2d, embedding_bag

from st_simdiff.errors import InputError, unknown
from st_simdiff.methods.base import Reduction, VisualTokens
from st_simdiff.methods.budgeted import Budgeted, nearest_threshold
from st_simdiff.methods.checks import check_range, check_whole
from st_simdiff.methods.patches import Choice, spread, to_slots

LAYER = 1
"""0-based index of the decoder layer after which the tokens merge: they enter layer 2 merged."""

PUBLISHED = {
    ("videomme", 0.5): (0.85, 0.55),
    ("videomme", 0.3): (0.80, 0.50),
    ("longvideobench", 0.5): (0.85, 0.60),
    ("longvideobench", 0.3): (0.80, 0.55),
    ("egoschema", 0.5): (0.85, 0.55),
    ("egoschema", 0.3): (0.80, 0.60),
}
"""(spatial, temporal) thresholds for LLaVA-Video by benchmark and retention."""

BLOCK_PATCHES = 1024
"""Patches that a CPU works on at once: few enough for its cache, many enough to outweigh the calls."""


@dataclass(frozen=True, kw_only=True)
class STTM(Budgeted):
    """Merges quadtree cells of like patches, then like cells of neighbouring frames, into their means.

    Only thresholds decide how much is left: the spatial one is searched for the count nearest to the budget, and the
    temporal one follows `gap` below it (0.3 in the settings published for VideoMME). Separators are dropped.
    as_published: the thresholds for `task` at retention 0.5 or 0.3 on LLaVA-Video.

    root_level: where the quadtrees begin, 0 the coarsest. weighted: means weigh cells by their patches.
    """

    name: ClassVar[str] = "sttm"
    exact: ClassVar[bool] = False
    renumbers_positions: ClassVar[bool] = True

    gap: float = 0.3
    root_level: int = 1
    weighted: bool = False
    task: str = "videomme"

    def __post_init__(self) -> None:
        super().__post_init__()
        tasks = {task for task, _ in PUBLISHED}
        if self.task not in tasks:
            raise unknown("task of STTM's published thresholds", self.task, tasks)
        if self.published and self.retention != 1 and (self.task, self.retention) not in PUBLISHED:
            raise InputError(f"STTM published thresholds for a retention of 0.3 and 0.5, got {self.retention!r}.")
        check_range("gap", self.gap, 0, 2, "a difference of cosine similarities")
        check_whole("root_level", self.root_level, 0, "a level of the quadtree, 0 the coarsest")

    def layers(self, num_layers: int) -> tuple[int, ...]:
        if num_layers <= LAYER + 1:
            raise InputError(f"STTM merges the tokens that enter layer {LAYER + 1}; the model has {num_layers} layers.")
        return (LAYER,)

    def reduce_after_layer(self, layer: int, tokens: VisualTokens) -> Reduction | None:
        if self.retention == 1:
            return None
        if tokens.offsets.numel() != tokens.grid.count:
            raise InputError(
                f"STTM merges cells of the whole grid of {tokens.grid.count} tokens, and only "
                f"{tokens.offsets.numel()} of them have come to layer {LAYER + 1}."
            )
        where = tokens.grid.patches(tokens.features.device)
        target = None if self.published else self.count(tokens, layer)
        if target is not None and target >= where.numel():
            separators = spread(tokens.grid.separator_offsets(where.device), target - where.numel())
            return Reduction(kept=torch.cat([where.flatten(), separators]).sort().values)
        pyramid = build_pyramid(tokens.features[where], self.root_level)
        spatial, temporal = PUBLISHED[self.task, self.retention] if target is None else self.search(pyramid, target)
        nodes = split(pyramid, spatial)
        label = representatives(temporal_pairs(pyramid, nodes, temporal), len(nodes.cell))
        kept, values = merge(pyramid, nodes, label, weighted=self.weighted)
        place = pyramid.place[nodes.cell]
        choice = Choice(
            place[kept], values, place[label[nodes.owner]], details={"spatial": spatial, "temporal": temporal}
        )
        return to_slots(choice, where.flatten(), where.new_empty(0), tokens)

    def search(self, pyramid: Pyramid, target: int) -> tuple[float, float]:
        """The thresholds whose count is nearest to `target`."""

        def count_of(spatial: float) -> int:
            nodes = split(pyramid, spatial)
            label = representatives(temporal_pairs(pyramid, nodes, spatial - self.gap), len(nodes.cell))
            return int((label == torch.arange(len(label), device=label.device)).sum())

        spatial = nearest_threshold(count_of, critical_values(pyramid, self.gap), target)
        return spatial, spatial - self.gap


@dataclass(frozen=True)
class Pyramid:
    """The cells of every frame's quadtree: R rows, level by level from the patches to the roots, frame by frame.

    shapes: (h, w) of each level, the patches' (H, W) first. frames: T.
    patches, coarse: float32 (T*H*W, D) and (R - T*H*W, D), the features: apart, so that the patches are not copied.
    A coarse cell is the mean of its children. norms: (R,), the lengths of all.
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


def build_pyramid(features: torch.Tensor, root_level: int = 1) -> Pyramid:
    """features: (T, H, W, D). root_level: the last level kept, counted from the coarsest (0), which has a side of 2."""
    frames, height, width, dim = features.shape
    shapes = [(height, width)]
    while min(shapes[-1]) > 2:
        shapes.append(tuple(-(-side // 2) for side in shapes[-1]))
    shapes = shapes[: max(len(shapes) - root_level, 1)]
    box = torch.cat(boxes(frames, shapes)).to(features.device)
    place = (box[:, 0] * height + box[:, 1]) * width + box[:, 2]
    features = features.float()
    coarse = features.new_empty(len(box) - features[..., 0].numel(), dim)
    norms, least, still = (features.new_full((len(box),), value) for value in (0, torch.inf, torch.nan))
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
                norm[block] = cell[block].norm(dim=-1)
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
    norm[:] = parent.norm(dim=-1)
    children, lengths = quads(child, scratch), quads(child_norm)
    cosine = cosines(children, parent[:, :, None, :, None], lengths, norm[:, :, None, :, None], scratch)
    least[:] = cosine.amin((2, 4))


def cosines(
    a: torch.Tensor, b: torch.Tensor, norm_a: torch.Tensor, norm_b: torch.Tensor, scratch: torch.Tensor
) -> torch.Tensor:
    """Cosine similarities along the last dimension, given the lengths; 0 with a zero vector.

    scratch: (k, D), where the products go, which may be where `a` is: on a CPU, fresh memory costs more than they do.
    """
    product = torch.mul(a, b, out=scratch[: a[..., 0].numel()].view(a.shape))
    return product.sum(-1) / (norm_a * norm_b).clamp(min=1e-12)


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


def temporal_pairs(pyramid: Pyramid, nodes: Nodes, threshold: float) -> torch.Tensor:
    """Nodes of neighbouring frames, one within the other's box, of cosine >= `threshold`: (earlier, later), (L, 2).

    Quadtrees over one grid: two nodes that share a patch are nested, and no others.
    """
    owner = nodes.owner.unflatten(0, (pyramid.frames, -1))
    pairs = torch.unique(owner[:-1].flatten() * len(nodes.cell) + owner[1:].flatten())
    pairs = torch.stack([pairs // len(nodes.cell), pairs % len(nodes.cell)], 1)
    cells = nodes.cell[pairs]
    cosine = pyramid.still[cells[:, 1]]
    nested = (pyramid.box[cells[:, 0], 1:] != pyramid.box[cells[:, 1], 1:]).any(1).nonzero().flatten()
    scratch = pyramid.patches.new_empty(min(BLOCK_PATCHES, len(nested)), pyramid.patches.shape[1])
    for block in nested.split(BLOCK_PATCHES):
        earlier, later = cells[block].unbind(1)
        cosine[block] = cosines(
            pyramid.take(earlier), pyramid.take(later), pyramid.norms[earlier], pyramid.norms[later], scratch
        )
    return pairs[cosine >= threshold]


def representatives(pairs: torch.Tensor, count: int) -> torch.Tensor:
    """The node that stands for each of `count` nodes, int64 (count,), by the published iteration.

    Every pair's smaller label goes to both, then labels are looked up once; this ends when another look-up changes
    nothing, which may be before the labels of a long chain have met: not the connected components.
    """
    label = torch.arange(count, device=pairs.device)
    earlier, later = pairs.unbind(1)
    while True:
        smaller = torch.minimum(label[earlier], label[later])
        label = label.scatter_reduce(0, later, smaller, "amin").scatter_reduce(0, earlier, smaller, "amin")
        label = label[label]
        if torch.equal(label, label[label]):
            return label


def merge(
    pyramid: Pyramid, nodes: Nodes, label: torch.Tensor, *, weighted: bool = False
) -> tuple[torch.Tensor, torch.Tensor]:
    """The representatives, int64 (m,), ascending, and the mean of their nodes, float32 (m, D).

    label: (n,), every node's representative. weighted: by patches, else every node counts once.
    """
    order = torch.sort(label, stable=True).indices
    kept, counts = torch.unique_consecutive(label[order], return_counts=True)
    group, rows = torch.repeat_interleave(counts), nodes.cell[order]
    weight = cell_sizes(pyramid)[rows].float() if weighted else torch.ones_like(rows, dtype=torch.float32)
    share = weight / torch.zeros(len(kept), device=label.device).index_add_(0, group, weight)[group]
    border = len(pyramid.patches)
    patch, above = (rows < border).nonzero().flatten(), (rows >= border).nonzero().flatten()
    sizes = torch.bincount(group[patch], minlength=len(kept))
    starts = sizes.cumsum(0) - sizes
    means = embedding_bag(rows[patch], pyramid.patches, starts, mode="sum", per_sample_weights=share[patch])
    return kept, means.index_add_(0, group[above], pyramid.coarse[rows[above] - border].mul_(share[above, None]))


def cell_sizes(pyramid: Pyramid) -> torch.Tensor:
    """Patches of every cell, int64 (R,)."""
    _, y0, x0, y1, x1 = pyramid.box.unbind(1)
    return (y1 - y0) * (x1 - x0)


def critical_values(pyramid: Pyramid, gap: float) -> torch.Tensor:
    """Spatial thresholds between which the count of merged tokens hardly changes, (n,).

    They are the lowest cosines within cells, and the cosines of cells to the same cell of the next frame plus `gap`;
    those between cells of different levels are left out.
    """
    return torch.cat(
        [pyramid.least[pyramid.least.isfinite()], pyramid.still + gap, pyramid.least.new_tensor([-2.0, 3.0])]
    )
