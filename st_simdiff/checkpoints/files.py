"""The files of a checkpoint folder: JSON objects, and which safetensors files hold the weights."""

from __future__ import annotations

import json
from pathlib import Path, PurePosixPath
from typing import Any

INDEX_FILE = "model.safetensors.index.json"
SINGLE_FILE = "model.safetensors"

ADAPTER_CONFIG = "adapter_config.json"
ADAPTER_WEIGHTS = ("adapter_model.safetensors", "adapter_model.bin")
WHOLE_WEIGHTS = "non_lora_trainables.bin"
"""The files of a LoRA adapter as LLaVA's training writes it, see `checkpoints.adapters`."""

LARGEST_JSON = 64 * 2**20
"""Bytes. The largest that is known, a tokenizer's, has 12 MB."""


def read_json(path: Path, meaning: str) -> dict[str, Any]:
    """The object in a JSON file of `meaning`, such as "a checkpoint"."""
    if not path.parent.is_dir():
        raise FileNotFoundError(f"There is no folder {path.parent}, where {meaning} should be.")
    if not path.is_file():
        raise FileNotFoundError(f"{path.parent} is not {meaning}: it has no {path.name}.")
    if path.stat().st_size > LARGEST_JSON:
        raise ValueError(f"{path} is no file of {meaning}: it has {path.stat().st_size:,} bytes.")
    try:
        content = json.loads(path.read_text(encoding="utf-8"), parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is not valid JSON ({error}).") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path} must hold a JSON object, it holds a {type(content).__name__}.")
    return content


def read_index(path: Path) -> dict[str, str]:
    """The file of every tensor, by the index of a checkpoint in shards.

    Raises ValueError where an entry is not the name of a safetensors file in the index's own folder.
    """
    weight_map = read_json(path, "a checkpoint").get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise ValueError(f"{path} has no weight_map.")
    for tensor, file in weight_map.items():
        if not isinstance(file, str) or not stays_inside(file) or not file.endswith(".safetensors"):
            raise ValueError(
                f"{path} must name a safetensors file inside its own folder for every tensor, got {file!r} for "
                f"{tensor!r}."
            )
    return weight_map


def stays_inside(file: str) -> bool:
    """Whether a path in a checkpoint's files is one below their folder."""
    place = PurePosixPath(file)
    return not place.is_absolute() and ".." not in place.parts and "\\" not in file and ":" not in file


def weight_files(folder: Path, part: str = "") -> list[str]:
    """The weight files of the folder `part` in a checkpoint, from `folder` on: all shards of its index, else one file.

    Nothing says whether they are there. Raises ValueError as `read_index`.
    """
    index = folder / part / INDEX_FILE
    files = sorted(set(read_index(index).values())) if index.is_file() else [SINGLE_FILE]
    return [str(PurePosixPath(part, file)) for file in files]


def _refuse_constant(name: str) -> float:
    raise ValueError(f"{name} is no number of JSON")
