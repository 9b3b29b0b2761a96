"""The world draws what its specification says, the same every time, and splits share nothing."""

import dataclasses
import hashlib
import json
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from st_simdiff.errors import InputError
from st_simdiff.synth.dataset import draw_split
from st_simdiff.synth.glyphs import BACKGROUNDS, COLORS, DIGITS, SPLITS, digit_glyph, digit_images, shape_mask, textures
from st_simdiff.synth.world import (
    CELL,
    GRID,
    WORLDS,
    World,
    draw_clip,
    owners,
    render,
    render_with_owners,
    world_named,
)

FROZEN = Path(__file__).with_name("frozen.json")
INK, BLACK, WHITE = np.array((255, 240, 150)), np.array((12, 12, 12)), np.array((245, 245, 245))
NOISELESS = dataclasses.replace(WORLDS["plain"], noise=0.0)


def fingerprint(world: str, split: str) -> str:
    """Of the frames and questions of a small data set."""
    digest = hashlib.sha256()
    for clip in draw_split(world, split, 24):
        digest.update(render(clip.spec).tobytes())
        digest.update(repr([(q.prompt, q.answer) for q in clip.questions]).encode())
    return digest.hexdigest()


@pytest.mark.parametrize("world", WORLDS)
def test_worlds_are_frozen(world):
    """A change of the world makes old scores incomparable: raise world.VERSION and freeze anew, knowingly."""
    assert {split: fingerprint(world, split) for split in SPLITS} == json.loads(FROZEN.read_text())[world]


def test_the_same_seed_gives_the_same_clip_and_another_seed_another():
    spec = draw_clip(WORLDS["camera"], "dev", 3)
    assert spec == draw_clip(WORLDS["camera"], "dev", 3)
    assert spec.digest() == draw_clip(WORLDS["camera"], "dev", 3).digest()
    assert spec.digest() != draw_clip(WORLDS["camera"], "dev", 4).digest()
    np.testing.assert_array_equal(render(spec), render(spec))


def test_splits_share_no_digit_and_no_texture():
    for material in (textures, lambda split: {i for digit in range(10) for i in digit_images(split, digit)}):
        sets = [set(material(split)) for split in SPLITS]
        assert sum(map(len, sets)) == len(set.union(*sets))
    assert sum(len(digit_images(split, digit)) for split in SPLITS for digit in range(10)) == 1797


@pytest.mark.parametrize("world", WORLDS)
def test_clips_use_only_material_of_their_split(world):
    for seed in range(20):
        spec = draw_clip(WORLDS[world], "test", seed)
        assert {background.texture for background in spec.backgrounds} <= set(textures("test"))
        for plate in (spec.sign, *spec.flashes):
            assert plate.image in digit_images("test", plate.digit)


@pytest.mark.parametrize("world", WORLDS)
def test_things_keep_apart(world):
    """No two things ever cover the same pixel, so that nothing asked about is hidden."""
    for seed in range(15):
        spec = dataclasses.replace(draw_clip(WORLDS[world], "train", seed), camera=((0, 0),) * WORLDS[world].frames)
        _, shown = render_with_owners(dataclasses.replace(spec, world=dataclasses.replace(spec.world, camera=0)))
        for number, thing in enumerate(owners(spec)):
            if thing in spec.shapes:
                visible = (shown == number).sum((1, 2))[thing.visible_from :]
                assert (visible == shape_mask(thing.name).sum()).all()


def on_line(pixels, start, end):
    """Whether every pixel is a blend of two colours."""
    direction = (end - start) / np.linalg.norm(end - start)
    away = pixels - start
    return np.abs(away - (away @ direction)[..., None] * direction).max(axis=(-3, -2, -1)) < 2.5


def plates(frames, paper, ink):
    """(frames, 4, 4) bool: which cells show a plate, told by its colours alone. The clock covers a plate's top."""
    cells = frames.reshape(len(frames), GRID, CELL, GRID, CELL, 3).swapaxes(2, 3).astype(float)
    inner = cells[:, :, :, 3:15, 1:15]
    return on_line(inner, paper, ink) & (np.ptp(inner.mean(-1), axis=(-2, -1)) > 60)


def read_flashes(frames):
    """(first frame, end frame, row, col) of every flash, read off the pixels."""
    seen = plates(frames, BLACK, INK).astype(int)
    steps = np.diff(np.concatenate((np.zeros((1, GRID, GRID), int), seen, np.zeros((1, GRID, GRID), int))), axis=0)
    found = []
    for row, col in np.ndindex(GRID, GRID):
        starts, ends = (steps[:, row, col] == 1).nonzero()[0], (steps[:, row, col] == -1).nonzero()[0]
        found += [(int(a), int(b), row, col) for a, b in zip(starts, ends, strict=True)]
    return sorted(found)


