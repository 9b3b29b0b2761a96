"""The page: what it stores, and how it behaves in a browser."""

from __future__ import annotations

import base64
import json
import random
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from st_simdiff.methods.random import Random
from st_simdiff.methods.st_simdiff import STSimDiff
from st_simdiff.selection.graph import cosine_planes, node_view
from st_simdiff.selection.grid import TokenGrid
from st_simdiff.selection.select import select
from st_simdiff.show.make import look_at_pixels
from st_simdiff.show.page import page, page_data
from st_simdiff.show.projection import project
from st_simdiff.show.provenance import Fate
from st_simdiff.show.runs import Subject, Thresholds, run_on_features
from st_simdiff.show.video import Clip

GRIDS = [TokenGrid(6, 5, 7), TokenGrid(4, 3, 5, "row"), TokenGrid(5, 4, 4, "frame"), TokenGrid(3, 4, 4, "end")]


def made_up(grid: TokenGrid, dimensions: int, seed: int = 0) -> tuple[Clip, Subject]:
    """A clip of noise with features that drift from frame to frame, copies among them."""
    generator = torch.Generator().manual_seed(seed)
    features = torch.randn(grid.count, dimensions, generator=generator)
    for offset in range(grid.frame_length, grid.count):
        if offset % 7:
            features[offset] = features[offset - grid.frame_length]
            if offset % 3:
                features[offset] += 0.35 * torch.randn(dimensions, generator=generator)
    frames = np.random.default_rng(seed).integers(0, 256, (grid.frames, 40, 56, 3), dtype=np.uint8)
    clip = Clip(frames, np.arange(grid.frames) * 0.5, 'a "quoted" </script> name.mp4')
    return clip, Subject(grid, features, "made up", torch.ones(grid.frames), (2,))


def write_page(folder: Path, clip: Clip, subject: Subject, tau_diff: float = 0.2) -> Path:
    methods = (STSimDiff(retention=0.3), Random(retention=0.3))
    views = [run_on_features(method, subject.features, subject.grid) for method in methods]
    path = folder / "page.html"
    path.write_text(page(clip, subject, views, Thresholds(tau_diff=tau_diff)), encoding="utf-8")
    return path


def test_projection_keeps_cosines_best_and_is_exact_where_it_can_be() -> None:
    features = torch.randn(300, 80, generator=torch.Generator().manual_seed(0)) @ torch.diag(0.9 ** torch.arange(80))
    unit = torch.nn.functional.normalize(features, dim=-1)
    found = project(features, 20)
    assert found.features.shape == (300, 20)
    best = torch.linalg.svd(unit, full_matrices=False).S.square()
    assert found.share == pytest.approx(float(best[:20].sum() / best.sum()), abs=1e-5)
    few = project(features[:, :16])
    assert few.share == 1
    cosines = torch.nn.functional.normalize(features[:, :16], dim=-1)
    torch.testing.assert_close(few.features @ few.features.T, cosines @ cosines.T)


def test_projection_of_wide_features_keeps_almost_as_much() -> None:
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(200, 90, generator=generator) @ torch.randn(90, 1500, generator=generator)
    before = torch.random.get_rng_state()
    found = project(features)
    assert torch.equal(before, torch.random.get_rng_state())
    unit = torch.nn.functional.normalize(features, dim=-1)
    best = torch.linalg.svd(unit, full_matrices=False).S.square()
    assert found.share > 0.97 * float(best[:64].sum() / best.sum())


def test_a_large_video_gets_fewer_dimensions() -> None:
    assert project(torch.randn(40_000, 64)).features.shape[1] == 37


def test_the_page_needs_nothing_else_and_no_name_breaks_it(tmp_path: Path) -> None:
    clip, subject = made_up(GRIDS[0], 12)
    text = write_page(tmp_path, clip, subject).read_text(encoding="utf-8")
    assert not re.search(r"(https?:)?//[a-z0-9.-]+\.[a-z]{2,}", re.sub(r'"[A-Za-z0-9+/=]{200,}"', "", text))
    stored = re.search(r'<script id="data" type="application/json">(.*?)</script>', text, re.DOTALL)
    assert clip.name in json.loads(stored[1])["title"]
    assert "{{" not in text.split('<script id="data"')[0]


def test_views_are_stored_as_they_are() -> None:
    clip, subject = made_up(GRIDS[1], 12)
    view = run_on_features(STSimDiff(retention=0.3), subject.features, subject.grid)
    data = page_data(clip, subject, [view], Thresholds())
    stored = data["views"][0]

    def decoded(name: str, kind: str) -> list:
        return np.frombuffer(base64.b64decode(stored[name]), kind).tolist()

    assert decoded("fate", "u1") == view.provenance.fate.tolist()
    assert decoded("community", "<i4") == view.provenance.community.tolist()
    assert stored["attention"] is None
    assert data["liveNote"] == "Candidates for the language model."


