"""Single frames with what became of their tokens: the pieces that contact sheet and annotated video are made of."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont

from st_simdiff.selection.grid import TokenGrid
from st_simdiff.show.colours import (
    GREEN,
    INK,
    MUTED,
    ORANGE,
    PURPLE,
    RED,
    RGB,
    SKY_BLUE,
    WHITE,
    YELLOW,
    community_colours,
    community_ranks,
)
from st_simdiff.show.provenance import Fate, Provenance
from st_simdiff.show.runs import View

FATE_COLOURS: dict[Fate, RGB] = {
    Fate.REPRESENTATIVE: YELLOW,
    Fate.EVENT: RED,
    Fate.ATTENTION: SKY_BLUE,
    Fate.CHOSEN: WHITE,
    Fate.MERGED: GREEN,
    Fate.SEED: PURPLE,
    Fate.FARTHEST: ORANGE,
}
ATTENTION_SCALE: tuple[RGB, RGB, RGB] = ((0, 34, 78), (124, 123, 120), (254, 232, 56))
"""Least, middle and most attention: cividis, which any colour vision sees alike (Nunez et al., PLoS ONE 2018)."""

_DIM, _GREY_SHARE = 0.42, 0.75
_NO_COMMUNITY: RGB = (70, 70, 76)


@cache
def font(size: int) -> ImageFont.FreeTypeFont:
    """The typeface that Pillow brings along, so that pictures look the same everywhere."""
    return ImageFont.load_default(size)


def fate_grid(provenance: Provenance, frame: int) -> np.ndarray:
    """The fates of one frame's patches, int64 (H, W)."""
    return provenance.fate[provenance.grid.patches()[frame]].numpy()


def colour_ranks(provenance: Provenance) -> np.ndarray:
    """The rank by size of every patch's community, int64 (T, H, W): see `community_ranks`."""
    return community_ranks(provenance.community)[provenance.grid.patches()].numpy()


def scaled(frame: np.ndarray, width: int) -> Image.Image:
    """An RGB frame (h, w, 3) at `width` pixels, its proportions kept."""
    height = max(1, round(frame.shape[0] * width / frame.shape[1]))
    return Image.fromarray(frame).resize((width, height), Image.Resampling.LANCZOS)


def draw_fates(picture: Image.Image, fates: np.ndarray) -> Image.Image:
    """The picture with kept patches in their light and boxed in the colour of their fate, the others dimmed.

    fates: int64 (H, W). Events have a heavier box than representatives, so that shape tells them apart as well.
    """
    kept = fates >= Fate.REPRESENTATIVE
    shares = np.where(kept, 1.0, 0.0)
    pixels = np.asarray(picture, dtype=np.float32)
    grey = pixels.mean(-1, keepdims=True)
    dimmed = (_GREY_SHARE * grey + (1 - _GREY_SHARE) * pixels) * _DIM
    merged = _spread(fates == Fate.MERGED, picture.size)[..., None]
    dimmed = np.where(merged, 0.72 * dimmed + 0.28 * np.array(GREEN, dtype=np.float32), dimmed)
    bright = _spread(shares, picture.size)[..., None]
    out = Image.fromarray((bright * pixels + (1 - bright) * dimmed).round().astype(np.uint8))
    draw = ImageDraw.Draw(out)
    side = min(picture.width / fates.shape[1], picture.height / fates.shape[0])
    thin = min(4, max(1, round(side / 11)))
    heavy = max(2, round(thin * 1.5))
    # Events come last: their box lies over those of their neighbours.
    for fate in (Fate.CHOSEN, Fate.ATTENTION, Fate.REPRESENTATIVE, Fate.FARTHEST, Fate.SEED, Fate.EVENT):
        for row, column in np.argwhere(fates == fate).tolist():
            box = _cell(picture.size, fates.shape, row, column)
            draw.rectangle(box, outline=FATE_COLOURS[fate], width=heavy if fate == Fate.EVENT else thin)
    return out


def draw_communities(picture: Image.Image, ranks: np.ndarray) -> Image.Image:
    """The picture tinted with its communities' colours, with lines between them. A lone token stays grey.

    ranks: int64 (H, W), -1 for a community of one.
    """
    palette = {rank: _NO_COMMUNITY if rank < 0 else community_colours(rank) for rank in np.unique(ranks).tolist()}
    tint = np.zeros((*ranks.shape, 3), dtype=np.float32)
    for rank, colour in palette.items():
        tint[ranks == rank] = colour
    pixels = np.asarray(picture, dtype=np.float32)
    grey = pixels.mean(-1, keepdims=True)
    opacity = np.where(_spread(ranks < 0, picture.size), 0.45, 0.66)[..., None]
    mixed = opacity * _spread(tint, picture.size) + (1 - opacity) * grey
    out = Image.fromarray(mixed.round().astype(np.uint8))
    draw = ImageDraw.Draw(out)
    thin = min(3, max(1, round(picture.width / ranks.shape[1] / 20)))
    for row, column in np.argwhere(ranks[:, 1:] != ranks[:, :-1]).tolist():
        left, top, _, bottom = _cell(picture.size, ranks.shape, row, column + 1)
        draw.line((left, top, left, bottom), fill=WHITE, width=thin)
    for row, column in np.argwhere(ranks[1:] != ranks[:-1]).tolist():
        left, top, right, _ = _cell(picture.size, ranks.shape, row + 1, column)
        draw.line((left, top, right, top), fill=WHITE, width=thin)
    return out