def test_pixels_show_the_flashes_and_the_sign_of_the_specification():
    for seed in range(60):
        spec = draw_clip(NOISELESS, "dev", seed)
        frames = render(spec)
        wanted = sorted((f.onset, f.onset + f.frames, f.row, f.col) for f in spec.flashes)
        assert read_flashes(frames) == wanted
        events = [event for event in spec.events() if event.kind == "flash"]
        assert sorted((*event.frames, *event.cells[0]) for event in events) == wanted
        assert all(len(event.cells) == 1 for event in events)
        signs = plates(frames, WHITE, BLACK).all(0).nonzero()
        assert [tuple(map(int, cell)) for cell in zip(*signs, strict=True)] == [(spec.sign.row, spec.sign.col)]


def test_pixels_show_the_shapes_backgrounds_and_changes_of_the_specification():
    for seed in range(60):
        spec = draw_clip(NOISELESS, "dev", seed)
        frames = render(spec).astype(int)
        for shape in spec.shapes:
            for t in range(spec.world.frames):
                x, y = shape.path[t]
                box = frames[t, y : y + 12, x : x + 12].reshape(-1, 3)
                changed = shape.change_at is not None and t >= shape.change_at
                color = np.array(COLORS[shape.new_color if changed else shape.color])
                visible = (box == color).all(-1).sum() >= 40
                assert visible == (t >= shape.visible_from)
        mover = (frames == COLORS[spec.mover.color]).all(-1)
        (y0, x0), (y1, x1) = (np.argwhere(mover[t]).mean(0) for t in (0, -1))
        axis = {"left": x0 - x1, "right": x1 - x0, "up": y0 - y1, "down": y1 - y0}
        assert max(axis, key=axis.get) == spec.direction
        for t in (0, -1):
            ratios = {
                name: np.abs(np.median(frames[t] / np.array(color), axis=(0, 1)) - 1).max()
                for name, color in BACKGROUNDS.items()
            }
            assert min(ratios, key=ratios.get) == spec.backgrounds[t].color


def test_flashes_are_apart_and_never_in_the_first_frame():
    for world in ("plain", "large_events", "long_events"):
        for seed in range(200):
            spec = draw_clip(WORLDS[world], "train", seed)
            spans = sorted((f.onset, f.onset + f.frames) for f in spec.flashes)
            assert all(first >= 1 and end <= 16 for first, end in spans)
            assert all(end < onset for (_, end), (onset, _) in pairwise(spans))
            digits = [spec.sign.digit, *(f.digit for f in spec.flashes)]
            assert len(set(digits)) == len(digits)


def test_the_clock_grows_and_is_the_same_in_every_clip():
    bars = []
    for seed in range(3):
        top = render(draw_clip(NOISELESS, "train", seed))[:, 0, :, 0]
        bars.append((top == 245).sum(1))
    np.testing.assert_array_equal(bars[0], np.arange(4, 65, 4))
    np.testing.assert_array_equal(bars[0], bars[1])
    np.testing.assert_array_equal(bars[0], bars[2])


def test_stress_worlds_do_what_their_names_say():
    clip = {name: render(draw_clip(WORLDS[name], "dev", 5)).astype(int) for name in WORLDS}
    still = clip["static"][:, 4:]
    assert (still == still[0]).all()
    change = {name: np.abs(np.diff(frames[:, 4:], axis=0)).mean() for name, frames in clip.items()}
    assert change["noise"] > 2 * change["plain"]
    assert change["fast_drift"] > change["drift"] > change["plain"]
    assert np.ptp(clip["lighting"].mean((1, 2, 3))) > 3 * np.ptp(clip["static"].mean((1, 2, 3)))
    assert any(shift != (0, 0) for shift in draw_clip(WORLDS["camera"], "dev", 5).camera)
    large = [e for e in draw_clip(WORLDS["large_events"], "dev", 5).events() if e.kind == "flash"]
    assert all(len(event.cells) == 4 and 2 <= event.frames[1] - event.frames[0] <= 3 for event in large)
    long = [e for e in draw_clip(WORLDS["long_events"], "dev", 5).events() if e.kind == "flash"]
    assert all(3 <= event.frames[1] - event.frames[0] <= 4 for event in long)


def test_warped_digits_are_for_training_alone_and_differ_from_the_written_ones():
    assert all(world.digit_warp == 0 for world in WORLDS.values())
    image = digit_images("train", 7)[0]
    written = digit_glyph(image)
    assert 0 <= written.min() < 0.1 < 0.8 < written.max() <= 1
    assert np.abs(digit_glyph(image, (0.2, 1.1, 0.5, 0.0)) - written).max() > 0.1
    warped = draw_clip(World(digit_warp=1.0), "train", 0)
    assert len({plate.warp for plate in (warped.sign, *warped.flashes)}) == 1 + len(warped.flashes)


def test_bad_input_is_told_in_a_sentence():
    with pytest.raises(InputError, match=r"Unknown world 'plian'\. Did you mean 'plain'\?"):
        world_named("plian")
    with pytest.raises(InputError, match=r"Unknown split 'tests'\. Did you mean 'test'\?"):
        draw_clip(WORLDS["plain"], "tests", 0)
    with pytest.raises(InputError, match="4 flashes of up to 4 frames, one frame apart, need 20 frames"):
        World(flash_frames=(1, 4))
    with pytest.raises(InputError, match="flash_span is 3; it must be 1 or 2 cells"):
        World(flash_span=3)
    assert len(DIGITS) == 10
