"""Colours of the pictures: the palette of Okabe and Ito, which people with any colour vision can tell apart."""

from __future__ import annotations

import colorsys

import torch

RGB = tuple[int, int, int]

BLACK: RGB = (0, 0, 0)
ORANGE: RGB = (230, 159, 0)
SKY_BLUE: RGB = (86, 180, 233)
GREEN: RGB = (0, 158, 115)
YELLOW: RGB = (240, 228, 66)
BLUE: RGB = (0, 114, 178)
VERMILION: RGB = (213, 94, 0)
PURPLE: RGB = (204, 121, 167)
WHITE: RGB = (255, 255, 255)

RED: RGB = (255, 72, 24)
"""Events. Vermilion made brighter: thin boxes on dimmed video need it."""

PAPER: RGB = (250, 250, 248)
INK: RGB = (34, 34, 38)
MUTED: RGB = (120, 120, 126)
FAINT: RGB = (222, 222, 220)


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
