"""An environment with this project and what pip would install beside it: links to packages that are here already."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from importlib.metadata import Distribution, distribution
from pathlib import Path

from packaging.markers import default_environment
from packaging.requirements import Requirement

ROOT = Path(__file__).parent.parent
PIP = [sys.executable, "-m", "pip", "--disable-pip-version-check"]


def copy_sources(folder: Path) -> Path:
    """What a build reads, copied to `folder`, so that nothing is written into the checkout."""
    shutil.copytree(ROOT / "st_simdiff", folder / "st_simdiff", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, folder / name)
    return folder


def build_wheel(sources: Path, folder: Path) -> Path:
    """The wheel of `sources`, which is written to `folder`."""
    run([*PIP, "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--wheel-dir", str(folder), str(sources)])
    (wheel,) = folder.glob("*.whl")
    return wheel


def make_environment(folder: Path, source: Path, extra: str = "") -> Path:
    """Installs `source`, a wheel or a checkout, with `extra`. Returns the folder of the environment's commands.

    The packages that the installed project asks for, and those that these ask for, are linked; nothing else is there.
    """
    run([sys.executable, "-m", "venv", "--without-pip", str(folder)])
    python = folder / "bin" / "python"
    (site,) = folder.glob("lib/python*/site-packages")
    if source.is_dir():
        _link(distribution("setuptools"), site)  # builds it
    run([*PIP, "--python", str(python), "install", "--quiet", "--no-deps", "--no-build-isolation", str(source)])
    (installed,) = Distribution.discover(name="st-simdiff", path=[str(site)])
    needed: dict[str, Distribution] = {}
    _add_requirements(installed, {extra}, needed)
    for package in needed.values():
        _link(package, site)
    return python.parent


def _link(package: Distribution, site: Path) -> None:
    """Puts links to the files of `package` into the folder `site`."""
    for name in {file.parts[0] for file in package.files or () if file.parts[0] not in ("..", "__pycache__")}:
        if not (site / name).exists():
            (site / name).symlink_to(Path(str(package.locate_file(name))))


def _add_requirements(package: Distribution, extras: set[str], found: dict[str, Distribution]) -> None:
    """Adds to `found` what `package` with `extras` requires, directly or not."""
    for text in package.requires or ():
        requirement = Requirement(text)
        places = [{**default_environment(), "extra": extra} for extra in (extras or {""})]
        if requirement.marker and not any(requirement.marker.evaluate(place) for place in places):
            continue
        if requirement.name == "st-simdiff":
            _add_requirements(package, set(requirement.extras), found)
        elif requirement.name not in found:
            found[requirement.name] = distribution(requirement.name)
            _add_requirements(found[requirement.name], {"", *requirement.extras}, found)


def run(command: list[str], folder: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Runs a command that must succeed."""
    done = finish(command, folder)
    assert done.returncode == 0, done.stderr
    return done


def finish(command: list[str], folder: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Runs a command outside any environment but the one that its program belongs to."""
    settings = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "VIRTUAL_ENV")}
    return subprocess.run(command, cwd=folder, env=settings, capture_output=True, text=True, check=False)
