"""What methods that choose among a video's patches share: ranking, the separators, and the way back to token slots."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch

from st_simdiff.errors import InputError
from st_simdiff.methods.base import Reduction, VisionInput, VisualTokens
from st_simdiff.methods.budgeted import Budgeted
from st_simdiff.methods.ranking import rank
from st_simdiff.selection.grid import TokenGrid, spread


@dataclass(frozen=True)
class Patches:
    """The P = H*W patches of each of T frames, without separators.

    features: (T, P, D), in the model's dtype. records: what the vision tower recorded, "attention" float32 (T, P) and
    "keys" (T, P, d_k). pooled: (T, d), what its pooling head says of every frame, None where it has none.
    """

    features: torch.Tensor
    grid: TokenGrid
    records: Mapping[VisionInput, torch.Tensor] = field(default_factory=dict)
    pooled: torch.Tensor | None = None

    @property
    def attention(self) -> torch.Tensor:
        """Float32 (T, P). Raises `InputError` where the tower recorded none."""
        return self._recorded("attention")

    @property
    def keys(self) -> torch.Tensor:
        """(T, P, d_k). Raises `InputError` where the tower recorded none."""
        return self._recorded("keys")

    def _recorded(self, name: VisionInput) -> torch.Tensor:
        if name not in self.records:
            raise InputError(
                f"This method needs the vision tower's {name}, and none were recorded: vision_inputs asks for them."
            )
        return self.records[name]


@dataclass(frozen=True)
class Choice:
    """Which patches stay, in patch indices 0..T*P-1 (raster order).

    kept: int64 (m,), ascending. values: (m, D) where merging changed features, else None.
    merged_into: int64 (T*P,), patch index of the slot that took each patch in, -1 if dropped; None if nothing merged.
    """

    kept: torch.Tensor
    values: torch.Tensor | None = None
    merged_into: torch.Tensor | None = None
    details: Any = None


@dataclass(frozen=True)
class FramePart:
    """What happened to F frames that keep the same number q of slots.

    frames: int64 (F,). slots: int64 (F, q), patches of their frame. values: (F, q, D), or None where nothing merged.
    owner: int64 (F, P), for every patch the slot of its frame that took it in, -1 if dropped; None with `values`.
    """

    frames: torch.Tensor
    slots: torch.Tensor
    values: torch.Tensor | None = None
    owner: torch.Tensor | None = None


@dataclass(frozen=True, kw_only=True)
class PatchMethod(Budgeted, ABC):
    """A method that acts at the input on patches alone.

    Separators go first: a newline says nothing once rows are thinned. They come back, evenly spaced, only where
    ceil(r N) exceeds the number of patches. `as_published` keeps the separators that the published code keeps.
    """

    def reduce_input(self, tokens: VisualTokens) -> Reduction | None:
        grid = tokens.grid
        if self.retention == 1:
            return None
        where = grid.patches(tokens.features.device).flatten()
        if self.published:
            choice = self.choose_published(read_patches(tokens, self.vision_inputs))
            return to_slots(choice, where, self.published_separators(where[choice.kept], grid), tokens)
        count = self.count(tokens)
        self.check_count(count, grid)
        if count < where.numel():
            choice = self.choose(read_patches(tokens, self.vision_inputs), count)
        else:
            choice = Choice(torch.arange(where.numel(), device=where.device))
        separators = spread(grid.separator_offsets(where.device), max(0, count - where.numel()))
        return to_slots(choice, where, separators, tokens)

    def fewest(self, grid: TokenGrid) -> int:  # noqa: ARG002
        """The fewest tokens that the method can leave of a video; fewer are refused."""
        return 1

    def check_count(self, count: int, grid: TokenGrid) -> None:
        """Raises `InputError` if the method cannot leave as few as `count` tokens of a video."""
        if count < (fewest := self.fewest(grid)):
            raise InputError(
                f"{self.name} keeps at least {fewest} of this video's {grid.count} tokens, and a retention of "
                f"{self.retention} leaves {count}; it takes {math.ceil(100 * fewest / grid.count) / 100} and more."
            )

    @abstractmethod
    def choose(self, patches: Patches, count: int) -> Choice:
        """Exactly `count` of the patches (a method whose `exact` is False: as near as it gets); 0 < count < T*P."""

    def choose_published(self, patches: Patches) -> Choice:  # noqa: ARG002
        """The patches that the published rule keeps."""
        raise InputError(self.unpublished)

    def published_separators(self, kept: torch.Tensor, grid: TokenGrid) -> torch.Tensor:
        """Offsets of the separators that the published code keeps, given those of the kept patches."""
        return touched_separators(kept, grid)


def read_patches(tokens: VisualTokens, needed: frozenset[VisionInput]) -> Patches:
    """Features and tower records of the patches, by frame. Raises `InputError` where the tower recorded too little."""
    grid = tokens.grid
    shape = (grid.frames, grid.height * grid.width)
    records: dict[VisionInput, torch.Tensor] = {}
    for name in sorted(needed):
        record = getattr(tokens.vision, name, None)
        if record is None:
            raise InputError(f"This method needs the vision tower's {name}, and none were recorded.")
        if record.shape[0] != shape[0] * shape[1]:
            raise InputError(f"The tower's {name} cover {record.shape[0]} patches, the grid has {shape[0] * shape[1]}.")
        records[name] = record.to(tokens.features.device).unflatten(0, shape)
    where = grid.patches(tokens.features.device).flatten()
    pooled = getattr(tokens.vision, "pooled", None)
    if pooled is not None and len(pooled) != grid.frames:
        raise InputError(f"The tower's pooling head told of {len(pooled)} frames, the grid has {grid.frames}.")
    return Patches(tokens.features[where].unflatten(0, shape), grid, records, pooled)


def assemble(parts: list[FramePart], frames: int, size: int, details: Any = None) -> Choice:
    """The choice that several groups of frames make together, of `frames` frames of `size` patches."""
    slots = torch.cat([(part.frames[:, None] * size + part.slots).flatten() for part in parts])
    kept, order = slots.sort()
    values = [part.values.flatten(0, 1) for part in parts if part.values is not None]
    if not values:
        return Choice(kept, details=details)
    merged_into = torch.full((frames, size), -1, device=kept.device)
    for part in parts:
        if part.owner is not None:
            merged_into[part.frames] = torch.where(part.owner < 0, -1, part.frames[:, None] * size + part.owner)
    return Choice(kept, torch.cat(values)[order], merged_into.flatten(), details)


def to_slots(choice: Choice, where: torch.Tensor, separators: torch.Tensor, tokens: VisualTokens) -> Reduction:
    """A choice of patches, and the separators that stay, as a reduction of all N tokens.

    where: int64 (T*P,), the token offset of every patch.
    """
    features = tokens.features
    kept, order = torch.cat([where[choice.kept], separators]).sort()
    values = merged_into = None
    if choice.values is not None:
        values = torch.cat([choice.values.to(features.dtype), features[separators]])[order]
    if choice.merged_into is not None:
        merged_into = torch.full((features.shape[0],), -1, device=features.device)
        slot = choice.merged_into
        merged_into[where] = torch.where(slot < 0, -1, where[slot.clamp(min=0)])
        merged_into[separators] = separators
    return Reduction(kept=kept, values=values, merged_into=merged_into, details=choice.details)


def touched_separators(kept: torch.Tensor, grid: TokenGrid) -> torch.Tensor:
    """Separators of the rows (or frames) that keep a patch, and the one at the end: HoliTom's and FastVID's rule.

    kept: offsets of the kept patches. Returns offsets, int64 (S',), ascending.
    """
    separators = grid.separator_offsets(kept.device)
    if grid.separators in ("none", "end"):
        return separators
    return separators[torch.searchsorted(separators, kept).unique()]


def highest_per_frame(scores: torch.Tensor, quotas: list[int] | torch.Tensor) -> torch.Tensor:
    """Whether each patch is among its frame's highest scores: bool (T, P). quotas: how many each frame keeps, (T,)."""
    quotas = torch.as_tensor(quotas, device=scores.device).view(-1, 1)
    best = torch.arange(scores.shape[-1], device=scores.device) < quotas
    return torch.zeros_like(best.expand_as(scores)).scatter(-1, rank(scores), best)


def finite(features: torch.Tensor) -> torch.Tensor:
    """float32 features with zeros for whatever is not finite."""
    return torch.nan_to_num(features.float(), nan=0.0, posinf=0.0, neginf=0.0)


def unit(features: torch.Tensor) -> torch.Tensor:
    """float32 features of length 1 along the last dimension; a zero vector stays zero, as do non-finite numbers."""
    return torch.nn.functional.normalize(finite(features), dim=-1)
