"""Imports go one way: down the stairs below, and in no circle."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
STAIRS = (
    *(("cli",), ("evaluate",), ("lmms",), ("report", "runs"), ("answering",)),
    *(("videos",), ("checkpoints", "models"), ("methods",), ("selection",)),
    ("plugins", "extras", "model_args", "parsing", "files", "checks", "stock_wrappers", "vocabulary", "errors"),
)
"""From the top to the bottom; what stands on one step may import each other, file by file in no circle."""

BESIDE = {
    "show": {"cli", "evaluate", "lmms", "runs", "bench", "synth"},
    "bench": {"cli", "evaluate", "lmms", "runs", "answering", "videos", "show", "synth"},
    "synth": {"cli", "evaluate", "lmms", "runs", "bench", "show", "answering"},
    "videos": {"answering", "models", "methods", "selection", "checkpoints", "report", "runs"},
    "report": {"answering", "models", "methods", "selection", "checkpoints"},
    "checkpoints": {"methods", "selection"},
    "serve": {"cli", "evaluate", "lmms", "runs", "report", "answering", "videos", "models", "show", "bench", "synth"},
}
"""What packages beside the stairs, or with a step of their own, do without."""

ONLY = {
    "lmms_eval": ("lmms/",),
    "decord": ("videos/",),
    "vllm": ("serve/vllm/", "serve/launch.py"),
    "av": ("videos/", "show/annotated_video.py", "show/known_events.py", "synth/dataset.py"),
}
"""Packages that few files import: av outside `videos` writes videos."""


def files() -> dict[str, Path]:
    """Every module of the package by name. The front door is named as the package."""
    found = {}
    for path in sorted((ROOT / "st_simdiff").rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imported(path: Path, modules: set[str]) -> set[str]:
    """The modules that the file imports, anywhere in it: those among `modules`, others by their first name."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports name the package"
            found |= {
                name if (name := f"{node.module}.{alias.name}") in modules else node.module for alias in node.names
            }
    return {name if name in modules else name.partition(".")[0] for name in found}


MODULES = files()
ARROWS = {name: imported(path, set(MODULES)) for name, path in MODULES.items()}


def package(module: str) -> str:
    """The part of the package that a module belongs to; empty for the front door."""
    return module.partition(".")[2].partition(".")[0]


def refused(source: str, target: str) -> bool:
    """Whether a file of `source` must not import one of `target`; both are parts of the package."""
    step = {name: number for number, names in enumerate(STAIRS) for name in names}
    return target in BESIDE.get(source, ()) or (source in step and target in step and step[target] < step[source])


def test_no_arrow_goes_up():
    wrong = [
        f"{source} -> {target}"
        for source, targets in ARROWS.items()
        for target in targets
        if source.split(".")[-1] != "__main__" and package(target) and refused(package(source), package(target))
    ]
    assert not wrong


def test_every_part_has_its_place():
    parts = {package(name) for name in MODULES} - {"", "__main__"}
    assert parts <= {name for step in STAIRS for name in step} | BESIDE.keys()


def test_no_circle():
    left = {name: {target for target in targets if target in MODULES} - {name} for name, targets in ARROWS.items()}
    while free := [name for name, targets in left.items() if not targets & left.keys()]:
        for name in free:
            del left[name]
    assert not left


@pytest.mark.parametrize("name", ONLY)
def test_few_files_know_it(name):
    knowing = [
        MODULES[module].relative_to(ROOT / "st_simdiff").as_posix()
        for module, targets in ARROWS.items()
        if name in {target.partition(".")[0] for target in targets}
    ]
    assert all(path.startswith(ONLY[name]) for path in knowing), knowing


@pytest.mark.parametrize(
    "command", [["methods"], ["tables", "logs"], ["plots", "logs"], ["show", "--help"], ["bench", "--match_budget"]]
)
def test_commands_work_without_the_packages_of_eval(command, tmp_path):
    """tables and plots get as far as to say that there are no results."""
    program = (
        "import sys; sys.modules |= dict.fromkeys(('lmms_eval', 'loguru', 'accelerate', 'datasets'));"
        "from st_simdiff.cli import main\n"
        f"try: main({command!r})\n"
        "finally: print([name for name in sys.modules if name.startswith(('st_simdiff.evaluate', 'st_simdiff.lmms'))])"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.stdout.splitlines()[-1] == "[]"
    assert done.stderr.strip() in ("", "st-simdiff: There is no folder logs to read results from.")
    assert "pip install" not in done.stderr


def test_pictures_need_no_package_of_eval(tmp_path):
    program = (
        "import sys; sys.modules |= dict.fromkeys(('lmms_eval', 'loguru', 'accelerate', 'datasets'));"
        "import st_simdiff.show.make, st_simdiff.show.with_model, st_simdiff.bench.run;"
        "print([name for name in sys.modules if name.startswith(('st_simdiff.evaluate', 'st_simdiff.lmms'))])"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.stdout.strip(), done.stderr) == ("[]", "")


def test_planning_imports_no_model(tmp_path):
    """They take seconds of every start: a plan needs the settings of models, not their code."""
    program = "import sys, st_simdiff.evaluate.planning; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert "transformers.modeling_utils" not in done.stdout.split()
