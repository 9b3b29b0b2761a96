"""The tensors of a checkpoint's safetensors files: what their headers say."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open

from st_simdiff.checkpoints.files import INDEX_FILE, SINGLE_FILE, read_index

FLOATING = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
"""The types that weights may have, by safetensors' names: those that are read as numbers without scales beside them."""


@dataclass(frozen=True)
class StoredTensor:
    """file: where it is. dtype: safetensors' name of the type."""

    file: Path
    shape: list[int]
    dtype: str


def stored_tensors(folder: Path) -> dict[str, StoredTensor]:
    """The tensors in the weight files of `folder`, by name: all shards of its index, else the one file.

    Raises FileNotFoundError if there is no weight file or a shard is missing; ValueError for a file that is damaged, or
    an index that names another folder's files or tensors that their file does not have.
    """
    if not (folder / INDEX_FILE).is_file():
        if not (folder / SINGLE_FILE).is_file():
            raise FileNotFoundError(f"{folder} is not a checkpoint: it has neither {INDEX_FILE} nor {SINGLE_FILE}.")
        return stored_tensors_of_file(folder / SINGLE_FILE)
    file_of = read_index(folder / INDEX_FILE)
    headers = {}
    for file in dict.fromkeys(file_of.values()):
        if not (folder / file).is_file():
            raise FileNotFoundError(f"The checkpoint {folder} is incomplete: its shard {file} is missing.")
        headers[file] = stored_tensors_of_file(folder / file)
    for name, file in file_of.items():
        if name not in headers[file]:
            raise ValueError(f"{folder / file} lacks the tensor {name}, which the index says it holds.")
    return {name: headers[file][name] for name, file in file_of.items()}


def open_weights(path: Path) -> safe_open:
    """A safetensors file. Raises ValueError if it is damaged."""
    try:
        return safe_open(path, framework="pt")
    except (SafetensorError, OSError) as error:
        raise ValueError(f"{path} is damaged or cut short ({error}).") from error


def check_dtype(name: str, stored: StoredTensor) -> None:
    """Raises ValueError for a tensor of integers, booleans or scaled numbers."""
    if stored.dtype not in FLOATING:
        raise ValueError(
            f"{stored.file}: the tensor {name} has type {stored.dtype}; weights are {', '.join(sorted(FLOATING))}."
        )


def stored_tensors_of_file(path: Path) -> dict[str, StoredTensor]:
    """The tensors in one safetensors file, by name. Raises ValueError if it is damaged."""
    with open_weights(path) as file:
        slices = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118
        return {name: StoredTensor(path, one.get_shape(), one.get_dtype()) for name, one in slices.items()}
