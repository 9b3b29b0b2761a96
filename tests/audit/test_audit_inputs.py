"""Generated bad inputs of every kind but checkpoints: each is refused in one sentence, in time, and touches nothing."""

from __future__ import annotations

import json
import random
import shutil
from functools import lru_cache, partial
from pathlib import Path

import pytest
from cache_inputs import caches, reports
from command_inputs import calls, commands
from inputs import Generator
from judge import faults_of
from run_inputs import journals, results
from yaml_inputs import yamls

from st_simdiff.bench import run as bench_run
from st_simdiff.evaluate import evaluation, planning
from st_simdiff.lmms import task_names

KINDS: dict[str, Generator] = {
    "commands": commands,
    "yamls": yamls,
    "journals": journals,
    "results": results,
    "caches": caches,
    "reports": reports,
    "calls": calls,
}
FAST = {"commands": 40, "yamls": 15, "journals": 15, "results": 15, "caches": 10, "reports": 8, "calls": 20}
WHOLE = {"commands": 480, "yamls": 180, "journals": 120, "results": 120, "caches": 60, "reports": 40, "calls": 120}
"""Inputs of a kind: 1,120 in all."""


known_tasks = lru_cache(task_names.known_tasks)


def known_once(folders=()):
    return known_tasks(tuple(folders))


@pytest.fixture(autouse=True)
def _only_checks(monkeypatch):
    """What would be computed after an input was accepted is left out; the names of lmms-eval's tasks are read once."""

    def accepted(*_arguments, **_settings):
        raise AssertionError("accepted in silence")

    monkeypatch.setattr(evaluation, "carry_out", accepted)
    monkeypatch.setattr(bench_run, "build", accepted)
    monkeypatch.delenv("MODEL_PATH", raising=False)
    monkeypatch.setattr(task_names, "known_tasks", known_once)
    monkeypatch.setattr(planning, "hf_home", lambda _: Path("hf"))


def audit(kind: str, count: int, checkpoint: Path, tmp_path: Path, monkeypatch) -> None:
    number, found, tried = random.Random(f"{kind} {count}"), {}, set()
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "model.safetensors").write_bytes(b"another's")
    for given in KINDS[kind](number, checkpoint):
        if len(tried) == count:
            break
        if given.told in tried:
            continue
        tried.add(given.told)
        folder = tmp_path / "folder"
        folder.mkdir()
        monkeypatch.chdir(folder)
        faults = faults_of(partial(given.act, folder), outside)
        monkeypatch.chdir(tmp_path)
        shutil.rmtree(folder)
        if left := {path.name for path in tmp_path.iterdir()} - {"outside"}:
            faults.append(f"left behind: {left}")
        if faults:
            found[given.told] = faults
    assert not found, f"{len(found)} of {count}: {json.dumps(found, indent=1)[:20000]}"


@pytest.mark.parametrize("kind", KINDS)
def test_bad_inputs(kind, checkpoint, tmp_path, monkeypatch):
    audit(kind, FAST[kind], checkpoint, tmp_path, monkeypatch)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_many_bad_inputs(kind, checkpoint, tmp_path, monkeypatch):
    audit(kind, WHOLE[kind], checkpoint, tmp_path, monkeypatch)
