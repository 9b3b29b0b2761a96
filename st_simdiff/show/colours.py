"""Colours of the pictures: those of the plots (`report.style`), which people with any colour vision can tell apart."""

from __future__ import annotations

import colorsys

import torch

from st_simdiff.report import style

RGB = tuple[int, int, int]


def from_hexadecimal(colour: str) -> RGB:
    """`#rrggbb` as three numbers."""
    return tuple(bytes.fromhex(colour.removeprefix("#")))


SKY_BLUE = from_hexadecimal(style.SKY_BLUE)
GREEN = from_hexadecimal(style.GREEN)
ORANGE = from_hexadecimal(style.ORANGE)
YELLOW = from_hexadecimal(style.YELLOW)
BLUE = from_hexadecimal(style.BLUE)
VERMILION = from_hexadecimal(style.VERMILION)
PURPLE = from_hexadecimal(style.PURPLE)
INK = from_hexadecimal(style.INK)
FAINT = from_hexadecimal(style.FAINT)
WHITE: RGB = (255, 255, 255)

RED: RGB = (255, 72, 24)
"""Events. Vermilion made brighter: thin boxes on dimmed video need it."""

PAPER: RGB = (250, 250, 248)
MUTED: RGB = (120, 120, 126)


def hexadecimal(colour: RGB) -> str:
    """`#rrggbb`."""
    return "#{:02x}{:02x}{:02x}".format(*colour)


def community_colours(rank: int) -> RGB:
    """The colour of the community of this rank, 0 for the largest. Neighbouring ranks differ in hue and lightness."""
    hue = (0.58 + rank * 0.381966) % 1
    lightness = (0.48, 0.66, 0.36)[rank % 3]
    red, green, blue = colorsys.hls_to_rgb(hue, lightness, 0.62)
    return round(red * 255), round(green * 255), round(blue * 255)


def community_ranks(community: torch.Tensor) -> torch.Tensor:
    """Rank by size, 0 for the largest, of every token's community; -1 for a community of one. Int64 (N,).

    community: int64 (N,), equal for members of one community. Equal sizes rank by label.
    """
    labels, inverse, size = community.unique(return_inverse=True, return_counts=True)
    order = torch.sort(size, descending=True, stable=True).indices
    rank = torch.empty_like(labels)
    rank[order] = torch.arange(len(labels))
    rank[size == 1] = -1
    return rank[inverse]
