"""The rows of the comparison: every method of the registry, ablations of ST-SimDiff, and rows of equal compute."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from st_simdiff.methods.base import Method
from st_simdiff.methods.fastv import FastV
from st_simdiff.methods.registry import METHODS, make_method
from st_simdiff.methods.st_simdiff_adaptive import STSimDiffAdaptive

FULL, BLIND = "full", "blind"
COMMUNITIES, VISUAL, TWO_STEPS = "adaptive, communities enter", "two steps, visual score", "st_simdiff_two_steps"
INPUT = "st_simdiff_input"
PAPER, ADAPTIVE = "st_simdiff", "st_simdiff_adaptive"
CALIBRATED = "st_simdiff, .99/.9"
SPATIAL, TEMPORAL, BOTH = "similarity, spatial", "similarity, temporal", "similarity, both"
NO_GRAPH, NO_EVENTS, NEITHER = "adaptive, no graph", "adaptive, no events", "adaptive, neither"
PROTECTED, CENTRAL = "adaptive, events protected", "adaptive, most central"
NARROW, EARLY = "adaptive, r enters", "adaptive, pruned after layer 1"
UNCOVERED, NEWLINES = "adaptive, no cover", "adaptive, newlines are nodes"
AS_FASTV = "adaptive, fastv's compute"
LATER = "fastv, k=3"
FASTV_AS_ADAPTIVE = ("fastv k=1, adaptive's compute", "fastv k=2, adaptive's compute")

LAYERS = 5
"""Of the tiny model's decoder."""
LEAST_RETENTION = {"st_simdiff_release": 0.1, "st_simdiff_release_ranked": 0.1, "dycoke": 0.25}
"""Below it the release refuses some clips, since two of five layers cost more than the average over all may be, and
DyCoke all, since it keeps whole frames."""


@dataclass(frozen=True)
class Variant:
    """One row of the comparison: a method of the registry with settings, called `name`.

    compute_of: "fastv" or "adaptive": the method's layers process on average what those of that method process at the
        same retention, with default settings.
    """

    name: str
    method: str
    settings: dict[str, Any] = field(default_factory=dict)
    compute_of: str | None = None

    def at(self, retention: float) -> Method:
        """The method that keeps `retention` of the visual tokens, or costs as much as another one that does."""
        if self.compute_of == "fastv":
            retention = adaptive_retention(fastv_share(retention))
        if self.compute_of == "adaptive":
            budget = {"budget": "compute"} | self.settings
            return make_method(self.method, retention=adaptive_share(retention), **budget)
        return make_method(self.method, retention=retention, **self.settings)

    def affordable(self, retention: float) -> bool:
        """Whether the layers that run before the pruning leave something of the budget, on every clip."""
        if retention < LEAST_RETENTION.get(self.method, 0):
            return False
        return self.compute_of != "adaptive" or LAYERS * adaptive_share(retention) > self.settings["k"]


def fastv_share(retention: float) -> float:
    """The share of tokens that the tiny model's layers process on average under FastV."""
    full = FastV().k
    return (full + (LAYERS - full) * retention) / LAYERS


def adaptive_share(retention: float) -> float:
    """The share of tokens that the tiny model's layers process on average under the adaptive rule."""
    rule = STSimDiffAdaptive()
    full = rule.prune_layer + 1
    return round((full * retention**rule.entry + (LAYERS - full) * retention) / LAYERS, 6)


def adaptive_retention(share: float) -> float:
    """The retention at which the layers process `share` on average under the adaptive rule, to 6 digits."""
    low, high = 0.0, 1.0
    while high - low > 1e-7:
        middle = (low + high) / 2
        low, high = (middle, high) if adaptive_share(middle) < share else (low, middle)
    return round(high, 6)


ABLATION = (
    Variant(SPATIAL, PAPER, {"temporal": False, "tau_diff": -1}),
    Variant(TEMPORAL, PAPER, {"spatial": False, "tau_diff": -1}),
    Variant(BOTH, PAPER, {"tau_diff": -1}),
)
"""The paper's Table 4 between `importance` and `st_simdiff`, which are methods of the registry: no events."""

GRAPH = {"candidates": "communities"}
GRAPH_ENTRY = Variant(COMMUNITIES, ADAPTIVE, GRAPH)
"""The adaptive rule with the paper's graph at its entry."""

PARTS = (
    Variant(NO_GRAPH, ADAPTIVE, GRAPH | {"tau_sim": -1}),
    Variant(NO_EVENTS, ADAPTIVE, GRAPH | {"tau_diff": -1}),
    Variant(NEITHER, ADAPTIVE, GRAPH | {"tau_sim": -1, "tau_diff": -1}),
)
"""The same with one community, which the cap cuts into boxes of 64 tokens, and without event tokens."""

OPTIONS = (
    Variant(PROTECTED, ADAPTIVE, {"protect_events": True}),
    Variant(CENTRAL, ADAPTIVE, GRAPH | {"ranking": "central"}),
    Variant(NARROW, ADAPTIVE, {"entry": 1}),
    Variant(EARLY, ADAPTIVE, {"prune_layer": 1}),
    Variant(UNCOVERED, ADAPTIVE, {"cover": 0}),
    Variant(NEWLINES, ADAPTIVE, GRAPH | {"newline": "node"}),
)
"""The adaptive rule with one of its other options the other way; two of them are options of the graph."""

TEXT_FREE = Variant(VISUAL, TWO_STEPS, {"score": "visual", "cover": 0.5})
"""Two steps of pruning by attention among the visual tokens: the same tokens for every question."""

EQUAL_COMPUTE = (
    Variant(AS_FASTV, ADAPTIVE, compute_of="fastv"),
    Variant(LATER, "fastv", {"k": 3}),
    *(Variant(name, "fastv", {"k": k}, compute_of="adaptive") for k, name in enumerate(FASTV_AS_ADAPTIVE, start=1)),
)

FIXED_PAIR = Variant(CALIBRATED, PAPER, {"tau_sim": 0.99, "tau_diff": 0.9})

VARIANTS = (
    *(Variant(name, name) for name in METHODS.own if name != FULL),
    *ABLATION,
    FIXED_PAIR,
    GRAPH_ENTRY,
    TEXT_FREE,
    *PARTS,
    *OPTIONS,
    *EQUAL_COMPUTE,
)
"""The rows on the first world."""

FURTHER = (
    *(Variant(name, name) for name in ("random", "evs", "fastv", PAPER, ADAPTIVE, TWO_STEPS, INPUT)),
    *(Variant(name, name) for name in ("llava_scissor", "framefusion", "vidcom2", "unicomp", "v_cast", "divprune")),
    ABLATION[-1],
    FIXED_PAIR,
    GRAPH_ENTRY,
    TEXT_FREE,
    next(variant for variant in EQUAL_COMPUTE if variant.name == LATER),
    *PARTS,
)
"""The rows on the other worlds and under stress."""

MERGING = ("llava_scissor", "framefusion", "unicomp")
"""Methods of `FURTHER` that put means in the place of tokens at the input: they need the features that the language
model reads, which they do not see under the stresses of `stress.SEEN`."""
