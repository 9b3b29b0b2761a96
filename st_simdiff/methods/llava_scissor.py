"""LLaVA-Scissor. Sun et al., "LLaVA-Scissor: Token Compression with Semantic Connected Components for Video LLMs",
2025, arXiv 2506.21862; github.com/HumanMLLM/LLaVA-Scissor."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from st_simdiff.checks import check_range
from st_simdiff.methods.budgeted import between, nearest_threshold
from st_simdiff.methods.patches import Choice, Patches, PatchMethod, unit

BLOCK_VALUES = 1 << 24
"""Entries of a similarity matrix that are worked on at once."""


@dataclass(frozen=True, kw_only=True)
class LLaVAScissor(PatchMethod):
    """Merges the connected components of like patches, in each frame and then over all frames, into means.

    Only a threshold decides how much is left: it is searched for the count nearest to the budget. Components are
    exact, where the official code samples them. as_published: the threshold `tau` (0.9 in the README, 0.95 in the
    code's default) decides; `retention` then only says that tokens go.
    """

    name: ClassVar[str] = "llava_scissor"
    exact: ClassVar[bool] = False

    tau: float = 0.9

    def __post_init__(self) -> None:
        super().__post_init__()
        check_range("tau", self.tau, -1, 1, "a cosine similarity")

    def choose(self, patches: Patches, count: int) -> Choice:
        similarity = frame_similarity(patches.features)
        candidates = critical_values(patches.features, similarity)
        tau = nearest_threshold(
            lambda tau: len(seeds(patches.features, similarity, tau)[0]), between(candidates), count
        )
        return self._merge(patches, similarity, tau)

    def choose_published(self, patches: Patches) -> Choice:
        return self._merge(patches, frame_similarity(patches.features), self.tau)

    def _merge(self, patches: Patches, similarity: torch.Tensor, tau: float) -> Choice:
        places, means, _ = seeds(patches.features, similarity, tau)
        values, nearest = absorb(patches.features.flatten(0, 1), means)
        owner = places[nearest]
        return Choice(places, values, owner.scatter(0, places, places), details=tau)


def frame_similarity(features: torch.Tensor) -> torch.Tensor:
    """Cosines of the patches of each frame, float32 (T, P, P). features: (T, P, D)."""
    vectors = unit(features)
    return vectors @ vectors.mT


def critical_values(features: torch.Tensor, similarity: torch.Tensor) -> torch.Tensor:
    """Thresholds between which the count of components hardly changes, (n,).

    They are the cosines in a frame, and those of the same place in neighbouring frames; of other pairs there are too
    many to list.
    """
    vectors = unit(features)
    temporal = (vectors[:-1] * vectors[1:]).sum(-1).flatten()
    return torch.cat([similarity.flatten(), temporal])


def seeds(features: torch.Tensor, similarity: torch.Tensor, tau: float) -> tuple[torch.Tensor, torch.Tensor, int]:
    """Components in each frame, then components of their means.

    features: (T, P, D). similarity: (T, P, P). An edge is a cosine above `tau`. A component is named by its member of
    highest degree, the earliest among equals; its mean is unweighted.
    Returns int64 (m,), the patch that names each component, ascending; their means, float32 (m, D); and how many
    components the first step left.
    """
    flat = features.flatten(0, 1).float()
    name = components(similarity > tau)
    offset = torch.arange(len(features), device=flat.device)[:, None] * features.shape[1]
    places, means = component_means(flat, (name + offset).flatten())
    vectors = unit(means)
    edges = torch.cat([block @ vectors.T > tau for block in vectors.split(rows_of_block(len(vectors)))])
    name = components(edges[None])
    chosen, merged = component_means(means, name[0])
    return places[chosen], merged, len(places)


def components(edges: torch.Tensor) -> torch.Tensor:
    """Connected components of graphs given by dense symmetric matrices.

    edges: bool (B, n, n). Returns for every node the member of its component that has the highest degree, the
    earliest among equals, int64 (B, n). The smallest label spreads to all neighbours and pointers jump; the number of
    rounds grows with the logarithm of the longest path.
    """
    size = edges.shape[-1]
    label = torch.arange(size, device=edges.device).expand(edges.shape[:2])
    blocks = edges.split(rows_of_block(size * len(edges)), dim=1)
    while True:
        best = torch.cat([torch.where(block, label[:, None], size).amin(-1) for block in blocks], 1)
        best = torch.minimum(best, label)
        hooked = best.scatter_reduce(1, label, best, "amin")
        hooked = hooked.gather(1, hooked)
        hooked = hooked.gather(1, hooked)
        if torch.equal(hooked, label):
            break
        label = hooked
    degree = edges.sum(-1) - edges.diagonal(dim1=1, dim2=2).long()
    earliness = size - 1 - torch.arange(size, device=edges.device)
    key = torch.zeros_like(degree).scatter_reduce(1, label, degree * size + earliness, "amax")
    return size - 1 - key.gather(1, label) % size


def rows_of_block(columns: int) -> int:
    """How many rows of so many columns are worked on at once."""
    return max(1, BLOCK_VALUES // max(columns, 1))


def component_means(features: torch.Tensor, name: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The names, int64 (m,), ascending, and the mean of the members of each, float32 (m, D)."""
    names, group, sizes = torch.unique(name, return_inverse=True, return_counts=True)
    total = torch.zeros(len(names), features.shape[1], device=features.device).index_add_(0, group, features)
    return names, total / sizes[:, None]


def absorb(features: torch.Tensor, seeds: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """(seed + sum of the tokens nearest to it) / (their number + 1), float32 (m, D), and the seed of each, (N,).

    features: (N, D), all original tokens. seeds: float32 (m, D).
    """
    targets = unit(seeds).T
    blocks = features.split(rows_of_block(len(seeds)))
    nearest = torch.cat([(unit(block) @ targets).argmax(1) for block in blocks])
    total = seeds.clone().index_add_(0, nearest, features.float())
    return total / (torch.bincount(nearest, minlength=len(seeds)) + 1)[:, None], nearest