def test_the_note_says_what_the_projection_costs() -> None:
    clip, subject = made_up(GRIDS[0], 200)
    view = run_on_features(STSimDiff(retention=0.3), subject.features, subject.grid)
    note = page_data(clip, subject, [view], Thresholds())["liveNote"]
    live = select(project(subject.features).features, subject.grid, 0.3).candidate
    share = 100 * (live == view.provenance.kept).double().mean()
    assert "64 of the features' 200 dimensions" in note
    assert f"as recorded for {share:.1f} % of the tokens" in note


# --- in a browser ---


def open_page(browser: Any, path: Path) -> None:
    browser.get(path.as_uri())
    assert browser.get_log("browser") == []


def settled(browser: Any) -> None:
    """Waits until what was asked for is drawn."""
    browser.execute_async_script("const done = arguments[0]; requestAnimationFrame(() => requestAnimationFrame(done));")


def text_of(browser: Any, pane: int, part: str) -> str:
    return browser.execute_script(f"return panes[{pane}].{part}.innerText")


@pytest.mark.parametrize("grid", GRIDS, ids=lambda grid: grid.separators)
@pytest.mark.parametrize("dimensions", [12, 90])
def test_the_page_selects_as_python_does(browser: Any, tmp_path: Path, grid: TokenGrid, dimensions: int) -> None:
    clip, subject = made_up(grid, dimensions, seed=dimensions)
    open_page(browser, write_page(tmp_path, clip, subject))
    features = project(subject.features).features
    draw = random.Random(grid.count).randint
    chosen = [(0.3, 0.8, 0.2), (1.0, 0.99, -1.0), (0.01, -1.0, 1.0), (0.07, 1.0, 0.9)]
    chosen += [(draw(1, 100) / 100, draw(-20, 100) / 100, draw(-100, 100) / 100) for _ in range(40)]
    planes = cosine_planes(node_view(features, grid))
    # exactly the weight of an edge: neither a similar pair nor an event
    for plane in (planes.right, planes.down, planes.next):
        highest = plane[plane < 0.999].sort().values[-5:]
        chosen += [(0.3, weight, 0.2) for weight in highest.tolist()]
    chosen += [(0.3, 0.8, float(planes.next.flatten()[index])) for index in (0, 7)]
    answers = browser.execute_script(
        "return arguments[0].map(([r, s, d]) => { const c = select(stored, r, s, d);"
        "return [c.community, c.representative, c.event, c.centrality].map((values) => Array.from(values)); });",
        chosen,
    )
    sizes = set()
    for (retention, tau_sim, tau_diff), (community, representative, event, centrality) in zip(
        chosen, answers, strict=True
    ):
        expected = select(features, grid, retention, tau_sim=tau_sim, tau_diff=tau_diff)
        assert community == expected.community.tolist()
        assert representative == expected.representative.int().tolist()
        assert event == expected.event.int().tolist()
        np.testing.assert_allclose(centrality, expected.centrality.numpy(), atol=1e-6)
        sizes.add(int(expected.candidate.sum()))
    assert len(sizes) > 10


def test_on_a_real_clip_the_page_starts_with_what_was_recorded(browser: Any, tmp_path: Path, clip_path: Path) -> None:
    clip, subject, views = look_at_pixels(clip_path, 12, [STSimDiff(retention=0.3)])
    path = tmp_path / "page.html"
    path.write_text(page(clip, subject, views, Thresholds()), encoding="utf-8")
    open_page(browser, path)
    assert browser.execute_script("return Array.from(state.live.fate)") == views[0].provenance.fate.tolist()


def test_64_frames_make_a_page_below_15_megabytes(bikes: Path) -> None:
    clip, subject, views = look_at_pixels(bikes, 64, [STSimDiff(retention=0.3), Random(retention=0.3)], (14, 14))
    assert len(page(clip, subject, views, Thresholds())) < 15e6


def test_sliders_recompute(browser: Any, tmp_path: Path) -> None:
    from selenium.webdriver.common.by import By
    from selenium.webdriver.common.keys import Keys

    grid = GRIDS[0]
    clip, subject = made_up(grid, 12)
    open_page(browser, write_page(tmp_path, clip, subject))
    features = project(subject.features).features
    at_first = text_of(browser, 0, "summary")
    left, right = Keys.ARROW_LEFT, Keys.ARROW_RIGHT
    for name, key, value in (("tau_sim", left, 0.7), ("tau_diff", right, 0.3), ("retention", right, 0.4)):
        browser.find_element(By.ID, name).send_keys(*[key] * 10)
        settled(browser)
        assert browser.execute_script(f"return state.settings.{name}") == value
    kept = int(select(features, grid, 0.4, tau_sim=0.7, tau_diff=0.3).candidate.sum())
    assert text_of(browser, 0, "summary").startswith(f"{kept} of {grid.count} kept")
    assert text_of(browser, 0, "summary") != at_first
    browser.find_element(By.ID, "reset").click()
    settled(browser)
    assert text_of(browser, 0, "summary") == at_first
    assert browser.get_log("browser") == []


