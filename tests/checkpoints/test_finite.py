"""The values of weights, seen while the file is hashed: told rightly wherever they lie, and not tested at a load."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from st_simdiff.checkpoints import finite, identity, remembered
from st_simdiff.checkpoints.finite import AS_STORED, is_finite, is_known_finite
from st_simdiff.checkpoints.identity import digest_of_files
from st_simdiff.checkpoints.llava_video.loading import load_llava_video
from st_simdiff.checkpoints.llava_video.tiny import write_tiny_checkpoint
from st_simdiff.checkpoints.nvila.loading import load_nvila
from st_simdiff.checkpoints.nvila.tiny import write_tiny_checkpoint as write_nvila

TYPES = (torch.float64, torch.float32, torch.float16, torch.bfloat16)


@pytest.fixture
def facts(tmp_path, monkeypatch):
    """What is remembered of a file after it was hashed."""
    cache = tmp_path / "cache" / "digests.json"
    monkeypatch.setattr(remembered, "REMEMBERED", cache)
    monkeypatch.setattr(remembered, "SETTLED", -1.0)

    def of(path: Path) -> dict:
        digest_of_files(path.parent, [path.name])
        return remembered.recall({path.resolve(): remembered.state_of(path)})[path.resolve()]

    return of


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_a_value_that_is_not_finite_is_seen_wherever_it_lies(facts, tmp_path, monkeypatch, dtype, value):
    monkeypatch.setattr(identity, "CHUNK", 64)
    path = tmp_path / "model.safetensors"
    weights = {"a": torch.full((5,), torch.finfo(dtype).max, dtype=dtype), "b": torch.randn(90).to(dtype)}
    save_file(weights, path)
    assert facts(path) == {
        "digest": hashlib.sha256(path.read_bytes()).hexdigest(),
        "finite": [AS_STORED],
        "state": list(remembered.state_of(path)),
    }
    for name, place in [("a", 0), ("a", 4), ("b", 0), ("b", 31), ("b", 32), ("b", 89)]:
        changed = weights[name].clone()
        changed[place] = value
        save_file(weights | {name: changed}, path)
        known = facts(path)
        assert known["digest"] == hashlib.sha256(path.read_bytes()).hexdigest()
        assert "finite" not in known


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"no weights",
        {"a": torch.ones(3), "b": torch.ones(3, dtype=torch.bfloat16)},
        {"a": torch.ones(3, dtype=torch.int64)},
        {},
    ],
    ids=["empty", "text", "two types", "integers", "no tensors"],
)
def test_of_other_files_nothing_is_said(facts, tmp_path, content):
    path = tmp_path / "model.safetensors"
    save_file(content, path) if isinstance(content, dict) else path.write_bytes(content)
    known = facts(path)
    assert known["digest"] == hashlib.sha256(path.read_bytes()).hexdigest()
    assert "finite" not in known


LOADERS = {"llava_video": (write_tiny_checkpoint, load_llava_video), "nvila": (write_nvila, load_nvila)}


@pytest.mark.parametrize("loader", LOADERS)
def test_what_was_hashed_is_not_tested_at_the_load(facts, tmp_path, monkeypatch, loader):
    write, load = LOADERS[loader]
    folder = tmp_path / "checkpoint"
    write(folder, dtype=torch.bfloat16)
    tested = []
    monkeypatch.setattr(finite, "is_finite", lambda tensor: tested.append(tensor.numel()) or is_finite(tensor))
    files = sorted(path for path in folder.rglob("model*.safetensors"))
    for path in files:
        facts(path)
        assert is_known_finite(path.parent, torch.bfloat16)
        assert not is_known_finite(path.parent, torch.float16)  # which holds less
    projector = 0 if loader == "llava_video" else len(load_file(folder / "mm_projector" / "model.safetensors"))
    tested.clear()
    load(folder, dtype=torch.bfloat16)
    assert len(tested) == projector
    load(folder, dtype=torch.float16)
    assert len(tested) > 2 * projector
    tested.clear()
    for path in files:
        save_file(load_file(path), path, metadata={"format": "pt"})
    load(folder, dtype=torch.bfloat16)
    assert len(tested) > projector


def test_a_damaged_memory_counts_as_none(facts, tmp_path):
    path = tmp_path / "model.safetensors"
    save_file({"a": torch.ones(3)}, path)
    for content in (b"", b"[]", b"\xff", facts(path) and b'{"%s": 3}' % str(path).encode()):
        remembered.REMEMBERED.write_bytes(content)
        assert not is_known_finite(tmp_path, torch.float32)
    facts(path)
    assert is_known_finite(tmp_path, torch.float32)
    remembered.REMEMBERED.write_text(remembered.REMEMBERED.read_text().replace('["as stored"]', "7"))
    assert not is_known_finite(tmp_path, torch.float32)
