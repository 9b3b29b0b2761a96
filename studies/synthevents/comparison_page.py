"""The page on a comparison: accuracy with intervals, paired differences, event tokens kept, and who loses to whom."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from st_simdiff.methods.registry import METHODS
from st_simdiff.report.statistics import Interval
from studies.synthevents.compare import Comparison, Row
from studies.synthevents.comparison_claims import claims_section
from studies.synthevents.comparison_text import (
    CHOICE,
    EQUAL_BUDGETS,
    ONE_RULE,
    READING,
    ROWS_OF_EQUAL_COMPUTE,
    limits,
)
from studies.synthevents.comparison_worlds import compute_section, options_section, parts_section, worlds_section
from studies.synthevents.scores import KINDS, Scores, interval_text, markdown, share_text, signed_text
from studies.synthevents.variants import (
    ADAPTIVE,
    BLIND,
    BOTH,
    CALIBRATED,
    EQUAL_COMPUTE,
    FULL,
    OPTIONS,
    PAPER,
    SPATIAL,
    TEMPORAL,
)

PAIRS = (
    *((ADAPTIVE, other) for other in (PAPER, CALIBRATED, "fastv", "evs")),
    (PAPER, "random"),
    (PAPER, "fastv"),
    (CALIBRATED, "fastv"),
)
STEPS = (("importance", None), (SPATIAL, "importance"), (TEMPORAL, "importance"), (BOTH, "importance"), (PAPER, BOTH))
"""The paper's ablation: a row, and the row that its difference is taken to."""


def page(comparisons: Sequence[Comparison]) -> str:
    """The whole page in Markdown. The first comparison has all rows, the others are of other worlds and features."""
    first = comparisons[0]
    scores = Scores(first)
    names = {row.name for row in first.rows}
    parts = [_opening(comparisons), _controls(scores)]
    if claims := claims_section(scores):
        parts.append(claims)
    parts += [_table(scores, retention) for retention in first.retentions]
    if names >= {name for name, _ in STEPS}:
        parts.append(_ablation(scores))
    if names >= {name for pair in PAIRS for name in pair}:
        parts.append(_pairs(scores))
        parts += [compute_section(scores), parts_section(comparisons)]
    if names >= {variant.name for variant in OPTIONS}:
        parts.append(options_section(scores))
    if first.checkpoint is None:
        parts.append(CHOICE)
    if len(comparisons) > 1:
        parts.append(worlds_section(comparisons))
    if PAPER in names:
        parts.append(_against_the_paper(scores))
    parts.append(limits(scores))
    return "\n\n".join(parts) + "\n"


def _command(comparisons: Sequence[Comparison]) -> str:
    """The command that measures all of them."""
    first, *others = comparisons
    worlds = ",".join([first.world, *(other.world for other in others if other.stress is None)])
    everything = {row.name for row in first.rows} >= {variant.name for variant in OPTIONS}
    rows = "" if everything else "--rows main "
    drawn = f"{rows}--split {first.split} --seed {first.seed} --questions {len(first.kinds)}"
    lines = [
        f"python -m studies.synthevents compare --world {worlds}",
        f"    {drawn} --retention {_listed_shares(first)}",
    ]
    stresses = ",".join(other.stress for other in others if other.stress is not None)
    if stresses:
        lines.append(f"    --stress {stresses}")
    if others:
        sizes = f"--further-questions {len(others[0].kinds)} --further-retention {_listed_shares(others[0])}"
        lines.append(f"    {sizes}")
    if first.checkpoint is not None:
        lines.append(f"    --checkpoint {first.checkpoint}/checkpoint")
    return " \\\n".join([*lines, f"    --out docs/synth_results{_ending(first)}"])


def _ending(comparison: Comparison) -> str:
    return "" if comparison.checkpoint is None else f"_{comparison.checkpoint}"


def _listed_shares(comparison: Comparison) -> str:
    return ",".join(f"{retention:g}" for retention in comparison.retentions)


def _opening(comparisons: Sequence[Comparison]) -> str:
    comparison = comparisons[0]
    names = {row.name for row in comparison.rows}
    count, clips = len(comparison.families), len(set(comparison.clips))
    missing = [f"`{name}`" for name in METHODS.own if name not in names]
    paragraphs = [
        f"""# {"The main methods" if missing else "Every method"} on the tiny model

{count} questions ({comparison.kinds.count("event")} on events, the others on what is stable) about {clips} clips of
SynthEvents, world `{comparison.world}`, split `{comparison.split}`, answered by the tiny LLaVA-Video
{_which(comparison)} ([its card](synth_model_card.md)), in float32. An answer is the likeliest of the four options.
Written by this command, which takes any number of questions (1000 unless told):

```bash
{_command(comparisons)}
```

Settings are the methods' defaults; none was chosen on this split.{ONE_RULE if "importance" in names else ""}"""
    ]
    if missing:
        paragraphs.append(f"Not measured here: {', '.join(missing)}.")
    settings = [
        f"- `{row.name}`: `{row.method}` with {_settings(row.settings)}" for row in comparison.rows if row.settings
    ]
    paragraphs += ["Besides the registry:", "\n".join(dict.fromkeys(settings))]
    if names >= {variant.name for variant in EQUAL_COMPUTE}:
        paragraphs.append(ROWS_OF_EQUAL_COMPUTE)
    early = [f"`{name}`" for name in ("importance", "fastv", "sttm") if name in names]
    many = ["`tau_sim=0.99`", *(["spatial edges alone"] if SPATIAL in names else []), "the adaptive rule"]
    paragraphs += [READING, EQUAL_BUDGETS.format(early=", ".join(early), many=", ".join(many))]
    return "\n\n".join(paragraphs)


