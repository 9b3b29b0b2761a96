"""Features from pixels: what their cosine means, and that a clip's known events are found, and nothing else."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image

from st_simdiff.methods.st_simdiff import STSimDiff
from st_simdiff.selection.grid import TokenGrid
from st_simdiff.show.drawing import FATE_COLOURS, draw_fates, fate_grid
from st_simdiff.show.known_events import CELLS, CUT_FRAME, FRAMES, KnownEvents
from st_simdiff.show.make import look_at_pixels
from st_simdiff.show.pixel_features import cosine_features, describe_patches, pixel_features, scene_cuts
from st_simdiff.show.provenance import Fate


def test_cosine_falls_with_the_distance_of_descriptions() -> None:
    generator = torch.Generator().manual_seed(3)
    start = torch.randn(400, 8, generator=generator) * 2
    step = torch.nn.functional.normalize(torch.randn(400, 8, generator=generator), dim=-1)
    for distance in (0.0, 0.3, 0.668, 1.2, 1.8, 4.0):
        cosine = (cosine_features(start) * cosine_features(start + distance * step)).sum(-1)
        assert (cosine.mean() - np.exp(-(distance**2) / 2)).abs() < 0.04
        assert cosine.std() < 0.09
    assert torch.allclose(cosine_features(start).norm(dim=-1), torch.ones(400))


def test_each_number_answers_to_its_own_change() -> None:
    grey = torch.full((1, 32, 32, 3), 100, dtype=torch.uint8)
    across, stripes = grey.clone(), grey.clone()
    across[:, :, 16:] = 160
    stripes[:, :, torch.arange(32) // 4 % 2 == 0] = 160  # an eighth of the patch wide
    brighter, red = grey + 44, grey.clone()
    red[..., 0] += 60
    flat = describe_patches(grey, 1, 1)[0, 0, 0]
    changed = {
        name: (describe_patches(frame, 1, 1)[0, 0, 0] - flat).abs() > 0.3
        for name, frame in {"brighter": brighter, "red": red, "across": across, "stripes": stripes}.items()
    }
    assert changed["brighter"].nonzero().flatten().tolist() == [0]
    assert {1, 2} & set(changed["red"].nonzero().flatten().tolist())
    assert {0, 3} <= set(changed["across"].nonzero().flatten().tolist())
    assert not changed["across"][[4, 5, 7]].any()
    assert changed["stripes"][6]
    assert not changed["stripes"][[3, 4, 5, 7]].any()


def test_features_are_in_token_order_and_the_same_every_time() -> None:
    frames = torch.randint(0, 256, (2, 30, 50, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    features = pixel_features(frames, 3, 5)
    assert features.shape == (30, 256)
    later = pixel_features(frames[1:], 3, 5)
    assert torch.equal(features[15:], later)


def test_red_boxes_are_where_and_when_something_changes_and_nowhere_else(
    known_clip: tuple[Path, KnownEvents],
) -> None:
    """Pixel features and the paper's tau_diff = 0.2; light that drifts and noise are no events."""
    path, known = known_clip
    clip, subject, (view,) = look_at_pixels(path, FRAMES, [STSimDiff(retention=0.3, tau_diff=0.2)], (CELLS, CELLS))
    assert len(clip.frames) == FRAMES
    boxed = np.stack([fate_grid(view.provenance, frame) == Fate.EVENT for frame in range(FRAMES)])
    np.testing.assert_array_equal(boxed, known.changed)
    assert subject.cuts == (CUT_FRAME,)


def test_the_drawn_picture_has_red_in_those_cells_alone(known_clip: tuple[Path, KnownEvents]) -> None:
    path, known = known_clip
    _, _, (view,) = look_at_pixels(path, FRAMES, [STSimDiff(retention=0.3)], (CELLS, CELLS))
    cell = 20
    blank = Image.new("RGB", (CELLS * cell, CELLS * cell), (128, 128, 128))
    for frame in range(FRAMES):
        picture = np.asarray(draw_fates(blank, fate_grid(view.provenance, frame)))
        red = (picture == FATE_COLOURS[Fate.EVENT]).all(-1)
        cells = red.reshape(CELLS, cell, CELLS, cell).any((1, 3))
        np.testing.assert_array_equal(cells, known.changed[frame])


def test_the_cuts_of_a_real_clip(bikes: Path) -> None:
    """bikes.mp4 has five, seen by eye; a taxi that fills the picture at 2.9 s is none."""
    clip, subject, _ = look_at_pixels(bikes, 32, [])
    assert [round(float(clip.seconds[cut]), 2) for cut in subject.cuts] == [1.28, 3.2, 5.76, 7.68, 9.96]


def test_a_passing_object_is_no_new_scene() -> None:
    frames = torch.full((3, 64, 64, 3), 200, dtype=torch.uint8)
    frames[:, :, :, 2] = 40
    frames[1, :, :24] = torch.tensor([20, 30, 120], dtype=torch.uint8)
    frames[2, :, 40:] = torch.tensor([20, 30, 120], dtype=torch.uint8)
    grid = TokenGrid(3, 8, 8)
    assert scene_cuts(pixel_features(frames, 8, 8), grid) == []
    frames[2] = torch.tensor([10, 160, 20], dtype=torch.uint8)
    assert scene_cuts(pixel_features(frames, 8, 8), grid) == [2]
