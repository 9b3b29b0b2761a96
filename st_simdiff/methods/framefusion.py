"""FrameFusion. Fu et al., "FrameFusion: Combining Similarity and Importance for Video Token Reduction on Large Visual
Language Models", ICCV 2025; github.com/thu-nics/FrameFusion."""

from __future__ import annotations

from dataclasses import dataclass, replace
from fractions import Fraction
from typing import ClassVar

import torch

from st_simdiff.checks import check_range
from st_simdiff.errors import InputError
from st_simdiff.methods.base import Reduction, VisualTokens
from st_simdiff.methods.budgeted import Budgeted
from st_simdiff.methods.patches import finite
from st_simdiff.methods.ranking import highest


@dataclass(frozen=True)
class Progress:
    """Where the reduction of one video stands: the share merged away by each merging call so far, and what is left."""

    sparsities: tuple[float, ...] = ()
    merging: bool = True
    done: bool = False


@dataclass(frozen=True, kw_only=True)
class FrameFusion(Budgeted):
    """Merges tokens like the one at their place in the frame before, layer by layer, then prunes once by attention.

    Newline tokens take part. The published rule acts between a layer's attention and its MLP, this one between whole
    layers: the merged tokens are averages of what the MLP returns, and it works on the unmerged ones.

    similarity: a cosine from which tokens merge. least_merged: merging ends when a call merges a smaller share.
    tokens: merging stops, and pruning aims, at exactly ceil(r N). compute, as_published: r is the published `cost`, the
    mean share of tokens over the layers, counted as in the paper; the layers are the model's, not always 28.
    """

    name: ClassVar[str] = "framefusion"

    similarity: float = 0.6
    least_merged: float = 0.1

    def __post_init__(self) -> None:
        super().__post_init__()
        check_range("similarity", self.similarity, -1, 1, "a cosine similarity")
        check_range("least_merged", self.least_merged, 0, 1, "a share of the tokens")

    def layers(self, num_layers: int) -> tuple[int, ...]:
        return tuple(range(num_layers))

    def reduce_input(self, tokens: VisualTokens) -> Reduction | None:
        if self.retention == 1:
            return None
        progress = Progress()
        return self._merge(tokens, progress, self._bound(tokens, progress))

    def reduce_after_layer(self, layer: int, tokens: VisualTokens) -> Reduction | None:
        if not tokens.history or (progress := tokens.history[-1].reduction.details).done:
            return None
        last = layer >= tokens.num_layers - 2
        if last and self.budget != "tokens":
            return None
        bound = self._bound(tokens, progress)
        if progress.merging and not last:
            return self._merge(tokens, progress, bound)
        kept = highest(tokens.attention(), round(tokens.offsets.numel() * (1 - bound)))
        return Reduction(kept=kept, details=replace(progress, merging=False, done=True))

    def _bound(self, tokens: VisualTokens, progress: Progress) -> float | Fraction:
        """The share of the current tokens that may go if this call is to be the last one."""
        if self.budget == "tokens":
            return 1 - Fraction(self.count(tokens), tokens.offsets.numel())
        return upper_bound(self.retention, tokens.num_layers, progress.sparsities)

    def _merge(self, tokens: VisualTokens, progress: Progress, bound: float | Fraction) -> Reduction:
        length = tokens.grid.frame_length
        end = tokens.offsets >= tokens.grid.frames * length
        place = torch.where(end, length, tokens.offsets % length)
        cosine = similarity_before(tokens.features, place)
        merged, progress = merge_decision(cosine, bound, progress, self.similarity, self.least_merged)
        into, values = merge_runs(tokens.features, place, merged)
        kept = (~merged).nonzero().flatten()
        if kept.numel() == merged.numel():
            return Reduction(kept=kept, details=progress)
        return Reduction(kept=kept, values=values[kept].to(tokens.features.dtype), merged_into=into, details=progress)


def upper_bound(cost: float, num_layers: int, sparsities: tuple[float, ...]) -> float:
    """The share to remove now so that the mean over the layers of the share of tokens left comes to `cost`.

    sparsities: what earlier calls removed, each a share of the tokens it met. Raises `InputError` when the layers so
    far have used up the cost.
    """
    left, used = 1.0, 0.0
    for sparsity in sparsities:
        left *= 1 - sparsity
        used += left
    remaining = num_layers * cost - used
    if remaining < 0 or num_layers <= len(sparsities):
        raise InputError(
            f"FrameFusion cannot reach a mean share of {cost} over {num_layers} layers: "
            f"the first {len(sparsities)} alone use {used / num_layers:.3f}."
        )
    return max(0.0, 1 - remaining / ((num_layers - len(sparsities)) * left))


def similarity_before(features: torch.Tensor, place: torch.Tensor) -> torch.Tensor:
    """Cosine of every token to the one before it at the same place, float32 (n,); -2 for the first of a place.

    features: (n, D), in order of time. place: int64 (n,), the place in the frame.
    """
    order = torch.sort(place, stable=True).indices
    sorted_features, sorted_place = finite(features)[order], place[order]
    now, before = sorted_features[1:], sorted_features[:-1]
    cosine = torch.nn.functional.cosine_similarity(now, before, dim=-1)
    cosine = torch.where(sorted_place[1:] == sorted_place[:-1], cosine, -2.0)
    return torch.full_like(place, -2, dtype=torch.float32).scatter(0, order[1:], cosine)


def merge_decision(
    cosine: torch.Tensor, bound: float | Fraction, progress: Progress, similarity: float, least_merged: float
) -> tuple[torch.Tensor, Progress]:
    """Which tokens merge into the one before them, bool (n,), and how things stand then.

    All that are similar enough, if that is a share below `bound`; else the int(bound n) most similar, and all is done.
    """
    similar = cosine >= similarity
    share = int(similar.sum()) / cosine.numel()
    if share < bound:
        return similar, replace(progress, sparsities=(*progress.sparsities, share), merging=share >= least_merged)
    chosen = torch.zeros_like(similar)
    chosen[highest(cosine, int(bound * cosine.numel()))] = True
    return chosen, replace(progress, merging=False, done=True)


def merge_runs(features: torch.Tensor, place: torch.Tensor, merged: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Unweighted means of the runs of merged tokens and the token before each.

    features: (n, D), in order of time. place: int64 (n,). merged: bool (n,).
    Returns int64 (n,), the first token of everyone's run, and float32 (n, D), where a first token holds its run's mean.
    """
    order = torch.sort(place, stable=True).indices
    starts = ~merged[order]
    run = starts.cumsum(0) - 1
    first = torch.zeros_like(order).scatter(0, order, order[starts][run])
    total = torch.zeros(features.shape, device=features.device).index_add_(0, first, features.float())
    return first, total / torch.bincount(first, minlength=len(first)).clamp(min=1)[:, None]
