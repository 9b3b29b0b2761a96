"""The tensors of a checkpoint's safetensors files: what their headers say, and whether the values are numbers."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open

from st_simdiff.checkpoints.files import INDEX_FILE, SINGLE_FILE, read_index
from st_simdiff.checkpoints.remembered import recall, remember, state_of

FLOATING = frozenset({"F64", "F32", "F16", "BF16"})
"""safetensors' names of the types that weights may have: those that are read as numbers without scales beside them."""


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


def check_finite(folder: Path, tensors: Iterable[tuple[str, torch.Tensor]]) -> None:
    """Raises ValueError for a tensor loaded from `folder` with values that are not finite."""
    for name, tensor in tensors:
        if not tensor.is_meta and not is_finite(tensor):
            dtype = str(tensor.dtype).removeprefix("torch.")
            raise ValueError(f"{folder}: the tensor {name} has values that are not finite in {dtype}.")


def check_stored_finite(folder: Path) -> None:
    """Raises ValueError as `check_finite` for the weight files of `folder`, of which one tensor at a time is read."""
    files: dict[Path, list[str]] = {}
    for name, stored in stored_tensors(folder).items():
        files.setdefault(stored.file, []).append(name)
    for path, names in files.items():
        with open_weights(path) as file:
            check_finite(path, ((name, file.get_tensor(name)) for name in names))


class SeenFinite:
    """Whether values read from a weight file were found finite before: the file need not be tested again.

    file: of the weights. reading: what is read of it, a text for every tensor with its name, rows and dtype, since a
    value may be finite in float32 and not in float16.
    """

    def __init__(self, file: Path, reading: Iterable[str]) -> None:
        self._path = file.resolve()
        self._states = {self._path: state_of(self._path)}
        self._reading = hashlib.sha256("\n".join(sorted(reading)).encode()).hexdigest()[:16]
        known = recall(self._states)[self._path].get("finite")
        self._known = known if isinstance(known, list) else []
        self.seen = self._reading in self._known

    def remember(self) -> None:
        """Writes down that all that is read is finite."""
        if not self.seen:
            remember({self._path: {"finite": [*self._known, self._reading]}}, self._states)


@torch.inference_mode()
def is_finite(tensor: torch.Tensor) -> bool:
    """Whether all values are finite numbers.

    Extremes and sums take a tenth of the time of a test of every value, and are finite only if all values are; float16
    holds few sums.
    """
    if not tensor.is_floating_point() or not tensor.numel():
        return True
    if tensor.dtype == torch.float16:
        return bool(torch.stack(torch.aminmax(tensor)).isfinite().all())
    return math.isfinite(tensor.sum().item()) or bool(tensor.isfinite().all())


def stored_tensors_of_file(path: Path) -> dict[str, StoredTensor]:
    """The tensors in one safetensors file, by name. Raises ValueError if it is damaged."""
    with open_weights(path) as file:
        slices = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118
        return {name: StoredTensor(path, one.get_shape(), one.get_dtype()) for name, one in slices.items()}
