"""Whether the values of weights are numbers: told from a file's bytes while they are hashed, or from loaded tensors."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch

from st_simdiff.checkpoints.remembered import recall, remember, state_of
from st_simdiff.checkpoints.tensors import FLOATING, open_weights, stored_tensors, stored_tensors_of_file

AS_STORED = "as stored"
"""What is remembered of a file whose values are all finite in the types that they are stored in."""


class StoredValues:
    """Whether all values of a safetensors file are finite, told from its bytes as they are read, in order.

    `finite` is False where it cannot be told: of a file of another kind, or of tensors of several types.
    """

    def __init__(self, path: Path) -> None:
        self.finite = False
        try:
            tensors = list(stored_tensors_of_file(path).values())
        except ValueError:
            return
        types = {tensor.dtype for tensor in tensors}
        if len(types) == 1 and types <= FLOATING.keys():
            self._dtype = FLOATING[types.pop()]
            values = sum(math.prod(tensor.shape) for tensor in tensors)
            self._start = path.stat().st_size - self._dtype.itemsize * values
            self.finite = self._start % self._dtype.itemsize == 0  # as written by safetensors

    def see(self, content: bytearray, count: int, position: int) -> None:
        """Looks at the first `count` bytes of `content`, which lie at `position`, a multiple of 8, in the file."""
        offset = max(0, self._start - position) if self.finite else count
        if offset < count:
            values = (count - offset) // self._dtype.itemsize
            self.finite = is_finite(torch.frombuffer(content, dtype=self._dtype, count=values, offset=offset))


def holds(dtype: torch.dtype, stored: str) -> bool:
    """Whether finite numbers of the type `stored`, safetensors' name, are finite in `dtype`."""
    return torch.finfo(dtype).max >= torch.finfo(FLOATING[stored]).max


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


def is_known_finite(folder: Path, dtype: torch.dtype) -> bool:
    """Whether the weight files of `folder` were hashed and all their values found finite, in `dtype` too."""
    tensors = stored_tensors(folder).values()
    states = {path: state_of(path) for path in {tensor.file.resolve() for tensor in tensors}}
    known = all(AS_STORED in _finite_readings(facts) for facts in recall(states).values())
    return known and all(holds(dtype, tensor.dtype) for tensor in tensors)


class SeenFinite:
    """Whether values read from a weight file were found finite before: the file need not be tested again.

    file: of the weights. reading: what is read of it, a text for every tensor with its name, rows and dtype, since a
    value may be finite in float32 and not in float16. as_stored: whether these dtypes hold all numbers of the stored
    ones, so that a file whose stored values are finite is known to be.
    """

    def __init__(self, file: Path, reading: Iterable[str], *, as_stored: bool) -> None:
        self._path = file.resolve()
        self._states = {self._path: state_of(self._path)}
        self._reading = hashlib.sha256("\n".join(sorted(reading)).encode()).hexdigest()[:16]
        self._known = _finite_readings(recall(self._states)[self._path])
        self.seen = self._reading in self._known or (as_stored and AS_STORED in self._known)

    def remember(self) -> None:
        """Writes down that all that is read is finite."""
        if not self.seen:
            remember({self._path: {"finite": [*self._known, self._reading]}}, self._states)


@torch.inference_mode()
def is_finite(tensor: torch.Tensor) -> bool:
    """Whether all values are finite numbers.

    A sum takes a fiftieth of the time of a test of every value and extremes a twentieth; both are finite only if all
    values are, and a sum may be too large for its dtype.
    """
    if not tensor.is_floating_point() or not tensor.numel():
        return True
    return math.isfinite(tensor.sum().item()) or bool(torch.stack(torch.aminmax(tensor)).isfinite().all())


def _finite_readings(facts: Mapping[str, Any]) -> list[str]:
    readings = facts.get("finite")
    return readings if isinstance(readings, list) else []
