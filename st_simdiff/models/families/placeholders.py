"""From placeholder tokens in a prompt to the videos they stand for. Reads the device three times a prompt."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from st_simdiff.errors import InputError
from st_simdiff.methods.base import VisionRecord
from st_simdiff.models.families.base import VideoTokens
from st_simdiff.selection.grid import TokenGrid


@dataclass(frozen=True)
class Visual:
    """Something with placeholders in the prompt: a video, or (no grid) an image that is left alone."""

    count: int
    grid: TokenGrid | None = None
    vision: VisionRecord | None = None


def video(grid: TokenGrid, vision: VisionRecord | None = None) -> Visual:
    return Visual(grid.count, grid, vision)


def placeholder_rows(input_ids: torch.Tensor, token_id: int, encoded: int, mismatch: str = "") -> list[torch.Tensor]:
    """Positions of the placeholders in every row of the prompt, int64 (n,) each.

    input_ids: (B, L). encoded: how many visual tokens the model has encoded. Beams and return sequences repeat each
    prompt k times in a row: then every k-th row is returned. A prompt without placeholders has no rows. Raises
    `InputError` if the numbers do not fit, with what else there is to say about it (`mismatch`).
    """
    mask = input_ids == token_id
    counts = mask.sum(1).tolist()
    if not any(counts):
        return []
    repeats = sum(counts) // max(encoded, 1)
    if encoded < 1 or repeats < 1 or sum(counts) != repeats * encoded or len(counts) % repeats:
        raise InputError(
            f"The prompt has {sum(counts)} visual placeholder tokens, but {encoded} visual tokens were encoded: pass "
            f"the whole prompt at once (no chunked prefill), as its processor made it.{mismatch and ' ' + mismatch}"
        )
    rows = list(mask.nonzero()[:, 1].split(counts))
    return rows[::repeats]


def assign(rows: list[torch.Tensor], visuals: list[Visual]) -> list[list[VideoTokens]]:
    """The videos of every row. rows: as `placeholder_rows` gives them. visuals: in the order of the prompt's rows.

    Raises `InputError` if a row's placeholders end inside one of the visuals.
    """
    queue = list(reversed(visuals))
    found: list[list[tuple[TokenGrid, VisionRecord | None, torch.Tensor]]] = []
    for row, positions in enumerate(rows):
        own: list[tuple[TokenGrid, VisionRecord | None, torch.Tensor]] = []
        start = 0
        while start < positions.numel():
            visual = queue.pop() if queue else None
            if visual is None or start + visual.count > positions.numel():
                raise InputError(
                    f"Row {row} of the prompt has {positions.numel()} visual placeholder tokens, which do not match "
                    "the sizes of its videos."
                )
            if visual.grid is not None:
                own.append((visual.grid, visual.vision, positions[start : start + visual.count]))
            start += visual.count
        found.append(own)
    ends = [positions[[0, -1]] for own in found for _, _, positions in own]
    bounds = iter(torch.stack(ends).tolist() if ends else [])
    return [
        [
            VideoTokens(grid, positions, first, last, vision)
            for (grid, vision, positions), (first, last) in zip(own, bounds, strict=False)
        ]
        for own in found
    ]
