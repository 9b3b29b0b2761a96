"""How pictures look: Okabe and Ito's palette, which people with any colour vision can tell apart; a look a method.

Imports nothing but the standard library, so that every kind of picture can use it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

BLACK = "#000000"
ORANGE = "#E69F00"
SKY_BLUE = "#56B4E9"
GREEN = "#009E73"
YELLOW = "#F0E442"
BLUE = "#0072B2"
VERMILION = "#D55E00"
PURPLE = "#CC79A7"
GREY = "#808080"

PALETTE = (BLACK, ORANGE, SKY_BLUE, GREEN, YELLOW, BLUE, VERMILION, PURPLE)

INK = "#222226"
FAINT = "#DEDEDC"

RC = {
    "figure.dpi": 150,
    "savefig.dpi": 150,
    "font.size": 9,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": FAINT,
    "grid.linewidth": 0.6,
    "legend.frameon": False,
    "legend.handlelength": 3.2,
    "svg.fonttype": "none",
}
"""matplotlib settings for every plot."""

RIVAL_COLOURS = (BLUE, GREEN, SKY_BLUE, PURPLE)
OWN_COLOURS, OWN_MARKERS = (PURPLE, GREEN, BLUE, ORANGE), ("d", "p", "h", "8")
"""Of ablations and other settings of this project's own methods, which stand beside the method in vermilion."""
RIVAL_MARKERS = ("s", "^", "D", "v", "P", "X", "<")
DASHES = ("-", "--", "-.", ":")
"""Four colours and seven markers are 28 pairs; the dashes change with every round of colours."""

RIVALS = (
    *("fastv", "framefusion", "visionzip", "prumerge", "fastervlm", "importance", "vispruner", "sttm"),
    *("vidcom2", "fastvid", "holitom", "llava_scissor", "prumerge_plus"),
    *("evs", "vidcom2_vllm", "dycoke", "divprune", "flashvid", "unicomp", "v_cast"),
)
"""Each keeps its look, whatever else is in the picture."""


@dataclass(frozen=True)
class Look:
    """Of one line. width: of the line, in points."""

    colour: str
    marker: str
    dashes: str
    width: float


_FIXED = {
    "full": Look(BLACK, "", "--", 1.2),
    "random": Look(GREY, "x", ":", 1.2),
    "uniform_frames": Look(GREY, "H", "--", 1.2),
    "st_simdiff": Look(VERMILION, "o", "-", 2.0),
    "st_simdiff_release": Look(VERMILION, "*", "--", 1.6),
    "st_simdiff_adaptive": Look(ORANGE, "o", "-", 2.0),
    "st_simdiff_input": Look(ORANGE, "*", "--", 1.6),
    "st_simdiff/spatial": Look(SKY_BLUE, "^", "--", 1.6),
    "st_simdiff/temporal": Look(PURPLE, "v", "-.", 1.6),
    "st_simdiff/similarity": Look(BLUE, "D", ":", 1.6),
}
"""The ablations are drawn beside `importance`, which is green."""
FULL_LOOK = _FIXED["full"]


def is_prominent(variant: str) -> bool:
    """Whether a line belongs in front of the others: this project's own methods."""
    return variant.startswith("st_simdiff")


def looks(variants: Iterable[str]) -> dict[str, Look]:
    """A look for every method (a registry name, or one with settings after it); controls are grey."""
    found: dict[str, Look] = {}
    unknown_rivals, own_forms = len(RIVALS), 0
    for variant in dict.fromkeys(variants):
        if variant in _FIXED:
            found[variant] = _FIXED[variant]
        elif is_prominent(variant):
            place = own_forms % len(OWN_COLOURS)
            found[variant] = Look(OWN_COLOURS[place], OWN_MARKERS[place], DASHES[own_forms % len(DASHES)], 1.6)
            own_forms += 1
        elif variant in RIVALS:
            found[variant] = _rival(RIVALS.index(variant))
        else:
            found[variant] = _rival(unknown_rivals)
            unknown_rivals += 1
    return found


def _rival(place: int) -> Look:
    dashes = DASHES[place // len(RIVAL_COLOURS) % len(DASHES)]
    return Look(RIVAL_COLOURS[place % len(RIVAL_COLOURS)], RIVAL_MARKERS[place % len(RIVAL_MARKERS)], dashes, 1.2)
