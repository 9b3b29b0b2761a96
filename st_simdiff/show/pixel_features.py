"""Patch features from pixels alone, so that a selection can be looked at without any model.

A patch is described by eight numbers: the mean of its luma and of its two chroma channels, the three lowest cosine
coefficients of its luma (how it runs across, down and diagonally), and how much fine detail it has across and down.
Random Fourier features (Rahimi and Recht, NIPS 2007; orthogonal as in Yu et al., NIPS 2016) of the description make
its distance a cosine: two patches whose descriptions lie d apart have a cosine of about exp(-d^2 / 2). Every number is
divided by its scale below, so that 0.8 (d = 0.67) is a change one sees when one looks for it and 0.2 (d = 1.8) one that
leaps to the eye: the thresholds of the paper, tau_sim = 0.8 and tau_diff = 0.2, keep their meaning.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch.nn.functional import interpolate

from st_simdiff.selection.graph import cosine_planes, node_view
from st_simdiff.selection.grid import TokenGrid

LUMA, CHROMA, SHAPE, DETAIL = 44.0, 16.0, 30.0, 14.0
"""Scales, in levels of 255: a difference of this much in one number alone makes a cosine of 0.61."""

_SIDE = 4
_FREQUENCIES = 128


def describe_patches(frames: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """The eight numbers, each over its scale, of every patch: float32 (T, H, W, 8).

    frames: uint8 (T, h, w, 3), RGB, of any size; stretched to the grid as a vision tower stretches them to its square.
    """
    channels_first = frames.permute(0, 3, 1, 2).float()
    fine = interpolate(channels_first, (height * _SIDE * 2, width * _SIDE * 2), mode="area")
    small = interpolate(fine, (height * _SIDE, width * _SIDE), mode="area")
    luma, blue, red = _opponents(small)
    blocks = luma.unflatten(2, (width, _SIDE)).unflatten(1, (height, _SIDE)).transpose(2, 3)
    ramp = torch.cos(math.pi * (torch.arange(_SIDE) + 0.5) / _SIDE) * math.sqrt(2)
    across = (blocks * ramp).mean((-1, -2))
    down = (blocks * ramp[:, None]).mean((-1, -2))
    diagonal = (blocks * ramp * ramp[:, None]).mean((-1, -2))
    fine_luma = _opponents(fine)[0]
    detail_across = _mean_per_patch((fine_luma[:, :, 1::2] - fine_luma[:, :, ::2]).abs(), height, width)
    detail_down = _mean_per_patch((fine_luma[:, 1::2] - fine_luma[:, ::2]).abs(), height, width)
    return torch.stack(
        [
            blocks.mean((-1, -2)) / LUMA,
            _mean_per_patch(blue, height, width) / CHROMA,
            _mean_per_patch(red, height, width) / CHROMA,
            across / SHAPE,
            down / SHAPE,
            diagonal / SHAPE,
            detail_across / DETAIL,
            detail_down / DETAIL,
        ],
        dim=-1,
    )


def cosine_features(description: torch.Tensor) -> torch.Tensor:
    """Unit vectors whose cosine is about exp(-d^2 / 2): float32 (..., 256) for descriptions (..., 8)."""
    projected = description @ _frequencies(description.shape[-1])
    return torch.cat([projected.cos(), projected.sin()], dim=-1) / math.sqrt(_FREQUENCIES)


def pixel_features(
    frames: torch.Tensor, height: int, width: int, progress: Callable[[str], object] = lambda _: None
) -> torch.Tensor:
    """Features of the patches of uint8 frames (T, h, w, 3), RGB: float32 (T*H*W, 256), in the order of `TokenGrid`."""
    parts = []
    for number, frame in enumerate(frames, start=1):
        progress(f"Describing frame {number} of {len(frames)}")
        parts.append(cosine_features(describe_patches(frame[None], height, width)))
    return torch.cat(parts).flatten(0, 2)


def likeness_to_previous(features: torch.Tensor, grid: TokenGrid) -> torch.Tensor:
    """Mean cosine of the patches of each frame to those of the frame before, float32 (T,). 1 for the first frame."""
    nodes = node_view(features, grid, newline_column=False)
    means = cosine_planes(nodes).next.mean((1, 2))
    return torch.cat([means.new_ones(1), means])


def scene_cuts(features: torch.Tensor, grid: TokenGrid) -> list[int]:
    """Frames that show another scene than the one before, judged by pixel features (N, D).

    Two things tell a cut: hardly a patch is like the one at its place in the frame before (mean cosine below 0.35), and
    neither are the two frames alike as wholes (cosine of their mean features below 0.95), as they would be if
    something large had moved.
    """
    means = node_view(features, grid, newline_column=False).mean((1, 2))
    wholes = torch.cosine_similarity(means[1:], means[:-1], dim=-1)
    cut = (likeness_to_previous(features, grid)[1:] < 0.35) & (wholes < 0.95)
    return (cut.nonzero().flatten() + 1).tolist()


def _opponents(rgb: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Luma and the two chroma channels of BT.601, levels of 255. rgb: (T, 3, h, w)."""
    red, green, blue = rgb.unbind(1)
    luma = 0.299 * red + 0.587 * green + 0.114 * blue
    return luma, 0.564 * (blue - luma), 0.713 * (red - luma)


def _mean_per_patch(values: torch.Tensor, height: int, width: int) -> torch.Tensor:
    return interpolate(values[:, None], (height, width), mode="area")[:, 0]


def _frequencies(dimension: int) -> torch.Tensor:
    """(dimension, 128): normal directions, orthogonal in groups of `dimension`. The same on every machine and call."""
    generator = torch.Generator().manual_seed(0)
    groups = []
    for _ in range(-(-_FREQUENCIES // dimension)):
        directions, _ = torch.linalg.qr(torch.randn(dimension, dimension, generator=generator, dtype=torch.float64))
        lengths = torch.randn(dimension, dimension, generator=generator, dtype=torch.float64).norm(dim=0)
        groups.append(directions * lengths)
    return torch.cat(groups, dim=1)[:, :_FREQUENCIES].float()
