"""M-RoPE positions of pruned videos. No vLLM here.

In vLLM they travel from the encoder to the prefill as channels behind the embeddings, in the model's dtype. bfloat16
holds whole numbers up to 256 exactly, so that a number is written as three digits to the base 256. Six numbers a
token: its position (t, h, w) counted from the start of its media item; its rank in the item; and the item's `visual`
and `lead`.

visual: the id of the token that stands for the item's visual tokens in a prompt. lead: how many other tokens the item
begins with (Qwen3-VL's timestamp and start of a frame).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch

DIGITS = 3
NUMBERS = 6
CHANNELS = NUMBERS * DIGITS


class Item(NamedTuple):
    """A media item, or what of it falls into a chunk of a prefill. rank: of the first token here."""

    rank: int
    visual: int
    lead: int


def add_position_channels(
    embeddings: torch.Tensor, positions: torch.Tensor, visual: int, lead: int = 0
) -> torch.Tensor:
    """Embeddings (n, D) of one item with its positions, (n, D + CHANNELS). positions: int64 (3, n), from 0."""
    rank = torch.arange(positions.shape[1], device=positions.device)
    same = [torch.full_like(rank, value) for value in (visual, lead)]
    numbers = torch.cat([positions, torch.stack([rank, *same])]).T
    powers = 256 ** torch.arange(DIGITS, device=positions.device)
    digits = (numbers[..., None] // powers) % 256
    return torch.cat([embeddings, digits.flatten(1).to(embeddings.device, embeddings.dtype)], dim=1)


def take_position_channels(rows: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, Item]:
    """Of rows (n, D + CHANNELS), n > 0: embeddings (n, D), positions int64 (3, n) on the CPU, and the item."""
    digits = rows[:, -CHANNELS:].cpu().float().round().long().unflatten(1, (NUMBERS, DIGITS))
    numbers = (digits * 256 ** torch.arange(DIGITS)).sum(-1).T
    return rows[:, :-CHANNELS], numbers[:3], Item(*numbers[3:, 0].tolist())


def place_items(
    parts: Sequence[torch.Tensor], positions: torch.Tensor, computed: int, ids: torch.Tensor
) -> tuple[list[torch.Tensor], torch.Tensor]:
    """A prefill chunk's embeddings without their channels, and the prompt's positions with theirs in place.

    parts: what of each media item falls into the chunk, (n, D + CHANNELS), in the prompt's order. positions: (3, N),
    right for all text. computed: where the chunk begins. ids: (N,), the prompt. It may have tokens that are visual by
    their id and were typed as text: they stand behind the last item of their kind, as items take such tokens in order.
    """
    positions = positions.clone()
    embeddings = []
    place = computed
    for part in parts:
        if part.shape[0] == 0:
            embeddings.append(part[:, :-CHANNELS])
            continue
        own, relative, item = take_position_channels(part)
        begin = place if item.rank else place + int((ids[place:] == item.visual).nonzero()[0]) - item.lead
        start = begin - item.rank
        base = positions[:, start - 1].max() + 1 if start else 0
        place = begin + part.shape[0]
        positions[:, begin:place] = relative.to(positions) + base
        embeddings.append(own)
    return embeddings, positions


def grid_positions(shape: tuple[int, int, int], seconds: float = 1.0) -> torch.Tensor:
    """Positions of a whole grid of (frames, height, width) tokens from 0, int64 (3, T H W), as Qwen2.5-VL has them.

    seconds: temporal positions from one frame to the next; their products are rounded down.
    """
    t, h, w = torch.meshgrid(*(torch.arange(size) for size in shape), indexing="ij")
    return torch.stack([(t.double() * seconds).long(), h, w]).flatten(1)


def framed_positions(is_visual: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """Positions of a whole item from 0, int64 (3, n), where text stands between frames, as Qwen3-VL has them.

    is_visual: bool (n,), on the CPU; H W visual tokens a frame. Text counts on by 1; a frame spans max(H, W).
    """
    visual_before = is_visual.cumsum(0) - is_visual.long()
    text_before = torch.arange(len(is_visual)) - visual_before
    base = text_before + visual_before // (height * width) * max(height, width)
    place = visual_before % (height * width)
    return torch.stack(
        [
            base,
            base + torch.where(is_visual, place // width, 0),
            base + torch.where(is_visual, place % width, 0),
        ]
    )


def whole_prompt(
    ids: Sequence[int], items: Sequence[tuple[int, int]], whole: Callable[[int, Sequence[int]], list[int]]
) -> tuple[list[int], list[tuple[int, int]], list[int]]:
    """The prompt before pruning, the media items in it, and for each token of `ids` one of its places there.

    items: (start, length) of the media items in `ids`, ascending. whole(index, tokens): the unpruned tokens of item
    `index`. Text finds its own place; a token of an item only some place within the item.
    """
    full: list[int] = []
    places: list[int] = []
    full_items = []
    at = 0
    for index, (start, length) in enumerate(items):
        places += range(len(full), len(full) + start - at)
        full += ids[at:start]
        tokens = whole(index, ids[start : start + length])
        full_items.append((len(full), len(tokens)))
        places += [len(full) + min(rank, len(tokens) - 1) for rank in range(length)]
        full += tokens
        at = start + length
    places += range(len(full), len(full) + len(ids) - at)
    full += ids[at:]
    return full, full_items, places
