"""Contact sheet, timeline and annotated video: that they show what the provenance says."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageDraw

from st_simdiff.methods.random import Random
from st_simdiff.methods.st_simdiff import STSimDiff
from st_simdiff.methods.uniform_frames import UniformFrames
from st_simdiff.selection.grid import TokenGrid
from st_simdiff.show.annotated_video import write_annotated_video
from st_simdiff.show.colours import PAPER, community_colours, community_ranks
from st_simdiff.show.contact_sheet import choose_frames, contact_sheet
from st_simdiff.show.drawing import (
    FATE_COLOURS,
    attention_places,
    draw_attention,
    draw_communities,
    draw_fates,
    summary_words,
)
from st_simdiff.show.known_events import KnownEvents
from st_simdiff.show.make import look_at_pixels
from st_simdiff.show.provenance import Fate
from st_simdiff.show.timeline import BAR_COLOURS, draw_bars, timeline
from st_simdiff.show.video import square_patches


def test_kept_patches_keep_their_light_and_the_others_lose_it() -> None:
    fates = np.array([[Fate.DROPPED, Fate.REPRESENTATIVE], [Fate.EVENT, Fate.MERGED]])
    picture = Image.new("RGB", (101, 67), (200, 180, 160))
    drawn = np.asarray(draw_fates(picture, fates))
    assert (drawn[10, 75] == (200, 180, 160)).all()
    assert (drawn[50, 25] == (200, 180, 160)).all()
    assert drawn[10, 25].max() < 100
    assert drawn[50, 75, 1] > drawn[50, 75, 0]  # green
    assert (drawn[0, 100] == FATE_COLOURS[Fate.REPRESENTATIVE]).all()
    assert (drawn[66, 0] == FATE_COLOURS[Fate.EVENT]).all()


@settings(deadline=None, max_examples=25)
@given(st.integers(1, 6), st.integers(1, 6), st.integers(24, 60), st.integers(24, 60), st.integers(0, 2**31))
def test_every_patch_is_drawn_at_its_place_whatever_the_size(
    rows: int, columns: int, height: int, width: int, seed: int
) -> None:
    fates = np.random.default_rng(seed).integers(0, len(Fate), (rows, columns))
    drawn = np.asarray(draw_fates(Image.new("RGB", (width, height), (90, 90, 90)), fates))
    for row in range(rows):
        for column in range(columns):
            middle = drawn[(2 * row + 1) * height // (2 * rows), (2 * column + 1) * width // (2 * columns)]
            if min(height // rows, width // columns) >= 8:
                assert (middle == 90).all() == (fates[row, column] >= Fate.REPRESENTATIVE)


def test_communities_have_their_colours_and_lone_tokens_none() -> None:
    ranks = np.array([[0, 0, -1], [0, 1, 1]])
    drawn = np.asarray(draw_communities(Image.new("RGB", (90, 60), (0, 0, 0)), ranks)).astype(int)
    for row, column in np.argwhere(ranks >= 0):
        tint = drawn[row * 30 + 15, column * 30 + 15] / 0.66
        np.testing.assert_allclose(tint, community_colours(int(ranks[row, column])), atol=2)
    assert np.ptp(drawn[15, 75]) < 5


def test_communities_rank_by_size() -> None:
    community = torch.tensor([0, 0, 2, 3, 3, 3, 6, 6])
    assert community_ranks(community).tolist() == [1, 1, -1, 0, 0, 0, 2, 2]


def test_attention_is_coloured_by_its_place_among_all() -> None:
    grid = TokenGrid(1, 1, 4, "row")
    places = attention_places(torch.tensor([0.1, 0.7, 0.2, 0.15, 99.0]), grid)
    np.testing.assert_allclose(places, [[[0, 1, 2 / 3, 1 / 3]]])
    drawn = np.asarray(draw_attention(Image.new("RGB", (40, 10)), places[0])).astype(int)
    assert drawn[5, 5, 2] > drawn[5, 5, 0]  # blue
    assert drawn[5, 15, 0] > drawn[5, 15, 2]  # yellow


@settings(deadline=None)
@given(st.lists(st.integers(0, 20), min_size=1, max_size=60), st.integers(1, 14))
def test_the_sheet_has_the_frames_of_most_events_in_order(events: list[int], count: int) -> None:
    frames = choose_frames(torch.tensor(events), count)
    assert len(frames) == min(count, len(events))
    assert frames == sorted(set(frames))
    assert 0 <= frames[0] <= frames[-1] < len(events)
    if count >= 8 and max(events[1:], default=0) > 0:
        assert max(events[frame] for frame in frames) >= max(events[1:])


def test_square_patches_are_square_and_about_as_many_as_a_model_has() -> None:
    for width, height in ((640, 272), (1280, 720), (448, 448), (360, 640), (4000, 20)):
        rows, columns = square_patches(width, height)
        assert 140 <= rows * columns <= 260
        if width / height < 10:
            assert 0.85 < (width / columns) / (height / rows) < 1.18


def test_bars_are_as_high_as_the_frames_keep(known_clip: tuple[Path, KnownEvents]) -> None:
    path, _ = known_clip
    _, subject, views = look_at_pixels(path, 16, [STSimDiff(retention=0.3), UniformFrames(retention=0.25)], (14, 14))
    for view in views:
        image = Image.new("RGB", (480 + 60, 200), PAPER)
        draw_bars(ImageDraw.Draw(image), (60, 0, 540, 196), view.provenance)
        pixels = np.asarray(image)
        per_frame = view.provenance.per_frame()
        for frame in range(subject.grid.frames):
            column = pixels[:196, 60 + frame * 30 + 15]
            for fate, colour in BAR_COLOURS.items():
                drawn = (column == colour).all(-1).sum()
                assert abs(int(drawn) - int(per_frame[frame, fate])) <= 1


def test_pictures_of_a_real_clip(clip_path: Path, tmp_path: Path) -> None:
    methods = [STSimDiff(retention=0.3), Random(retention=0.3)]
    clip, subject, views = look_at_pixels(clip_path, 9, methods)
    sheet = contact_sheet(clip, subject, views)
    pixels = np.asarray(sheet)
    for fate in (Fate.REPRESENTATIVE, Fate.EVENT, Fate.CHOSEN):
        assert (pixels == FATE_COLOURS[fate]).all(-1).sum() > 500
    assert np.asarray(timeline(clip, subject, views)).std() > 10
    target = tmp_path / "annotated.mp4"
    write_annotated_video(target, clip, subject, views)
    with av.open(str(target)) as container:
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    assert len(frames) == 9
    assert frames[0].shape[0] % 2 == frames[0].shape[1] % 2 == 0
    assert np.abs(frames[0].astype(int) - frames[-1].astype(int)).mean() > 1


def test_what_a_picture_without_a_model_says_of_candidates(known_clip: tuple[Path, KnownEvents]) -> None:
    path, _ = known_clip
    _, _, views = look_at_pixels(path, 8, [STSimDiff(retention=0.05), Random(retention=0.3)], (14, 14))
    candidates, kept = map(summary_words, views)
    assert " visual tokens are candidates (" in candidates
    assert kept.endswith(" visual tokens kept (30.0 %)")


@pytest.mark.parametrize("frames", [1, 2])
def test_a_clip_of_one_or_two_frames(known_clip: tuple[Path, KnownEvents], tmp_path: Path, frames: int) -> None:
    clip, subject, views = look_at_pixels(known_clip[0], frames, [STSimDiff(retention=0.3)], (1, 2))
    contact_sheet(clip, subject, views)
    timeline(clip, subject, views)
    write_annotated_video(tmp_path / "annotated.mp4", clip, subject, views)