def attention_places(attention: torch.Tensor, grid: TokenGrid) -> np.ndarray:
    """Where each patch stands among all of them by attention, 0 for the least to 1 for the most: float64 (T, H, W)."""
    values = attention[grid.patches()].double()
    place = torch.empty(values.numel(), dtype=torch.float64)
    place[values.flatten().argsort(stable=True)] = torch.linspace(0, 1, values.numel(), dtype=torch.float64)
    return place.view(values.shape).numpy()


def draw_attention(picture: Image.Image, places: np.ndarray) -> Image.Image:
    """The picture under its attention, from blue for the least to yellow for the most. places: (H, W), see above."""
    colour = np.stack([np.interp(places, (0, 0.5, 1), channel) for channel in zip(*ATTENTION_SCALE, strict=True)], -1)
    grey = np.asarray(picture, dtype=np.float32).mean(-1, keepdims=True)
    mixed = 0.62 * _spread(colour, picture.size) + 0.38 * grey
    return Image.fromarray(mixed.round().astype(np.uint8))


def draw_legend(
    draw: ImageDraw.ImageDraw,
    at: tuple[int, int],
    entries: list[tuple[Fate, str]],
    size: int,
    fills: Mapping[Fate, RGB] | None = None,
) -> int:
    """A line of swatches with words. Returns where it ends, in pixels from the left.

    fills: colours of whole swatches, for bars; without it they look like tokens.
    """
    left, top = at
    face = font(size)
    for fate, words in entries:
        box = (left, top, left + size, top + size)
        if fills is not None:
            draw.rectangle(box, fill=fills[fate])
        elif fate.kept:
            draw.rectangle((left - 1, top - 1, left + size + 1, top + size + 1), outline=MUTED)
            draw.rectangle(box, fill=(96, 96, 100), outline=FATE_COLOURS[fate], width=5 if fate == Fate.EVENT else 3)
        else:
            draw.rectangle(box, fill=(44, 96, 78) if fate == Fate.MERGED else (58, 58, 62))
        left += round(size * 1.4)
        draw.text((left, top + size // 2), words, font=face, fill=INK, anchor="lm")
        left += round(draw.textlength(words, font=face)) + round(size * 1.6)
    return left


def legend_entries(provenances: list[Provenance], *, numbers: bool) -> list[tuple[Fate, str]]:
    """The fates that occur, the kept ones first, with their counts if `numbers` (of the first provenance)."""
    counts = [provenance.counts() for provenance in provenances]
    order = (
        *(Fate.REPRESENTATIVE, Fate.FARTHEST, Fate.SEED, Fate.EVENT),
        *(Fate.ATTENTION, Fate.CHOSEN, Fate.MERGED, Fate.DROPPED),
    )
    return [
        (fate, f"{fate.label} ({counts[0][fate]:,})" if numbers and fate in counts[0] else fate.label)
        for fate in order
        if any(fate in count for count in counts)
    ]


def summary_words(view: View) -> str:
    """Such as `941 of 3,136 visual tokens kept (30.0 %)`; without a model's final pruning, candidates."""
    provenance, what = view.provenance, "are candidates" if view.note else "kept"
    kept, count = int(provenance.kept.sum()), provenance.grid.count
    return f"{kept:,} of {count:,} visual tokens {what} ({100 * kept / count:.1f} %)"


def frame_events(provenance: Provenance) -> torch.Tensor:
    """How many event patches each frame has, kept or not: int64 (T,)."""
    return provenance.event[provenance.grid.patches()].sum((1, 2))


def grid_words(grid: TokenGrid) -> str:
    """Such as `16 frames of 14 x 14 patches`."""
    return f"{grid.frames} frames of {grid.height} x {grid.width} patches"


def _cell(size: tuple[int, int], shape: tuple[int, ...], row: int, column: int) -> tuple[int, int, int, int]:
    """Left, top, right, bottom of a cell, both ends included."""
    (width, height), (rows, columns) = size, shape
    return (
        column * width // columns,
        row * height // rows,
        (column + 1) * width // columns - 1,
        (row + 1) * height // rows - 1,
    )


def _spread(cells: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Values of cells (H, W, ...) at every pixel, (height, width, ...), with the edges that `_cell` draws."""
    (width, height), (rows, columns) = size, cells.shape[:2]
    # pixel p lies in the last cell whose first pixel, cell * width // columns, is not after p
    row = ((np.arange(height) + 1) * rows - 1) // height
    column = ((np.arange(width) + 1) * columns - 1) // width
    return cells[row][:, column]
