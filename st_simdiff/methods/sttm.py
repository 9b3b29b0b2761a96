"""STTM. Hyun et al., "Multi-Granular Spatio-Temporal Token Merging for Training-Free Acceleration of Video LLMs",
ICCV 2025; github.com/HYUNJS/STTM."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch.nn.functional import embedding_bag

from st_simdiff.checks import check_flag, check_range, check_whole
from st_simdiff.errors import InputError, unknown
from st_simdiff.methods.base import Reduction, VisualTokens
from st_simdiff.methods.budgeted import Budgeted, between, nearest_threshold
from st_simdiff.methods.patches import Choice, to_slots
from st_simdiff.methods.quadtree import BLOCK_PATCHES, Nodes, Pyramid, build_pyramid, cell_sizes, cosines, split
from st_simdiff.selection.grid import spread

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


@dataclass(frozen=True, kw_only=True)
class STTM(Budgeted):
    """Merges quadtree cells of like patches, then like cells of neighbouring frames, into their means.

    Only thresholds decide how much is left: the spatial one is searched for the count nearest to the budget, and the
    temporal one follows `gap` below it (0.3 in the settings published for VideoMME). Separators are dropped.
    as_published: the thresholds for `task` at retention 0.5 or 0.3 on LLaVA-Video.

    root_level: where the quadtrees begin, 0 the coarsest. weighted: means weigh cells by their patches. head_dim:
        cosines are means over heads of this width (the official `sim_per_head`); None takes the whole vector.
    """

    name: ClassVar[str] = "sttm"
    exact: ClassVar[bool] = False
    renumbers_positions: ClassVar[bool] = True

    gap: float = 0.3
    root_level: int = 1
    weighted: bool = False
    head_dim: int | None = None
    task: str = "videomme"

    def __post_init__(self) -> None:
        super().__post_init__()
        tasks = {task for task, _ in PUBLISHED}
        if not isinstance(self.task, str) or self.task not in tasks:
            raise unknown("task of STTM's published thresholds", self.task, tasks)
        check_flag("weighted", self.weighted)
        if self.published and self.retention != 1 and (self.task, self.retention) not in PUBLISHED:
            raise InputError(f"STTM published thresholds for a retention of 0.3 and 0.5, got {self.retention!r}.")
        check_range("gap", self.gap, 0, 2, "a difference of cosine similarities")
        check_whole("root_level", self.root_level, 0, "a level of the quadtree, 0 the coarsest")
        if self.head_dim is not None:
            check_whole("head_dim", self.head_dim, 1, "the width of a head")

    @property
    def asks_query(self) -> bool:
        return False

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
        pyramid = build_pyramid(tokens.features[where], self.root_level, self.head_dim)
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

        spatial = nearest_threshold(count_of, between(critical_values(pyramid, self.gap)), target)
        return spatial, spatial - self.gap


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


def critical_values(pyramid: Pyramid, gap: float) -> torch.Tensor:
    """Spatial thresholds between which the count of merged tokens hardly changes, (n,).

    They are the lowest cosines within cells, and the cosines of cells to the same cell of the next frame plus `gap`;
    those between cells of different levels are left out.
    """
    return torch.cat(
        [pyramid.least[pyramid.least.isfinite()], pyramid.still + gap, pyramid.least.new_tensor([-2.0, 3.0])]
    )
