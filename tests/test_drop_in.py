"""The wheel has no package of anybody else's, and the drop-in names of LLaVA-NeXT stand beside LLaVA-NeXT's own."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
from clean_environment import ROOT, build_wheel, copy_sources

OFFLINE = ("--quiet", "--disable-pip-version-check", "--no-deps", "--no-build-isolation", "--no-index")

NEXT = {
    "pyproject.toml": """
[build-system]
requires = ["setuptools"]
build-backend = "setuptools.build_meta"
[project]
name = "llava"
version = "1.7.0"
[tool.setuptools]
packages = ["llava", "llava.model"]
""",
    "llava/__init__.py": "ORIGIN = 'LLaVA-NeXT'\n",
    "llava/constants.py": "IMAGE_TOKEN_INDEX = 'of LLaVA-NeXT'\n",
    "llava/model/__init__.py": "",
    "llava/model/builder.py": "def load_pretrained_model():\n    return 'by LLaVA-NeXT'\n",
}
NAMES = "import llava, llava.constants; print(getattr(llava, 'ORIGIN', 'ours'), llava.constants.IMAGE_TOKEN_INDEX)"


@dataclass(frozen=True)
class Environment:
    """A virtual environment that sees the packages of this one, but none that are installed for development."""

    folder: Path

    def run(self, *command: object, cwd: Path | None = None) -> str:
        environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
        done = subprocess.run(
            [self.folder / "bin" / "python", *map(str, command)],
            cwd=cwd or self.folder,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout.strip()

    def install(self, *what: object) -> None:
        self.run("-m", "pip", "install", *OFFLINE, *what)

    def uninstall(self, name: str) -> None:
        self.run("-m", "pip", "uninstall", "--quiet", "--yes", name)

    @property
    def files(self) -> set[str]:
        (site,) = self.folder.glob("lib/python*/site-packages")
        return {path.relative_to(site).as_posix() for path in site.rglob("*") if "__pycache__" not in path.parts}


@pytest.fixture(scope="module")
def wheels(tmp_path_factory) -> dict[str, Path]:
    """st-simdiff, its drop-in, and a stand-in for LLaVA-NeXT; built from copies, in which nothing old lies."""
    folder = tmp_path_factory.mktemp("wheels")
    (folder / "ours").mkdir()
    copy_sources(folder / "ours")
    shutil.copytree(ROOT / "llava", folder / "drop-in", ignore=shutil.ignore_patterns("build", "*.egg-info"))
    for name, text in NEXT.items():
        (folder / "next" / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / "next" / name).write_text(text)
    built = {name: build_wheel(folder / name, folder / f"wheel-{name}") for name in ("ours", "drop-in", "next")}
    return built | {"sources of next": folder / "next"}


@pytest.fixture
def environment(wheels, tmp_path) -> Environment:
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / "venv"], check=True)
    (site,) = (tmp_path / "venv").glob("lib/python*/site-packages")
    above = [path for path in sys.path if path.endswith("site-packages")]
    (site / "above.pth").write_text("\n".join(above) + "\n")
    made = Environment(tmp_path / "venv")
    made.install("--force-reinstall", wheels["ours"])
    return made


def top_level(wheel: Path) -> set[str]:
    return {name.partition("/")[0] for name in zipfile.ZipFile(wheel).namelist()}


def test_the_wheels_hold_their_own_packages_only(wheels):
    version = wheels["ours"].name.split("-")[1]
    assert top_level(wheels["ours"]) == {"st_simdiff", f"st_simdiff-{version}.dist-info"}
    own = {"st_simdiff_llava", "st_simdiff_llava.pth", f"st_simdiff_llava-{version}.dist-info"}  # of the same version
    assert top_level(wheels["drop-in"]) == own
    names = zipfile.ZipFile(wheels["ours"]).namelist()
    assert "st_simdiff/py.typed" in names
    assert "st_simdiff/evaluate/configs/table1.yaml" in names
    assert any(name.endswith("clips.yaml") for name in names)


def test_the_drop_in_alone_gives_lmms_evals_wrapper_its_names(environment, wheels):
    environment.install(wheels["drop-in"])
    assert environment.run("-c", NAMES) == "ours -200"
    assert environment.run("-c", NAMES, cwd=ROOT) == "ours -200"  # the folder llava/ of the checkout is no package
    loader = "import llava.model.builder as b; print(b.load_pretrained_model.__code__.co_filename)"
    assert "st_simdiff_llava" in environment.run("-c", loader)
    environment.uninstall("st-simdiff-llava")
    assert not [name for name in environment.files if "llava" in name and not name.startswith("st_simdiff/")]


@pytest.mark.parametrize("order", [("drop-in", "next"), ("next", "drop-in")], ids="-then-".join)
def test_beside_llava_next_both_work_and_either_can_go(environment, wheels, order: Sequence[str]):
    before = environment.files
    for name in order:
        environment.install(wheels[name])
    whole = environment.files
    for folder in (None, ROOT):
        assert environment.run("-c", NAMES, cwd=folder) == "LLaVA-NeXT of LLaVA-NeXT"
    builder = "import llava.model.builder as b, st_simdiff; print(b.load_pretrained_model(), st_simdiff.__version__)"
    assert environment.run("-c", builder).startswith("by LLaVA-NeXT")

    environment.uninstall("st-simdiff-llava")
    assert environment.files == {name for name in whole if "st_simdiff_llava" not in name}
    assert environment.run("-c", NAMES) == "LLaVA-NeXT of LLaVA-NeXT"

    environment.install(wheels["drop-in"])
    environment.uninstall("llava")
    assert environment.run("-c", NAMES) == "ours -200"
    environment.uninstall("st-simdiff-llava")
    assert environment.files == before


def test_llava_next_installed_for_development_comes_first_too(environment, wheels):
    environment.install("--editable", wheels["sources of next"])
    environment.install(wheels["drop-in"])
    for folder in (None, ROOT):
        assert environment.run("-c", NAMES, cwd=folder) == "LLaVA-NeXT of LLaVA-NeXT"


def test_a_command_from_the_checkouts_root_shadows_no_llava(environment, wheels):
    environment.install(wheels["next"])
    assert environment.run("-c", NAMES, cwd=ROOT) == "LLaVA-NeXT of LLaVA-NeXT"
    assert environment.run("-m", "st_simdiff", "--version", cwd=ROOT).startswith("st-simdiff ")
    assert not (ROOT / "llava" / "__init__.py").exists()
