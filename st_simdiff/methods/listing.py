"""What `st-simdiff methods` prints."""

from __future__ import annotations

import argparse
import dataclasses
import inspect
from collections.abc import Sequence
from typing import TextIO

from st_simdiff.methods.registry import METHODS


def run(options: argparse.Namespace, extra: Sequence[str], out: TextIO) -> None:  # noqa: ARG001
    """Every method, what it is, and its settings with their defaults."""
    for name, method in sorted(METHODS.items()):
        text = (inspect.getdoc(method) or "").partition("\n")[0]
        fields = ", ".join(f"{field.name}={field.default!r}" for field in dataclasses.fields(method))
        package = METHODS.package(name)
        lines = (f"{name}: {text}", *([f"    of the package {package}"] if package else []), f"    {fields}")
        out.write("".join(f"{line}\n" for line in lines))
