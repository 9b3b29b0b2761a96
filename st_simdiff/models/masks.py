"""What an attention mask must be like for tokens to be taken out of its sequences."""

from __future__ import annotations

from typing import Any

import torch

from st_simdiff.errors import InputError


def check_mask(mask: Any) -> None:
    """Raises `InputError` for a mask that is not (B, L); None means that every position is a token."""
    if mask is None or (isinstance(mask, torch.Tensor) and mask.dim() == 2):
        return
    given = f"{mask.dim()} dimensions" if isinstance(mask, torch.Tensor) else type(mask).__name__
    raise InputError(f"Compression needs a 2-D attention mask (batch, length), got {given}.")


def check_left_padding(mask: torch.Tensor | None) -> None:
    """Raises `InputError` for a mask (B, L) with right padding, whose last query is no token. Reads the device."""
    if mask is not None and not bool(mask[:, -1].all()):
        raise InputError(
            "Compression needs left padding (padding_side='left'): the last position of every row must be a token."
        )
