"""Generated bad checkpoints of every loader: each is refused in one sentence, none is loaded, none does harm."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from judge import faults_of
from safetensors.torch import load_file, save_file

from st_simdiff.answering.checkpoints import check_checkpoint
from st_simdiff.checkpoints.llava_video.loading import load_llava_video
from st_simdiff.checkpoints.llava_video.tiny import write_tiny_checkpoint
from st_simdiff.checkpoints.nvila.loading import load_nvila
from st_simdiff.checkpoints.nvila.tiny import write_tiny_checkpoint as write_nvila

FAST, WHOLE = 60, 400
"""Cases of a loader."""

Damage = Callable[[Path], None]
"""What is done to a copy of a checkpoint."""

NUMBERS = [0, -1, -(10**12), 10**12, 1.5, float("nan"), float("inf"), None, True, "many", [], {}, [1, 2, 3]]
TEXTS = [None, 5, [], {}, True, "", "no_such_thing"]
RULED = {
    "config.json": {
        **dict.fromkeys(("hidden_size", "num_hidden_layers", "num_attention_heads", "vocab_size"), NUMBERS),
        **dict.fromkeys(("intermediate_size", "max_position_embeddings", "rms_norm_eps"), NUMBERS),
        "hidden_act": TEXTS,
        "architectures": [5, "LlavaQwenForCausalLM", {}, [5], True],
    },
    "tokenizer_config.json": {"tokenizer_class": [None, 5, [], {}]},
}
"""Values that are right for none of these entries, by file and entry."""
GARBAGE = [b"", b"{", b"null", b"[]", b"5", b'"text"', b"\xff\xfe\x00", b"[" * 50_000, b'{"a": NaN}', b'{"a": 1e999}{']
ENTRIES = [None, 5, [], {}, "", ".", "..", "../model.safetensors", "/etc/passwd", "C:\\model.safetensors", "model.bin"]


class Loader:
    """One kind of checkpoint. parts: its folders with weights, of which the first holds the language model."""

    def __init__(self, write: Callable[[Path], Path], load: Callable[[Path], object], parts: tuple[str, ...]) -> None:
        self.write, self.load, self.parts = write, load, parts


def write_qwen(folder: Path) -> Path:
    """Where a wrapper's checks begin: config and headers; loading is tried in the tests of the wrappers."""
    write_tiny_checkpoint(folder)
    edit(folder / "config.json", {"model_type": "qwen2_5_vl"})
    return folder


LOADERS = {
    "llava_video": Loader(write_tiny_checkpoint, load_llava_video, ("",)),
    "nvila": Loader(write_nvila, load_nvila, ("llm", "vision_tower")),
    "st_simdiff_qwen2_5_vl": Loader(
        write_qwen, lambda folder: check_checkpoint("st_simdiff_qwen2_5_vl", folder, None), ("",)
    ),
}


def edit(path: Path, entries: dict[str, Any]) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | entries))


def write(path: Path, content: bytes) -> None:
    path.write_bytes(content)


def cut(path: Path, share: float) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])


def lengthen_header(path: Path, length: int) -> None:
    path.write_bytes(length.to_bytes(8, "little") + path.read_bytes()[8:])


def index(folder: Path, entry: Any) -> None:
    weights = folder / "model.safetensors"
    (folder / "model.safetensors.index.json").write_text(
        json.dumps({"weight_map": dict.fromkeys(load_file(weights), entry)})
    )


def retype(path: Path, name: str, dtype: torch.dtype) -> None:
    weights = load_file(path)
    save_file(weights | {name: weights[name].to(dtype)}, path, metadata={"format": "pt"})


def damages(loader: Loader, folder: Path, number: random.Random) -> Iterator[tuple[str, Path, Damage]]:
    """Endless: what is done, the place that the sentence must name, and the doing."""
    language = Path(loader.parts[0])
    while True:
        kind = number.choice(["entry", "entry", "garbage", "missing", "cut", "header", "index", "type"])
        weights = Path(number.choice(loader.parts)) / "model.safetensors"
        if kind == "entry":
            name = number.choice(list(RULED))
            key = number.choice(list(RULED[name]))
            place = Path(name) if key == "architectures" else language / name
            value = number.choice(RULED[name][key])
            yield f"{place}: {key} = {value!r}", place, partial(_edit, place=place, entries={key: value})
        elif kind == "garbage":
            place = language / number.choice(["config.json", "tokenizer_config.json"])
            content = number.choice(GARBAGE)
            yield f"{place}: {content[:20]!r}", place, partial(_at, write, place, content)
        elif kind == "missing":
            place = number.choice([language / "config.json", weights])
            yield f"{place} missing", place.parent, partial(_remove, place=place)
        elif kind == "cut":
            share = number.random() * 0.99
            yield f"{weights} cut to {share:.2f}", weights, partial(_at, cut, weights, share)
        elif kind == "header":
            length = number.choice([0, 1, 7, 2**31, 2**62, 2**64 - 1])
            yield f"{weights}: header of {length}", weights, partial(_at, lengthen_header, weights, length)
        elif kind == "index":
            entry = number.choice(ENTRIES)
            yield f"{weights.parent}: index with {entry!r}", weights.parent, partial(_at, index, weights.parent, entry)
        else:
            name = number.choice(sorted(load_file(folder / weights)))
            dtype = number.choice([torch.int8, torch.int64, torch.bool, torch.float8_e4m3fn, torch.uint8])
            yield f"{weights}: {name} as {dtype}", weights.parent, partial(_at, retype, weights, name, dtype)


def _edit(folder: Path, place: Path, entries: dict[str, Any]) -> None:
    edit(folder / place, entries)


def _at(act: Callable[..., None], place: Path, value: Any, *more: Any, folder: Path) -> None:
    act(folder / place, value, *more)


def _remove(folder: Path, place: Path) -> None:
    (folder / place).unlink()


def audit(name: str, count: int, tmp_path: Path) -> None:
    loader = LOADERS[name]
    whole = loader.write(tmp_path / "whole")
    loader.load(whole)  # it is the damage that is refused
    (tmp_path / "model.safetensors").write_bytes(b"another's")
    number, found, tried = random.Random(f"{name} {count}"), {}, set()
    for told, place, damage in damages(loader, whole, number):
        if len(tried) == count:
            break
        if told in tried:
            continue
        tried.add(told)
        folder = tmp_path / "damaged"
        shutil.copytree(whole, folder)
        damage(folder=folder)
        faults = faults_of(partial(loader.load, folder), tmp_path, folder / place)
        shutil.rmtree(folder)
        if faults:
            found[told] = faults
    assert not found, f"{len(found)} of {count}: {json.dumps(found, indent=1)[:5000]}"


@pytest.mark.parametrize("name", LOADERS)
def test_bad_checkpoints(name, tmp_path):
    audit(name, FAST, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("name", LOADERS)
def test_many_bad_checkpoints(name, tmp_path):
    audit(name, WHOLE, tmp_path)
