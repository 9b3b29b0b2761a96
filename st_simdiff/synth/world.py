"""The world: what one clip shows (a `ClipSpec`), drawn from a seed, and its frames. Pure numpy.

A clip has a stable part (a textured background, a shape that rests, a shape that glides, a handwritten digit on a white
sign) and brief events (digits that flash on black plates, a cut to another background, a shape that appears, a shape
that changes colour). A bar along the top edge grows with time: it is the only clock.
"""

from __future__ import annotations

import dataclasses
import hashlib
from dataclasses import dataclass, field

import numpy as np

from st_simdiff.errors import InputError, unknown
from st_simdiff.synth.glyphs import (
    BACKGROUNDS,
    COLORS,
    NO_WARP,
    PLATE_SIZE,
    SHAPE_SIZE,
    SHAPES,
    digit_glyph,
    digit_images,
    shape_mask,
    split_number,
    texture,
    textures,
)

VERSION = 1
DIRECTIONS = {"left": (-1, 0), "right": (1, 0), "up": (0, -1), "down": (0, 1)}
SIZE = 64
CELL = 16
GRID = SIZE // CELL
CLOCK_HEIGHT = 2
_PLATE_MARGIN = (CELL - PLATE_SIZE) // 2
_BLACK, _WHITE, _INK = (12, 12, 12), (245, 245, 245), (255, 240, 150)


@dataclass(frozen=True)
class World:
    """The rules by which clips are drawn.

    frames: of 64x64 pixels. flash_counts: the possible numbers of flashes, drawn uniformly. flash_frames: shortest and
    longest flash. flash_span: cells along each side of a flash. moving: whether the gliding shape glides.
    background_drift: pixels a frame. camera: largest shift of the whole scene, pixels. lighting: relative amplitude of
    the slow change of light. noise: standard deviation of the pixel noise, of 255. digit_warp: how much digits are
    rotated, scaled and shifted, 0 for as they were written; for training.
    """

    frames: int = 16
    flash_counts: tuple[int, ...] = (1, 2, 3, 4)
    flash_frames: tuple[int, int] = (1, 2)
    flash_span: int = 1
    cut_probability: float = 0.35
    appearance_probability: float = 0.3
    change_probability: float = 0.3
    moving: bool = True
    background_drift: int = 0
    camera: int = 0
    lighting: float = 0.0
    noise: float = 4.0
    digit_warp: float = 0.0

    def __post_init__(self) -> None:
        shortest, longest = self.flash_frames
        needed = 1 + max(self.flash_counts) * (longest + 1) - 1
        if not 1 <= shortest <= longest or (max(self.flash_counts) > 0 and needed > self.frames):
            raise InputError(
                f"{max(self.flash_counts)} flashes of up to {longest} frames, one frame apart, need {needed} frames; "
                f"the world has {self.frames}."
            )
        if self.flash_span not in (1, 2):
            raise InputError(f"flash_span is {self.flash_span}; it must be 1 or 2 cells.")


WORLDS: dict[str, World] = {
    "plain": World(),
    "drift": World(background_drift=1),
    "fast_drift": World(background_drift=4),
    "camera": World(camera=2),
    "lighting": World(lighting=0.3),
    "noise": World(noise=16.0),
    "large_events": World(flash_span=2, flash_frames=(2, 3), flash_counts=(1, 2, 3)),
    "long_events": World(flash_frames=(3, 4), flash_counts=(1, 2, 3)),
    "static": World(flash_counts=(0,), cut_probability=0.0, appearance_probability=0.0, change_probability=0.0,
                    moving=False, noise=0.0),
    "long": World(frames=32),
}  # fmt: skip


def world_named(name: str) -> World:
    """One of `WORLDS`. Raises InputError for an unknown name."""
    if name not in WORLDS:
        raise unknown("world", name, WORLDS)
    return WORLDS[name]


@dataclass(frozen=True)
class Background:
    """color: a key of BACKGROUNDS. texture: an id."""

    color: str
    texture: int


@dataclass(frozen=True)
class Shape:
    """A coloured shape. path: top left corner (x, y) in every frame, pixels. Visible from frame `visible_from` on.
    From frame `change_at` on, if any, its colour is `new_color`."""

    name: str
    color: str
    path: tuple[tuple[int, int], ...]
    visible_from: int = 0
    change_at: int | None = None
    new_color: str | None = None


@dataclass(frozen=True)
class Plate:
    """A handwritten digit on a plate in grid cell (row, col), in frames onset .. onset + frames - 1.

    image: index into `load_digits`. span: the digit is repeated in span x span cells. flash: black plate, bright ink;
    otherwise the sign's white plate, black ink. warp: of `digit_glyph`.
    """

    digit: int
    image: int
    row: int
    col: int
    onset: int
    frames: int
    span: int = 1
    flash: bool = True
    warp: tuple[float, float, float, float] = NO_WARP


