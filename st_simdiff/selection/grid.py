"""Where each visual token of a video lies: T frames of H x W patches, and the separators between them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import torch

from st_simdiff.errors import InputError, unknown

Separators = Literal["none", "row", "frame", "end"]


@dataclass(frozen=True)
class TokenGrid:
    """The layout of the N visual tokens of one video, in sequence order.

    Tokens are frame-major, then row-major. `separators` says which learned newline tokens stand among them:
    none; one after every row; one after every frame; or a single one at the end of the video.
    An offset is a token's rank 0..N-1 among its video's tokens.
    """

    frames: int
    height: int
    width: int
    separators: Separators = "none"

    def __post_init__(self) -> None:
        if min(self.frames, self.height, self.width) < 1:
            raise InputError(
                "A token grid needs at least one frame, row and column, "
                f"got {self.frames} x {self.height} x {self.width}."
            )
        if self.separators not in get_args(Separators):
            raise unknown("separator layout", str(self.separators), get_args(Separators))

    @property
    def frame_length(self) -> int:
        """Tokens that belong to one frame, its separators included (a separator at the end belongs to none)."""
        row = self.width + (self.separators == "row")
        return self.height * row + (self.separators == "frame")

    @property
    def count(self) -> int:
        """N: every token of the video, separators included."""
        return self.frames * self.frame_length + (self.separators == "end")

    def patches(self, device: torch.device | str = "cpu") -> torch.Tensor:
        """Offsets of the patches, int64 (T, H, W)."""
        frame = torch.arange(self.frames, device=device).view(-1, 1, 1) * self.frame_length
        row = torch.arange(self.height, device=device).view(1, -1, 1) * (self.width + (self.separators == "row"))
        return frame + row + torch.arange(self.width, device=device)

    def separator_offsets(self, device: torch.device | str = "cpu") -> torch.Tensor:
        """Offsets of the separator tokens, int64 (S,), ascending."""
        is_separator = torch.ones(self.count, dtype=torch.bool, device=device)
        is_separator[self.patches(device).flatten()] = False
        return is_separator.nonzero().flatten()

    def frame_of(self, device: torch.device | str = "cpu") -> torch.Tensor:
        """Frame index of every token, int64 (N,). A separator at the very end counts to the last frame."""
        return (torch.arange(self.count, device=device) // self.frame_length).clamp(max=self.frames - 1)


def check_features(features: torch.Tensor, grid: TokenGrid) -> None:
    """Raises `InputError` unless `features` has one vector a token, (N, D)."""
    if features.dim() != 2 or features.shape[0] != grid.count:
        raise InputError(f"The grid has {grid.count} tokens, but the features have the shape {tuple(features.shape)}.")


def spread(items: torch.Tensor, count: int) -> torch.Tensor:
    """`count` of `items` (n,), evenly spaced; all of them if `count` is n or more."""
    total = items.numel()
    if count >= total:
        return items
    step = torch.arange(count, device=items.device)
    return items[(2 * step + 1) * total // max(2 * count, 1)]