def test_scrubbing_playing_and_keys(browser: Any, tmp_path: Path) -> None:
    from selenium.webdriver import ActionChains
    from selenium.webdriver.common.by import By
    from selenium.webdriver.common.keys import Keys
    from selenium.webdriver.support.ui import WebDriverWait

    clip, subject = made_up(GRIDS[0], 12)
    open_page(browser, write_page(tmp_path, clip, subject))

    def frame() -> int:
        settled(browser)
        return browser.execute_script("return state.frame")

    body = browser.find_element(By.TAG_NAME, "body")
    picture = browser.execute_script("return panes[0].picture")
    still = browser.execute_script("return panes[0].picture.toDataURL()")
    browser.find_element(By.ID, "frame").send_keys(Keys.ARROW_RIGHT, Keys.ARROW_RIGHT)
    assert frame() == 2
    assert browser.find_element(By.ID, "time").text == "3 of 6, 1.00 s"
    assert browser.execute_script("return panes[0].picture.toDataURL()") != still
    browser.execute_script("document.activeElement.blur()")
    body.send_keys(Keys.ARROW_RIGHT)
    assert frame() == 3
    body.send_keys(Keys.END)
    assert frame() == 5
    bars = browser.execute_script("return panes[1].bars")
    ActionChains(browser).move_to_element_with_offset(bars, -round(bars.size["width"] * 0.4), 0).click().perform()
    assert frame() == 0
    body.send_keys("2", "7")
    settled(browser)
    assert browser.execute_script("return state.panes.map((pane) => pane.mode)") == ["communities", "video"]
    picture.send_keys(Keys.ARROW_DOWN, Keys.ARROW_RIGHT, Keys.ARROW_RIGHT)
    settled(browser)
    assert "frame 1, row 2, column 3" in text_of(browser, 0, "details")
    assert frame() == 0
    browser.find_element(By.ID, "play").click()
    WebDriverWait(browser, 5).until(lambda _: frame() >= 2)
    browser.find_element(By.ID, "play").click()
    assert browser.get_log("browser") == []


def test_hovering_tells_what_became_of_a_token(browser: Any, tmp_path: Path) -> None:
    from selenium.webdriver import ActionChains

    grid = GRIDS[1]
    clip, subject = made_up(grid, 12)
    open_page(browser, write_page(tmp_path, clip, subject))
    browser.execute_script("goTo(2)")
    settled(browser)
    picture = browser.execute_script("return panes[0].picture")
    story = run_on_features(STSimDiff(retention=0.3), subject.features, grid).provenance
    chosen = select(subject.features, grid, 0.3)
    for row, column in ((0, 0), (1, 3), (2, 4)):
        across = round(((column + 0.5) / grid.width - 0.5) * picture.size["width"])
        down = round(((row + 0.5) / grid.height - 0.5) * picture.size["height"])
        ActionChains(browser).move_to_element_with_offset(picture, across, down).perform()
        settled(browser)
        words = text_of(browser, 0, "details")
        offset = int(grid.patches()[2, row, column])
        assert f"frame 3, row {row + 1}, column {column + 1} (number {offset} of {grid.count})" in words
        assert Fate(int(story.fate[offset])).label in words
        assert f"{float(story.centrality[offset]):.4f}" in words
        assert f"{float(chosen.planes.next[1, row, column]):.4f}" in words
        fate = browser.execute_script(f"return recorded[1].fate[{offset}]")
        assert Fate(fate).label in text_of(browser, 1, "details")


def test_pictures_in_the_page_have_the_colours_of_the_fates(browser: Any, tmp_path: Path) -> None:
    grid = GRIDS[0]
    clip, subject = made_up(grid, 12)
    open_page(browser, write_page(tmp_path, clip, subject, tau_diff=0.5))
    browser.execute_script("goTo(3)")
    settled(browser)
    corners = browser.execute_script(
        "const canvas = panes[0].picture, context = canvas.getContext('2d'), found = [];"
        "eachPatch(canvas, (offset, [left, top, width, height]) =>"
        "  found.push([offset, Array.from(context.getImageData(left + width - 2, top + height / 2, 1, 1).data)]));"
        "return found;"
    )
    story = run_on_features(STSimDiff(retention=0.3, tau_diff=0.5), subject.features, grid).provenance
    assert len(corners) == grid.height * grid.width
    seen = set()
    for offset, colour in corners:
        fate = Fate(int(story.fate[offset]))
        seen.add(fate)
        if fate == Fate.EVENT:
            assert colour[:3] == [255, 72, 24]
        elif fate == Fate.REPRESENTATIVE:
            assert colour[:3] == [240, 228, 66]
        else:
            assert max(colour[:3]) < 90
    assert seen == {Fate.DROPPED, Fate.REPRESENTATIVE, Fate.EVENT}
