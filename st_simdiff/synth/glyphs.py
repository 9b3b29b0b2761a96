"""The material of the world: handwritten digits, shapes, colours and textures, in three disjoint splits."""

from __future__ import annotations

from functools import cache, lru_cache

import numpy as np

from st_simdiff.errors import unknown

SPLITS = ("train", "dev", "test")
DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
SHAPES = ("circle", "square", "triangle", "cross", "diamond", "ring")
COLORS = {
    "red": (220, 50, 40),
    "green": (50, 190, 70),
    "blue": (50, 90, 230),
    "yellow": (235, 215, 50),
    "purple": (170, 60, 200),
    "cyan": (60, 200, 220),
}
BACKGROUNDS = {
    "gray": (110, 110, 110),
    "brown": (105, 75, 45),
    "navy": (25, 35, 85),
    "olive": (95, 100, 40),
    "maroon": (90, 25, 40),
    "teal": (25, 90, 85),
}
SHAPE_SIZE = 12
PLATE_SIZE = 14
# Of every ten digit images, in scikit-learn's order: seven train, one dev, two test.
_DIGIT_SPLIT = {"train": range(7), "dev": range(7, 8), "test": range(8, 10)}
_TEXTURES = {"train": range(400), "dev": range(400, 450), "test": range(450, 550)}


def split_number(split: str) -> int:
    """The index of a split, for seeding. Raises InputError for an unknown name."""
    if split not in SPLITS:
        raise unknown("split", split, SPLITS)
    return SPLITS.index(split)


@cache
def _digit_bank() -> tuple[np.ndarray, np.ndarray]:
    from sklearn.datasets import load_digits

    bank = load_digits()
    return bank.images.astype(np.float32) / 16.0, bank.target


@cache
def digit_images(split: str, digit: int) -> tuple[int, ...]:
    """Indices into scikit-learn's `load_digits` of the images of `digit` that belong to `split`."""
    split_number(split)
    _, targets = _digit_bank()
    return tuple(int(i) for i in np.flatnonzero(targets == digit) if i % 10 in _DIGIT_SPLIT[split])


NO_WARP = (0.0, 1.0, 0.0, 0.0)


@lru_cache(maxsize=4096)
def digit_glyph(image: int, warp: tuple[float, float, float, float] = NO_WARP) -> np.ndarray:
    """The ink of one handwritten digit, (PLATE_SIZE, PLATE_SIZE) float32 in 0..1, bilinearly enlarged from 8x8.

    warp: angle in radians, scale, and shift right and down in pixels of the 8x8 image.
    """
    ink = np.pad(_digit_bank()[0][image], 2)
    angle, scale, right, down = warp
    y, x = (np.mgrid[:PLATE_SIZE, :PLATE_SIZE] + 0.5) * 8 / PLATE_SIZE - 4
    cos, sin = np.cos(angle) / scale, np.sin(angle) / scale
    column = np.clip(cos * (x - right) + sin * (y - down) + 5.5, 0, 11)
    row = np.clip(cos * (y - down) - sin * (x - right) + 5.5, 0, 11)
    top, left = np.minimum(row.astype(int), 10), np.minimum(column.astype(int), 10)
    lower, righter = row - top, column - left
    upper_part = ink[top, left] * (1 - righter) + ink[top, left + 1] * righter
    lower_part = ink[top + 1, left] * (1 - righter) + ink[top + 1, left + 1] * righter
    return (upper_part * (1 - lower) + lower_part * lower).astype(np.float32)


def textures(split: str) -> range:
    """Ids of the textures that belong to `split`."""
    split_number(split)
    return _TEXTURES[split]


@cache
def texture(identity: int, size: int) -> np.ndarray:
    """A periodic pattern, (size, size) float32 of mean 1 and about +-0.25, the same for the same id and size."""
    random = np.random.default_rng([7_001, identity])
    pattern = np.zeros((size, size), dtype=np.float32)
    for scale, weight in ((16, 0.5), (8, 0.3), (2, 0.2)):
        coarse = random.uniform(-1, 1, (size // scale, size // scale)).astype(np.float32)
        pattern += weight * np.kron(coarse, np.ones((scale, scale), dtype=np.float32))
    return 1 + 0.35 * (pattern - pattern.mean())


@cache
def shape_mask(name: str) -> np.ndarray:
    """Which pixels a shape covers, (SHAPE_SIZE, SHAPE_SIZE) bool."""
    center = (SHAPE_SIZE - 1) / 2
    y, x = np.mgrid[:SHAPE_SIZE, :SHAPE_SIZE] - center
    radius = np.hypot(x, y)
    half = SHAPE_SIZE / 2
    masks = {
        "circle": radius <= half,
        "square": np.ones_like(x, dtype=bool),
        "triangle": np.abs(x) <= (y + half) / 2,
        "cross": (np.abs(x) <= 2) | (np.abs(y) <= 2),
        "diamond": np.abs(x) + np.abs(y) <= half,
        "ring": (radius <= half) & (radius >= half - 2.5),
    }
    return masks[name]
