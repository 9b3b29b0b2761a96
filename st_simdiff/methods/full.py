"""No compression: the upper bound that every table starts with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from st_simdiff.errors import InputError
from st_simdiff.methods.base import Method


@dataclass(frozen=True, kw_only=True)
class Full(Method):
    """Every token goes on. `retention` other than 1 is refused."""

    name: ClassVar[str] = "full"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.retention != 1:
            raise InputError(f"The full model keeps every token: its retention is 1, got {self.retention!r}.")
