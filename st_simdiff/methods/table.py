"""The methods as text. `python -m st_simdiff.methods.table docs/methods.md` writes the documentation's table anew."""

from __future__ import annotations

import dataclasses
import inspect
import sys
from pathlib import Path

from st_simdiff.errors import InputError
from st_simdiff.methods.base import Method
from st_simdiff.methods.registry import METHODS

BEGIN, END = "<!-- table of methods: begin -->", "<!-- table of methods: end -->"
LAYERS = 28
"""Depth of the model for which the table says where a method acts."""


def methods_table() -> str:
    """A Markdown table of this package's methods: what each does, where it acts, what it reads, keeps and takes."""
    rows = ["| name | what it does | acts | reads from the tower | keeps | settings |", "|---|---|---|---|---|---|"]
    rows += [f"| {' | '.join(_cells(method))} |" for method in METHODS.own.values()]
    return "\n".join(rows)


def with_table(text: str) -> str:
    """`text` with a fresh table between its markers. Raises `InputError` where a marker is missing."""
    if text.find(BEGIN) < 0 or text.find(END) < text.find(BEGIN):
        raise InputError(f"The text needs the lines {BEGIN!r} and {END!r}, in this order.")
    before, rest = text.split(BEGIN, 1)
    return f"{before}{BEGIN}\n{methods_table()}\n{END}{rest.split(END, 1)[1]}"


def _cells(method: type[Method]) -> list[str]:
    sample = _sample(method)
    summary = (inspect.getdoc(method) or "").partition("\n")[0]
    settings = [
        f"`{field.name}={field.default!r}`" for field in dataclasses.fields(method) if field.name != "retention"
    ]
    kept = "the nearest count" if not method.exact else "all" if sample.retention == 1 else "ceil(r N)"
    reads = ", ".join(sorted(sample.vision_inputs)) or "–"
    return [f"`{method.name}`", summary, _moments(sample), reads, kept, ", ".join(settings) or "–"]


def _sample(method: type[Method]) -> Method:
    """The method at retention 0.5, or at 1 if it takes no other."""
    try:
        return method(retention=0.5)
    except InputError:
        return method()


def _moments(method: Method) -> str:
    layers = method.layers(LAYERS)
    moments = ["at the input"] if type(method).reduce_input is not Method.reduce_input else []
    if len(layers) > 2:
        moments.append("after each layer")
    elif len(layers) == 2:
        moments.append(f"after layers {layers[0]} and {layers[1]}")
    elif layers:
        moments.append(f"after layer {layers[0]}")
    return ", ".join(moments) or "–"


if __name__ == "__main__":
    for name in sys.argv[1:]:
        Path(name).write_text(with_table(Path(name).read_text()))
