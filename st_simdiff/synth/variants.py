"""The rows of the comparison: every method of the registry, ablations of ST-SimDiff, and rows of equal compute."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

from st_simdiff.methods.base import Method
from st_simdiff.methods.registry import METHODS, make_method

FULL, BLIND = "full", "blind"
PAPER, ADAPTIVE = "st_simdiff", "st_simdiff_adaptive"
CALIBRATED = "st_simdiff, .99/.9"
SPATIAL, TEMPORAL, BOTH = "similarity, spatial", "similarity, temporal", "similarity, both"
NO_GRAPH, NO_EVENTS, NEITHER = "adaptive, no graph", "adaptive, no events", "adaptive, neither"
PROTECTED, CENTRAL = "adaptive, events protected", "adaptive, most central"
NARROW, UNCOVERED, NEWLINES = "adaptive, r enters", "adaptive, no cover", "adaptive, newlines are nodes"
AS_FASTV, FASTV_AS_ADAPTIVE = "adaptive, fastv's compute", "fastv k=1, adaptive's compute"

LAYERS, FULL_LAYERS = 5, 2
"""Decoder layers of the tiny model, and those that process what enters, under ST-SimDiff and FastV."""


@dataclass(frozen=True)
class Variant:
    """One row of the comparison: a method of the registry with settings, called `name`.

    compute_of: "fastv" or "adaptive": the method may process as much as that one does at the same retention, on the
    average of the layers.
    """

    name: str
    method: str
    settings: dict[str, Any] = field(default_factory=dict)
    compute_of: str | None = None

    def at(self, retention: float) -> Method:
        """The method that keeps `retention` of the visual tokens, or costs as much as another one that does."""
        if self.compute_of is None:
            return make_method(self.method, retention=retention, **self.settings)
        share = layer_averaged(1.0 if self.compute_of == "fastv" else math.sqrt(retention), retention)
        return make_method(self.method, retention=share, budget="compute", **self.settings)


def layer_averaged(entering: float, kept: float) -> float:
    """The share of tokens that the tiny model's layers process on average."""
    return round((FULL_LAYERS * entering + (LAYERS - FULL_LAYERS) * kept) / LAYERS, 6)


ABLATION = (
    Variant(SPATIAL, PAPER, {"temporal": False, "tau_diff": -1}),
    Variant(TEMPORAL, PAPER, {"spatial": False, "tau_diff": -1}),
    Variant(BOTH, PAPER, {"tau_diff": -1}),
)
"""The paper's Table 4 between `importance` and `st_simdiff`, which are methods of the registry: no events."""

PARTS = (
    Variant(NO_GRAPH, ADAPTIVE, {"tau_sim": -1}),
    Variant(NO_EVENTS, ADAPTIVE, {"tau_diff": -1}),
    Variant(NEITHER, ADAPTIVE, {"tau_sim": -1, "tau_diff": -1}),
)
"""The adaptive rule with one community, which the cap cuts into boxes of 64 tokens, and without event tokens."""

OPTIONS = (
    Variant(PROTECTED, ADAPTIVE, {"protect_events": True}),
    Variant(CENTRAL, ADAPTIVE, {"ranking": "central"}),
    Variant(NARROW, ADAPTIVE, {"entry": "retention"}),
    Variant(UNCOVERED, ADAPTIVE, {"cover": 0}),
    Variant(NEWLINES, ADAPTIVE, {"newline": "node"}),
)
"""The adaptive rule with one of its other options the other way."""

EQUAL_COMPUTE = (
    Variant(AS_FASTV, ADAPTIVE, compute_of="fastv"),
    Variant(FASTV_AS_ADAPTIVE, "fastv", {"k": 1}, compute_of="adaptive"),
)

FIXED_PAIR = Variant(CALIBRATED, PAPER, {"tau_sim": 0.99, "tau_diff": 0.9})

VARIANTS = (
    *(Variant(name, name) for name in METHODS if name != FULL),
    *ABLATION,
    FIXED_PAIR,
    *PARTS,
    *OPTIONS,
    *EQUAL_COMPUTE,
)
"""The rows on the first world."""

FURTHER = (
    *(Variant(name, name) for name in ("random", "temporal_drop", "fastv", PAPER, ADAPTIVE)),
    ABLATION[-1],
    FIXED_PAIR,
    *PARTS,
)
"""The rows on the other worlds and under stress."""


def affordable(variant: Variant, retention: float) -> bool:
    """Whether the layers that run before the pruning leave something of the variant's budget."""
    if variant.compute_of != "adaptive":
        return True
    full_layers = variant.settings["k"]
    return LAYERS * layer_averaged(math.sqrt(retention), retention) > full_layers
