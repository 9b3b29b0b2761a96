"""Which images of an InternVL prompt are frames of one video: its processor turns videos into images."""

from __future__ import annotations

import re
from typing import Any

import torch

_NUMBER = re.compile(r"Frame(\d+): $")
_LONGEST_NUMBER = 16
"""Tokens that `Frame1024: ` has at most."""


def frame_groups(ids: torch.Tensor, processor: Any) -> list[int]:
    """The sizes of groups of consecutive images, through all rows: the frames of a video, or 1 for an image or a tile.

    ids: int64 (B, L), a prompt. processor: InternVL's, which writes `Frame1: ` before the first frame of a video,
    `Frame2: ` before the second, and all tiles of an image between one start and end. Reads the device three times.
    """
    begins = (ids == processor.start_image_token_id).nonzero().tolist()
    ends = (ids == processor.end_image_token_id).nonzero().tolist()
    rows, groups = ids.tolist(), []
    for (row, begin), (_, end) in zip(begins, ends, strict=True):
        before = rows[row][max(0, begin - _LONGEST_NUMBER) : begin]
        text = processor.tokenizer.decode(before, clean_up_tokenization_spaces=False)
        number, tiles = _NUMBER.search(text), (end - begin - 1) // processor.image_seq_length
        if number is not None and int(number[1]) > 1 and groups and tiles == 1:
            groups[-1] += 1
        else:
            groups += [1] * tiles
    return groups