def _which(comparison: Comparison) -> str:
    return "that is shipped" if comparison.checkpoint is None else f"of the run `{comparison.checkpoint}`"


def _settings(settings: dict[str, object]) -> str:
    return ", ".join(f"`{name}={value}`" for name, value in settings.items())


def _controls(scores: Scores) -> str:
    full, blind = (scores.comparison.row(name) for name in (FULL, BLIND))
    rows = [[name, *(interval_text(scores.accuracy(row, kind)) for kind in KINDS)] for name, row in _named(full, blind)]
    return "## Without compression\n\n" + markdown(["", *KINDS], rows)


def _named(*rows: Row) -> list[tuple[str, Row]]:
    return [(f"`{row.name}`", row) for row in rows]


def _table(scores: Scores, retention: float) -> str:
    full = scores.comparison.row(FULL)
    measured = [row for row in scores.comparison.rows if row.retention == retention]
    measured.sort(key=lambda row: -row.correct.count("1"))
    head = ["method", *KINDS, "all, minus full", "evidence kept", "all events kept", "kept", "processed"]
    rows = [
        [
            name,
            *(interval_text(scores.accuracy(row, kind)) for kind in KINDS),
            signed_text(scores.difference(row, full, "all")),
            interval_text(scores.recall(row)),
            share_text(row.events_kept),
            share_text(row.kept),
            share_text(row.processed),
        ]
        for name, row in _named(*measured)
    ]
    return f"## {retention:.0%} of the visual tokens\n\n" + markdown(head, rows)


def _ablation(scores: Scores) -> str:
    head = ["", "r", *KINDS, "evidence kept"]
    rows = []
    for retention in scores.comparison.retentions:
        for name, base in STEPS:
            row = scores.comparison.row(name, retention)
            minus = ["", "", ""]
            if base is not None:
                before = scores.comparison.row(base, retention)
                minus = [signed_text(scores.difference(row, before, kind)) for kind in KINDS]
            label = f"`{name}`" + (f" minus `{base}`" if base else "")
            rows.append([label, f"{retention:g}", *minus, interval_text(scores.recall(row))])
    return f"""## The paper's ablation

What the similarity graph adds to importance alone, and what the events add to the graph, at the paper's thresholds.

{markdown(head, rows)}"""


def _pairs(scores: Scores) -> str:
    rows = [
        [f"`{first}` minus `{second}`", f"{retention:g}"]
        + [
            signed_text(scores.difference(*(scores.comparison.row(name, retention) for name in (first, second)), kind))
            for kind in KINDS
        ]
        for first, second in PAIRS
        for retention in scores.comparison.retentions
    ]
    return "## Paired differences\n\n" + markdown(["", "r", *KINDS], rows)


def _against_the_paper(scores: Scores) -> str:
    """Who is ahead of ST-SimDiff at the paper's thresholds, and who behind, in words."""
    lines = []
    for retention in scores.comparison.retentions:
        paper = scores.comparison.row(PAPER, retention)
        gaps = {
            row.name: scores.difference(row, paper, "all")
            for row in scores.comparison.rows
            if row.retention == retention and row.name != PAPER
        }
        lines.append(
            f"- **{retention:.0%}** ({share_text(scores.accuracy(paper, 'all').mean)}). "
            f"Ahead of it: {_listed(gaps, lambda gap: gap.low is not None and gap.low > 0)}. "
            f"Behind it: {_listed(gaps, lambda gap: gap.high is not None and gap.high < 0)}. "
            f"Not separated: {_listed(gaps, lambda gap: gap.low is None or gap.low <= 0 <= gap.high)}."
        )
    return f"""## Where ST-SimDiff at the paper's thresholds wins and loses

`{PAPER}` (`tau_sim=0.8`, `tau_diff=0.2`) on all questions. Ahead and behind: the interval of the paired difference
excludes zero. The numbers are the others' accuracy minus its own.

{chr(10).join(lines)}"""


def _listed(gaps: dict[str, Interval], wanted: Callable[[Interval], bool]) -> str:
    chosen = sorted(((gap.mean, name) for name, gap in gaps.items() if wanted(gap)), reverse=True)
    return ", ".join(f"`{name}` {mean:+.3f}" for mean, name in chosen) or "none"
