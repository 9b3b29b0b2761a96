"""The page's part on what is claimed of this project's own rules, corrected for the number of comparisons."""

from __future__ import annotations

from st_simdiff.methods.registry import make_method
from st_simdiff.report.statistics import LEVEL, Interval
from studies.synthevents.compare import Comparison, Row
from studies.synthevents.scores import Scores, markdown, share_text, signed_text
from studies.synthevents.variants import BLIND, FULL, INPUT, LATER, TWO_STEPS

RETENTIONS = (0.15, 0.08)
MARGIN, MOST_PROCESSED = -0.015, 0.45


def claims_section(scores: Scores) -> str | None:
    """Whether the input rule is ahead of every other one that asks no query, and two steps level with FastV k=3.

    None where those rows were not measured.
    """
    comparison = scores.comparison
    retentions = [r for r in RETENTIONS if comparison.has(INPUT, r)]
    pairs = [
        (comparison.row(INPUT, r), other)
        for r in retentions
        for other in comparison.rows
        if other.retention == r and other.name != INPUT and acts_without_query(other)
    ]
    if not pairs:
        return None
    level = 1 - (1 - LEVEL) / len(pairs)
    rows = []
    for ours, other in pairs:
        gap = scores.difference(ours, other, "all", level)
        rows.append([f"minus `{other.name}`", f"{ours.retention:g}", signed_text(gap), verdict(gap)])
    text = f"""## What is claimed

`{INPUT}` less every other row whose kept tokens are the same for every question, all questions. The intervals are
corrected for {len(pairs)} comparisons (Bonferroni, {100 * level:.2f} %): if they are all truly level, one of them says
otherwise in one of twenty such tables.{_exceptions(comparison)}

{markdown(["", "r", "all", ""], rows)}"""
    steps = [r for r in retentions if comparison.has(TWO_STEPS, r) and comparison.has(LATER, r)]
    if steps:
        text += f"""

`{TWO_STEPS}` less `{LATER}`. Level: the lower end of the 95 % interval lies above {MARGIN:+.3f}, with at most
{share_text(MOST_PROCESSED)} of the tokens processed.

{markdown(["", "r", "all", "processed", "processed by FastV", ""], [_level(scores, r) for r in steps])}"""
    return text


def acts_without_query(row: Row) -> bool:
    """Whether a row's method keeps the same tokens for every question about a video."""
    if row.name in (FULL, BLIND):
        return False
    return not make_method(row.method, retention=0.5, **row.settings).asks_query


def _exceptions(comparison: Comparison) -> str:
    names = {row.name for row in comparison.rows}
    said = "" if "dycoke" not in names else " `dycoke` cannot keep so few tokens and is not among them"
    if said and "st_simdiff_release_random" in names:
        said += ";\n`st_simdiff_release_random` keeps more than the others"
    return said and f"{said}."


def verdict(gap: Interval | None) -> str:
    """In one word or two."""
    if gap is None or gap.low is None or gap.high is None or gap.low <= 0 <= gap.high:
        return "not separated"
    return "ahead" if gap.low > 0 else "behind"


def _level(scores: Scores, retention: float) -> list[str]:
    ours, other = (scores.comparison.row(name, retention) for name in (TWO_STEPS, LATER))
    gap = scores.difference(ours, other, "all")
    held = gap is not None and gap.low is not None and gap.low > MARGIN and ours.processed <= MOST_PROCESSED
    return [
        "",
        f"{retention:g}",
        signed_text(gap, digits=4),
        share_text(ours.processed),
        share_text(other.processed),
        "level" if held else "not shown",
    ]