@dataclass(frozen=True)
class Event:
    """Something brief that happens. kind: flash, cut, appearance or change. frames: onset and end (exclusive) of what
    it shows. box: pixels (x0, y0, x1, y1), end exclusive. cells: (row, col) of the 4 x 4 grid that the box touches."""

    kind: str
    frames: tuple[int, int]
    box: tuple[int, int, int, int]

    @property
    def cells(self) -> tuple[tuple[int, int], ...]:
        return self.cells_of(GRID)

    def cells_of(self, grid: int) -> tuple[tuple[int, int], ...]:
        """(row, col) of the cells that the box touches, where the frame is divided into grid x grid of them."""
        side = SIZE // grid
        x0, y0, x1, y1 = self.box
        rows, cols = range(y0 // side, (y1 - 1) // side + 1), range(x0 // side, (x1 - 1) // side + 1)
        return tuple((row, col) for row in rows for col in cols)


@dataclass(frozen=True)
class ClipSpec:
    """Everything that one clip shows. cut: the first frame of the second background, if there are two."""

    world: World
    backgrounds: tuple[Background, ...]
    cut: int | None
    mover: Shape
    direction: str | None
    resting: Shape
    appearing: Shape | None
    sign: Plate
    flashes: tuple[Plate, ...]
    camera: tuple[tuple[int, int], ...]
    light: tuple[float, ...]
    noise_seed: tuple[int, ...] = field(default=())

    @property
    def shapes(self) -> tuple[Shape, ...]:
        return (self.mover, self.resting) + ((self.appearing,) if self.appearing else ())

    def events(self) -> tuple[Event, ...]:
        """The clip's events in order of onset. Boxes are those of the scene before any camera shift."""
        last = self.world.frames
        found = [Event("flash", (f.onset, f.onset + f.frames), _plate_box(f)) for f in self.flashes]
        if self.cut is not None:
            found.append(Event("cut", (self.cut, last), (0, 0, SIZE, SIZE)))
        if self.appearing is not None:
            start = self.appearing.visible_from
            found.append(Event("appearance", (start, last), _shape_box(self.appearing, start)))
        for shape in self.shapes:
            if shape.change_at is not None:
                found.append(Event("change", (shape.change_at, last), _shape_box(shape, shape.change_at)))
        return tuple(sorted(found, key=lambda event: (event.frames, event.kind, event.box)))

    def digest(self) -> str:
        """A fingerprint of the specification."""
        return hashlib.sha256(repr(dataclasses.astuple(self)).encode()).hexdigest()


def _plate_box(plate: Plate) -> tuple[int, int, int, int]:
    return (
        plate.col * CELL,
        plate.row * CELL,
        (plate.col + plate.span) * CELL,
        (plate.row + plate.span) * CELL,
    )


def _shape_box(shape: Shape, frame: int) -> tuple[int, int, int, int]:
    x, y = shape.path[frame]
    return (x, y, x + SHAPE_SIZE, y + SHAPE_SIZE)


def draw_clip(world: World, split: str, seed: int) -> ClipSpec:
    """Draw one clip. The same world, split and seed give the same clip; splits share no digit, texture or seed."""
    random = np.random.default_rng([VERSION, split_number(split), seed])
    names = [str(n) for n in random.permutation(list(SHAPES))]
    colors = [str(c) for c in random.permutation(list(COLORS))]
    digits = [int(d) for d in random.permutation(10)]
    margin = world.frames // 3
    cut = int(random.integers(margin, world.frames - margin)) if _happens(random, world.cut_probability) else None
    backgrounds = _draw_backgrounds(random, split, 1 if cut is None else 2)
    count = int(random.choice(world.flash_counts))

    direction, lane, mover_path = _draw_motion(random, world)
    cells = _free_cells(random, lane)
    flash_cells = _take_flash_cells(random, cells, count, world.flash_span)
    resting_cell, sign_cell, appearing_cell = cells.pop(), cells.pop(), cells.pop()

    resting = Shape(names[1], colors[1], _rest(random, world, resting_cell))
    if _happens(random, world.change_probability):
        resting = dataclasses.replace(resting, change_at=_event_frame(random, world), new_color=colors[2])
    appearing = None
    if _happens(random, world.appearance_probability):
        path = _rest(random, world, appearing_cell)
        appearing = Shape(names[2], colors[3], path, visible_from=_event_frame(random, world))
    sign = Plate(
        digits[0],
        _draw_image(random, split, digits[0]),
        *sign_cell,
        onset=0,
        frames=world.frames,
        flash=False,
        warp=_draw_warp(random, world),
    )
    flashes = tuple(
        Plate(
            digit,
            _draw_image(random, split, digit),
            *cell,
            onset,
            frames,
            world.flash_span,
            warp=_draw_warp(random, world),
        )
        for digit, cell, (onset, frames) in zip(
            digits[1 : 1 + count], flash_cells, _draw_flash_times(random, world, count), strict=True
        )
    )
    return ClipSpec(
        world=world,
        backgrounds=backgrounds,
        cut=cut,
        mover=Shape(names[0], colors[0], mover_path),
        direction=direction,
        resting=resting,
        appearing=appearing,
        sign=sign,
        flashes=flashes,
        camera=_draw_camera(random, world),
        light=_draw_light(random, world),
        noise_seed=(VERSION, 100 + split_number(split), seed),
    )


def _happens(random: np.random.Generator, probability: float) -> bool:
    return bool(random.random() < probability)


def _event_frame(random: np.random.Generator, world: World) -> int:
    return int(random.integers(2, world.frames - 2))


def _draw_backgrounds(random: np.random.Generator, split: str, count: int) -> tuple[Background, ...]:
    colors = random.permutation(list(BACKGROUNDS))[:count]
    return tuple(Background(str(color), int(random.choice(textures(split)))) for color in colors)


def _draw_image(random: np.random.Generator, split: str, digit: int) -> int:
    return int(random.choice(digit_images(split, digit)))


def _draw_warp(random: np.random.Generator, world: World) -> tuple[float, float, float, float]:
    if not world.digit_warp:
        return NO_WARP
    angle, scale, right, down = (float(part) for part in world.digit_warp * random.uniform(-1, 1, 4))
    return 0.25 * angle, 1 + 0.15 * scale, 0.6 * right, 0.6 * down


def _draw_motion(
    random: np.random.Generator, world: World
) -> tuple[str | None, frozenset[tuple[int, int]], tuple[tuple[int, int], ...]]:
    """A direction, the cells of the row or column that the shape glides in, and where it is in every frame."""
    direction = str(random.choice(list(DIRECTIONS)))
    dx, dy = DIRECTIONS[direction]
    index = int(random.choice((0, GRID - 1)))
    travel = int(random.integers(24, 45)) if world.moving else 0
    room = SIZE - SHAPE_SIZE - 4 - travel
    start = 2 + int(random.integers(0, room + 1))
    along = start + np.round(travel * np.linspace(0, 1, world.frames)).astype(int)
    if dx + dy < 0:
        along = along[::-1]
    across = index * CELL + 2 + (1 if index == 0 else 0)
    path = tuple((int(a), across) if dx else (across, int(a)) for a in along)
    lane = frozenset((index, k) if dx else (k, index) for k in range(GRID))
    return (direction if world.moving else None), lane, path


def _free_cells(random: np.random.Generator, lane: frozenset[tuple[int, int]]) -> list[tuple[int, int]]:
    cells = [(row, col) for row in range(GRID) for col in range(GRID) if (row, col) not in lane]
    return [cells[i] for i in random.permutation(len(cells))]


def _take_flash_cells(
    random: np.random.Generator, cells: list[tuple[int, int]], count: int, span: int
) -> list[tuple[int, int]]:
    """Where the flashes are: distinct cells, or blocks of 2 x 2 cells that may recur. Removes them from `cells`."""
    if span == 1:
        return [cells.pop() for _ in range(count)]
    blocks = [c for c in cells if {(c[0] + i, c[1] + j) for i in (0, 1) for j in (0, 1)} <= set(cells)]
    chosen = [blocks[int(random.integers(2))] for _ in range(count)]
    taken = {(r + i, c + j) for r, c in chosen for i in (0, 1) for j in (0, 1)}
    cells[:] = [cell for cell in cells if cell not in taken]
    return chosen


def _rest(random: np.random.Generator, world: World, cell: tuple[int, int]) -> tuple[tuple[int, int], ...]:
    """A shape that stays in one cell and sways by a pixel at most."""
    row, col = cell
    x, y = col * CELL + 2, row * CELL + 3
    sway = random.integers(0, 2, world.frames) if world.moving else np.zeros(world.frames, dtype=int)
    steady = np.maximum.accumulate(sway) if _happens(random, 0.5) else np.zeros_like(sway)
    return tuple((x + int(s), y) for s in steady)


def _draw_flash_times(random: np.random.Generator, world: World, count: int) -> list[tuple[int, int]]:
    """(onset, frames) of every flash in a random order: from frame 1 on, at least a frame apart."""
    shortest, longest = world.flash_frames
    lengths = random.integers(shortest, longest + 1, count)
    slack = world.frames - 1 - int(lengths.sum()) - max(count - 1, 0)
    waits = np.sort(random.integers(0, slack + 1, count))
    onsets = 1 + waits + np.concatenate(([0], np.cumsum(lengths + 1)[:-1])) if count else waits
    return [(int(onsets[i]), int(lengths[i])) for i in random.permutation(count)]


def _draw_camera(random: np.random.Generator, world: World) -> tuple[tuple[int, int], ...]:
    steps = random.integers(-1, 2, (world.frames, 2))
    path = np.zeros(2, dtype=int)
    shifts = []
    for step in steps:
        path = np.clip(path + step, -world.camera, world.camera)
        shifts.append((int(path[0]), int(path[1])))
    return tuple(shifts)


def _draw_light(random: np.random.Generator, world: World) -> tuple[float, ...]:
    phase = random.uniform(0, 2 * np.pi)
    turn = phase + np.pi * np.arange(world.frames) / world.frames
    return tuple(round(float(g), 6) for g in 1 + world.lighting * np.sin(turn))


def render(spec: ClipSpec) -> np.ndarray:
    """The frames of a clip, (frames, 64, 64, 3) uint8 RGB."""
    return render_with_owners(spec)[0]


def render_with_owners(spec: ClipSpec) -> tuple[np.ndarray, np.ndarray]:
    """The frames, and what each pixel shows: (frames, 64, 64) uint8, an index into `owners(spec)`."""
    world, pad = spec.world, spec.world.camera
    images = np.empty((world.frames, SIZE, SIZE, 3), dtype=np.float32)
    shown = np.empty((world.frames, SIZE, SIZE), dtype=np.uint8)
    for t in range(world.frames):
        image, owner = _paint(spec, t)
        if pad:
            dx, dy = spec.camera[t]
            image = np.pad(image, ((pad, pad), (pad, pad), (0, 0)), mode="edge")[
                pad + dy : pad + dy + SIZE, pad + dx : pad + dx + SIZE
            ]
            owner = np.pad(owner, pad)[pad + dy : pad + dy + SIZE, pad + dx : pad + dx + SIZE]
        images[t], shown[t] = image * np.float32(spec.light[t]), owner
        _paint_clock(images[t], (t + 1) / world.frames)
    if world.noise:
        random = np.random.default_rng(spec.noise_seed)
        images += np.float32(world.noise) * random.standard_normal(images.shape, dtype=np.float32)
    return np.clip(np.rint(images), 0, 255).astype(np.uint8), shown


def owners(spec: ClipSpec) -> tuple[Shape | Plate | None, ...]:
    """What the numbers of `render_with_owners` stand for; 0 is the background."""
    return (None, *spec.shapes, spec.sign, *spec.flashes)


def _paint(spec: ClipSpec, t: int) -> tuple[np.ndarray, np.ndarray]:
    background = spec.backgrounds[1 if spec.cut is not None and t >= spec.cut else 0]
    pattern = texture(background.texture, SIZE)
    if spec.world.background_drift:
        pattern = np.roll(pattern, spec.world.background_drift * t, axis=1)
    image = np.asarray(BACKGROUNDS[background.color], dtype=np.float32) * pattern[..., None]
    owner = np.zeros((SIZE, SIZE), dtype=np.uint8)
    for number, thing in enumerate(owners(spec)):
        if isinstance(thing, Shape) and t >= thing.visible_from:
            _paint_shape(image, owner, thing, t, number)
        elif isinstance(thing, Plate) and thing.onset <= t < thing.onset + thing.frames:
            _paint_plate(image, owner, thing, number)
    return image, owner


def _paint_shape(image: np.ndarray, owner: np.ndarray, shape: Shape, t: int, number: int) -> None:
    changed = shape.change_at is not None and t >= shape.change_at
    x, y = shape.path[t]
    area = np.s_[y : y + SHAPE_SIZE, x : x + SHAPE_SIZE]
    mask = shape_mask(shape.name)
    image[area][mask] = COLORS[shape.new_color if changed and shape.new_color else shape.color]
    owner[area][mask] = number


def _paint_plate(image: np.ndarray, owner: np.ndarray, plate: Plate, number: int) -> None:
    paper, ink = (_BLACK, _INK) if plate.flash else (_WHITE, _BLACK)
    glyph = digit_glyph(plate.image, plate.warp)[..., None]
    tile = np.asarray(paper, dtype=np.float32) * (1 - glyph) + np.asarray(ink, dtype=np.float32) * glyph
    for row in range(plate.row, plate.row + plate.span):
        for col in range(plate.col, plate.col + plate.span):
            y, x = row * CELL + _PLATE_MARGIN, col * CELL + _PLATE_MARGIN
            area = np.s_[y : y + PLATE_SIZE, x : x + PLATE_SIZE]
            image[area] = tile
            owner[area] = number


def _paint_clock(image: np.ndarray, elapsed: float) -> None:
    image[:CLOCK_HEIGHT] = _BLACK
    image[:CLOCK_HEIGHT, : round(SIZE * elapsed)] = _WHITE
