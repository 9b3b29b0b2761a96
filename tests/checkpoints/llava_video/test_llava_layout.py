"""Token counts of all modes, and pooling and newlines against their plain meaning."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from st_simdiff.checkpoints.llava_video.layout import VideoSpan, pooled_side
from st_simdiff.checkpoints.llava_video.modeling import add_newlines, pool_patches

NEWLINES = ("grid", "frame", "one_token", "no_token")


@pytest.mark.parametrize(
    ("newline", "pool_mode", "frames", "length"),
    [
        ("grid", "bilinear", 1, 210),
        ("grid", "average", 1, 182),
        ("frame", "bilinear", 1, 197),
        ("frame", "max", 1, 170),
        ("one_token", "bilinear", 8, 8 * 196 + 1),
        ("one_token", "average", 8, 8 * 169 + 1),
        ("no_token", "bilinear", 8, 8 * 196),
        ("no_token", "max", 8, 8 * 169),
    ],
)
def test_lengths_of_the_published_tower(newline: str, pool_mode: str, frames: int, length: int) -> None:
    side = pooled_side(27, pool_mode)
    assert VideoSpan(0, frames, side, side, newline).length == length


@given(st.integers(1, 3), st.integers(1, 4), st.integers(1, 4), st.sampled_from(NEWLINES))
def test_newlines_stand_where_the_mode_says(frames: int, height: int, width: int, mode: str) -> None:
    tokens = torch.arange(1.0, 1 + frames * height * width).reshape(frames, height, width, 1)
    sequence = []
    for frame in tokens:
        for row in frame:
            sequence += row.flatten().tolist() + [0.0] * (mode == "grid")
        sequence += [0.0] * (mode == "frame")
    sequence += [0.0] * (mode == "one_token")
    result = add_newlines(tokens, torch.zeros(1), mode)
    assert result.flatten().tolist() == sequence
    assert len(result) == VideoSpan(0, frames, height, width, mode).length


@pytest.mark.parametrize("side", [6, 7])
@pytest.mark.parametrize("mode", ["average", "max"])
def test_average_and_max_take_blocks_of_four(side: int, mode: str) -> None:
    patches = torch.randn(2, side * side, 3)
    pooled = pool_patches(patches, side, mode)
    assert pooled.shape == (2, pooled_side(side, mode), pooled_side(side, mode), 3)
    plane = patches.reshape(2, side, side, 3)
    for row in range(pooled.shape[1]):
        for column in range(pooled.shape[2]):
            block = plane[:, 2 * row : 2 * row + 2, 2 * column : 2 * column + 2].flatten(1, 2)
            expected = block.mean(1) if mode == "average" else block.amax(1)
            torch.testing.assert_close(pooled[:, row, column], expected)


@pytest.mark.parametrize("side", [6, 7, 27])
def test_bilinear_interpolates_at_the_centres(side: int) -> None:
    patches = torch.randn(1, side * side, 2, dtype=torch.float64)
    pooled = pool_patches(patches, side, "bilinear")
    size = pooled_side(side, "bilinear")
    assert pooled.shape == (1, size, size, 2)
    plane = patches.reshape(side, side, 2)
    for row in range(size):
        for column in range(size):
            expected = torch.zeros(2, dtype=torch.float64)
            for y, weight_y in _taps(row, side, size):
                for x, weight_x in _taps(column, side, size):
                    expected += weight_y * weight_x * plane[y, x]
            torch.testing.assert_close(pooled[0, row, column], expected)


def _taps(index: int, side: int, size: int) -> list[tuple[int, float]]:
    """The two samples next to the centre of output `index`, and their weights."""
    centre = max((index + 0.5) * side / size - 0.5, 0.0)
    low = int(centre)
    return [(low, 1 - (centre - low)), (min(low + 1, side - 1), centre - low)]
