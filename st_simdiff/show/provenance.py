"""What became of every visual token, read from the stages of any method's trace."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum

import torch

from st_simdiff.methods.base import StageRecord
from st_simdiff.selection.grid import TokenGrid


class Fate(IntEnum):
    """How a token ended. An event that is a representative as well counts as an event."""

    DROPPED = 0
    MERGED = 1
    REPRESENTATIVE = 2
    EVENT = 3
    ATTENTION = 4
    CHOSEN = 5
    SEED = 6
    FARTHEST = 7

    @property
    def kept(self) -> bool:
        return self >= Fate.REPRESENTATIVE

    @property
    def label(self) -> str:
        return _LABELS[self]


_LABELS = {
    Fate.DROPPED: "dropped",
    Fate.MERGED: "merged into a kept token",
    Fate.REPRESENTATIVE: "representative of its community",
    Fate.EVENT: "event: differs from the frame before",
    Fate.ATTENTION: "kept by attention",
    Fate.CHOSEN: "kept by the method's rule",
    Fate.SEED: "seed: nearest to the middle of the video",
    Fate.FARTHEST: "farthest from the tokens kept before it",
}


@dataclass(frozen=True)
class Provenance:
    """One entry for each of the N tokens of `grid`, on the CPU; what a method does not know is NaN or -1.

    fate: int64 (N,), values of `Fate`. stage: int64 (N,), index into `stages` of the one that dropped or merged the
    token, -1 if it was kept. owner: int64 (N,), the kept token that holds its content, itself if kept, -1 if dropped.
    representative, event: bool (N,), what the method found at its input, whatever came later.
    community: int64 (N,), smallest offset in the token's community. centrality: float64 (N,).
    seed: bool (N,), the token that farthest points start from. reach: float64 (N,), a farthest point's distance to
    those chosen before it. score: float64 (N,), the method's own score at the input.
    attention: float64 (N,), the last query's attention in the first stage that ranked the token by it;
    attention_rank: int64 (N,), 0 for the highest.
    stages: a few words on where each stage took place.
    """

    grid: TokenGrid
    fate: torch.Tensor
    stage: torch.Tensor
    owner: torch.Tensor
    representative: torch.Tensor
    event: torch.Tensor
    community: torch.Tensor
    centrality: torch.Tensor
    seed: torch.Tensor
    reach: torch.Tensor
    score: torch.Tensor
    attention: torch.Tensor
    attention_rank: torch.Tensor
    stages: tuple[str, ...]

    @property
    def kept(self) -> torch.Tensor:
        """Bool (N,)."""
        return self.fate >= Fate.REPRESENTATIVE

    @property
    def has_communities(self) -> bool:
        return bool((self.community >= 0).any())

    def counts(self) -> dict[Fate, int]:
        """How many tokens met each fate; fates that none met are left out."""
        numbers = torch.bincount(self.fate, minlength=len(Fate)).tolist()
        return {fate: numbers[fate] for fate in Fate if numbers[fate]}

    def per_frame(self) -> torch.Tensor:
        """Tokens of each fate in each frame, int64 (T, 8). Separators count to their frame."""
        index = self.grid.frame_of() * len(Fate) + self.fate
        return torch.bincount(index, minlength=self.grid.frames * len(Fate)).view(self.grid.frames, len(Fate))


def trace_provenance(grid: TokenGrid, stages: Sequence[StageRecord]) -> Provenance:
    """The provenance that a method's stages tell, oldest first (`VideoTrace.stages`).

    Details that look like a `Selection` give communities, representatives and events, those that look like an
    `InputSelection` events, seed and reach; a tensor with one number a token (or a patch) gives scores: of the method
    at the input, of attention after a layer.
    """
    count = grid.count
    alive = torch.arange(count)
    owner, lost = alive.clone(), torch.full((count,), -1)
    community, rank = lost.clone(), lost.clone()
    representative = torch.zeros(count, dtype=torch.bool)
    event, seed = representative.clone(), representative.clone()
    centrality = torch.full((count,), torch.nan, dtype=torch.float64)
    reach, score, attention = centrality.clone(), centrality.clone(), centrality.clone()
    reason = Fate.CHOSEN
    for index, stage in enumerate(stages):
        details = stage.reduction.details
        if hasattr(details, "representative") and hasattr(details, "event"):
            for target, name in (
                (representative, "representative"),
                (event, "event"),
                (community, "community"),
                (centrality, "centrality"),
                (seed, "seed"),
                (reach, "reach"),
            ):
                if getattr(details, name, None) is not None:
                    target[alive] = getattr(details, name).cpu().to(target.dtype)
        elif (scores := _scores(details, stage.before, grid)) is not None:
            where = alive if scores.numel() == alive.numel() else grid.patches().flatten()
            if stage.layer < 0:
                score[where] = scores
            else:
                reason = Fate.ATTENTION
                new = attention[where].isnan()
                attention[where[new]] = scores[new]
                rank[where[new]] = _ranks(scores)[new]
        moved = _follow(owner, alive, stage)
        changed = (moved != owner) & ((lost < 0) | (moved < 0))
        lost[changed] = index
        owner = moved
        alive = alive[stage.reduction.kept.cpu()]

    fate = torch.full((count,), int(Fate.MERGED))
    fate[owner < 0] = Fate.DROPPED
    fate[alive] = reason
    kept = owner == torch.arange(count)
    fate[kept & representative] = Fate.REPRESENTATIVE
    fate[kept & representative & ~reach.isnan()] = Fate.FARTHEST
    fate[kept & seed] = Fate.SEED
    fate[kept & event] = Fate.EVENT
    names = tuple(stage_name(stage.layer) for stage in stages)
    return Provenance(
        grid,
        fate,
        lost,
        owner,
        representative,
        event,
        community,
        centrality,
        seed,
        reach,
        score,
        attention,
        rank,
        names,
    )


def stage_name(layer: int) -> str:
    """Where a stage took place, in words. layer: 0-based decoder layer, -1 for the input."""
    return "at the input" if layer < 0 else f"after decoder layer {layer + 1}"


def _follow(owner: torch.Tensor, alive: torch.Tensor, stage: StageRecord) -> torch.Tensor:
    """`owner` after one more stage. alive: int64 (n,), the tokens that the stage was given."""
    reduction = stage.reduction
    if reduction.merged_into is not None:
        slot = reduction.merged_into.cpu()
        target = torch.where(slot < 0, -1, alive[slot.clamp(min=0)])
    else:
        target = torch.full_like(alive, -1)
    kept = reduction.kept.cpu()
    target[kept] = alive[kept]
    onwards = torch.full((owner.numel(),), -1)
    onwards[alive] = target
    return torch.where(owner < 0, -1, onwards[owner.clamp(min=0)])


def _scores(details: object, before: int, grid: TokenGrid) -> torch.Tensor | None:
    """Float64, one number a token or, at the input, a patch; None if `details` is something else."""
    patches = grid.frames * grid.height * grid.width
    if isinstance(details, torch.Tensor) and details.numel() in (before, patches) and details.is_floating_point():
        return details.detach().cpu().double().flatten()
    return None


def _ranks(scores: torch.Tensor) -> torch.Tensor:
    ranks = torch.empty(scores.numel(), dtype=torch.long)
    ranks[torch.sort(scores, descending=True, stable=True).indices] = torch.arange(scores.numel())
    return ranks
