"""The page's part on ST-SimDiff's adaptive rule: what each of its parts adds, on other worlds and under stress."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from st_simdiff.report.statistics import Interval
from studies.synthevents.compare import Comparison
from studies.synthevents.scores import Scores, interval_text, markdown, share_text, signed_text
from studies.synthevents.variants import (
    ADAPTIVE,
    AS_FASTV,
    CALIBRATED,
    COMMUNITIES,
    FASTV_AS_ADAPTIVE,
    FULL,
    GRAPH,
    LATER,
    NEITHER,
    NO_EVENTS,
    NO_GRAPH,
    OPTIONS,
    PAPER,
)

RIVALS = ("random", "evs", "fastv", PAPER, CALIBRATED, ADAPTIVE)
PARTS = {"the graph": NO_GRAPH, "the events": NO_EVENTS, "both": NEITHER}


EQUAL_COMPUTE = """## Equal compute

FastV takes all tokens through two of the five layers. Here both process the same share on the average of the layers:
either the adaptive rule as much as FastV does at r, by keeping more tokens, or FastV as little as the adaptive rule
does at r, where the layers that take all tokens leave it something. Last, FastV with the attention of the layer that
the adaptive rule asks, which costs it far more."""
SAME_ATTENTION = """## FastV with the attention of the same layer

FastV takes all tokens through the layers before its choice. Here it asks the layer that the adaptive rule asks, one
later than by default, which costs it far more."""


def options_section(scores: Scores) -> str:
    """The adaptive rule less the rule with one option the other way."""
    comparison, rows = scores.comparison, []
    for variant in OPTIONS:
        for retention in comparison.retentions:
            if not comparison.has(variant.name, retention):
                continue
            base = COMMUNITIES if variant.settings.items() >= GRAPH.items() else ADAPTIVE
            ours, other = (comparison.row(name, retention) for name in (base, variant.name))
            gaps = [signed_text(scores.difference(ours, other, kind)) for kind in ("all", "stable", "event")]
            rows.append([f"`{base}` minus `{variant.name}`", f"{retention:g}", *gaps, share_text(other.processed)])
    return f"""## The adaptive rule's other options

The adaptive rule, for options of the graph with communities at its entry, minus the same with one option the other
way; `processed` of the latter.

{markdown(["", "r", "all", "stable", "event", "processed"], rows)}"""


def compute_section(scores: Scores) -> str:
    """The adaptive rule and FastV where their layers process the same."""
    comparison, rows = scores.comparison, []
    for retention in comparison.retentions:
        pairs = [(AS_FASTV, "fastv"), *((ADAPTIVE, name) for name in FASTV_AS_ADAPTIVE), (ADAPTIVE, LATER)]
        for first, second in pairs:
            if not (comparison.has(first, retention) and comparison.has(second, retention)):
                continue
            pair = [comparison.row(name, retention) for name in (first, second)]
            sizes = [f"{share_text(row.processed)} / {share_text(row.kept)}" for row in pair]
            gaps = [signed_text(scores.difference(*pair, kind)) for kind in ("all", "stable", "event")]
            rows.append([f"`{first}` minus `{second}`", f"{retention:g}", *gaps, *sizes])
    head = ["", "r", "all", "stable", "event", "first: processed / kept", "second: processed / kept"]
    names = {row.name for row in comparison.rows}
    text = EQUAL_COMPUTE if AS_FASTV in names else SAME_ATTENTION
    return f"{text}\n\n{markdown(head, rows)}"


def parts_section(comparisons: Sequence[Comparison]) -> str:
    """What the graph and the events add to the adaptive rule, on every world."""
    rows = []
    counts = {part: Counter() for part in PARTS}
    for comparison in comparisons:
        scores = Scores(comparison)
        for retention in comparison.retentions:
            if not all(comparison.has(name, retention) for name in (COMMUNITIES, *PARTS.values())):
                continue
            ours = comparison.row(COMMUNITIES, retention)
            for part, name in PARTS.items():
                other = comparison.row(name, retention)
                gaps = [scores.difference(ours, other, kind) for kind in ("all", "event")]
                recalled = scores.recall_difference(ours, other)
                counts[part].update({f"all {side(gaps[0])}": 1, f"kept {side(recalled)}": 1})
                rows.append([f"{comparison.name}: {part}", f"{retention:g}", *map(signed_text, [*gaps, recalled])])
    summary = [
        [part, *(str(found[f"{what} {where}"]) for what in ("all", "kept") for where in ("above", "level", "below"))]
        for part, found in counts.items()
    ]
    head = [f"{what}: {where}" for what in ("accuracy", "evidence kept") for where in ("above 0", "holds 0", "below 0")]
    return f"""## What the graph and the events add

`{COMMUNITIES}`, the adaptive rule with the paper's graph at its entry, minus the same rule without the part. Without
the graph all tokens are one community, of which the cap makes boxes of 64 tokens; without the events no token is kept
for its change. What the graph costs or gains against the default entry, which has none, is in the tables above. In how
many of the rows below the interval lies above zero, holds it, or lies below it:

{markdown(["", *head], summary)}

{markdown(["", "r", "all", "event questions", "evidence kept"], rows)}"""


def side(interval: Interval | None) -> str:
    """Where the interval of a difference lies: above, level with or below zero; none where there is no interval."""
    if interval is None or interval.low is None or interval.high is None:
        return "none"
    return "above" if interval.low > 0 else "below" if interval.high < 0 else "level"


def worlds_section(comparisons: Sequence[Comparison]) -> str:
    """Accuracy of the methods that matter on worlds and features that nothing was set for."""
    parts = []
    for retention in comparisons[0].retentions:
        rows = []
        if not any(comparison.has(ADAPTIVE, retention) for comparison in comparisons[1:]):
            continue
        for comparison in comparisons:
            scores, full = Scores(comparison), comparison.row(FULL)
            if not all(comparison.has(name, retention) for name in RIVALS):
                continue
            ours = comparison.row(ADAPTIVE, retention)
            cells = [share_text(scores.accuracy(comparison.row(name, retention), "all").mean) for name in RIVALS]
            others = (full, comparison.row("fastv", retention), comparison.row(PAPER, retention))
            gaps = [signed_text(scores.difference(ours, other, "all")) for other in others]
            label = f"{comparison.name} ({len(comparison.kinds)})"
            rows.append([label, interval_text(scores.accuracy(full, "all")), *cells, *gaps])
        head = ["world (questions)", "`full`", *(f"`{name}`" for name in RIVALS)]
        head += ["adaptive minus full", "minus fastv", "minus paper"]
        parts.append(f"### {retention:.0%}\n\n" + markdown(head, rows))
    return f"""## Other worlds, and other features

Nothing was set anew. `drift` and `fast_drift`: the background moves; `static`: nothing moves or happens. Under stress,
named behind the world: `offset` adds one vector of twice the mean norm to the features, `linear` multiplies them by a
random matrix; both change what a method sees at the input and not what the language model reads, as if another encoder
had been trained with it; methods that merge tokens are left out there. `noise` adds half a standard deviation to what
both see, the full model included.

{(chr(10) * 2).join(parts)}"""
