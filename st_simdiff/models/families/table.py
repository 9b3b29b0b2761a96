"""The families as text. `python -m st_simdiff.models.families.table docs/families.md` writes the table anew."""

from __future__ import annotations

import sys
from pathlib import Path

from st_simdiff.errors import InputError
from st_simdiff.methods.base import Method
from st_simdiff.methods.registry import METHODS
from st_simdiff.methods.st_simdiff import STSimDiff
from st_simdiff.models.families import FAMILIES
from st_simdiff.models.families.base import Family
from st_simdiff.models.layer_kinds import FULL, LINEAR, SLIDING, DecoderLayers

BEGIN, END = "<!-- table of families: begin -->", "<!-- table of families: end -->"
_DEPTH = 60


def families_table() -> str:
    """A Markdown table: each family's checkpoints, layers, where attention prunes, and what is refused."""
    rows = ["| family | checkpoints | decoder layers | prunes after | refused methods | transformers | note |"]
    rows.append("|---|---|---|---|---|---|---|")
    rows += [f"| {' | '.join(_cells(family))} |" for family in FAMILIES]
    return "\n".join(rows)


def with_table(text: str) -> str:
    """`text` with a fresh table between its markers. Raises `InputError` where a marker is missing."""
    if text.find(BEGIN) < 0 or text.find(END) < text.find(BEGIN):
        raise InputError(f"The text needs the lines {BEGIN!r} and {END!r}, in this order.")
    before, rest = text.split(BEGIN, 1)
    return f"{before}{BEGIN}\n{families_table()}\n{END}{rest.split(END, 1)[1]}"


def _cells(family: Family) -> list[str]:
    layers = [_layers(family, every) for every in family.full_every]
    stages = " or ".join(str(one.stages(STSimDiff(retention=0.5))[0]) for one in layers)
    methods = [method() for method in METHODS.own.values()]
    refused = [f"`{method.name}`" for method in methods if not method.vision_inputs and _refused(layers[0], method)]
    if any(not method.vision_inputs <= family.records for method in methods):
        refused.insert(0, "those that read the tower")
    return [
        family.name,
        family.checkpoints,
        family.layers,
        f"layer {stages}",
        ", ".join(refused) or "–",
        f"{family.since} or later",
        family.note or "–",
    ]


def _layers(family: Family, every: int) -> DecoderLayers:
    """A decoder of the family's pattern."""
    other = LINEAR if "linear" in family.layers else SLIDING
    kinds = tuple(FULL if (index + 1) % every == 0 else other for index in range(_DEPTH))
    return DecoderLayers(kinds, 512 if SLIDING in kinds else None, tuple(range(_DEPTH)))


def _refused(layers: DecoderLayers, method: Method) -> bool:
    try:
        layers.stages(method)
    except InputError:
        return True
    return False


if __name__ == "__main__":
    for name in sys.argv[1:]:
        Path(name).write_text(with_table(Path(name).read_text()))
