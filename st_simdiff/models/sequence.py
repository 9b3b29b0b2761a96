"""What is where in a sequence while tokens are taken out of it."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from st_simdiff.models.families.base import VideoTokens
from st_simdiff.models.trace import VideoTrace


@dataclass
class Video:
    """A video during the pass. where: int64 (n,), where its remaining tokens stand in the sequence.

    start: the first of them, as a number, if nothing stands between them: then they are a slice, and nobody copies
    them to look at them. Else None.
    """

    row: int
    tokens: VideoTokens
    where: torch.Tensor
    trace: VideoTrace
    start: int | None

    @property
    def count(self) -> int:
        """Tokens that remain."""
        return self.where.numel()

    def of(self, rows: torch.Tensor, before: int = 0) -> torch.Tensor:
        """The video's part of (B, before + L, ...), the length of the sequence: a view if it is one piece."""
        row = rows[self.row]
        if self.start is None:
            return row[before + self.where.to(row.device)]
        return row[before + self.start : before + self.start + self.count]


@dataclass(frozen=True)
class View:
    """What one layer sees of the new positions. valid: bool (B, L), None if none is padding. shift: int64 (B, 1), how
    far renumbering moved the positions back, None if they are the original ones.

    kept, entered: int64 (B, L), where each position stood in what the decoder was given, and in what its first layer
    was; None if it is the same.
    """

    length: int
    valid: torch.Tensor | None
    shift: torch.Tensor | None = None
    kept: torch.Tensor | None = None
    entered: torch.Tensor | None = None


@dataclass(frozen=True)
class Past:
    """What one layer's cache holds already. places: int64 (B or 1, held), where in the whole sequence each position
    stood; known of sliding-window layers."""

    held: int = 0
    removed: int = 0
    valid: torch.Tensor | None = None
    shift: torch.Tensor | None = None
    fixed: int = 0
    places: torch.Tensor | None = None
