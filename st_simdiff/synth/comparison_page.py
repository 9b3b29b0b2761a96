"""The page on a comparison: accuracy with intervals, paired differences, event tokens kept, and who loses to whom."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from st_simdiff.report.statistics import ClusterBootstrap, Interval
from st_simdiff.synth.compare import BLIND, BOTH, CALIBRATED, FULL, SPATIAL, TEMPORAL, Comparison, Row

KINDS = ("all", "stable", "event")
PAPER, ADAPTIVE = "st_simdiff", "st_simdiff_adaptive"
PAIRS = (
    *((ADAPTIVE, other) for other in (PAPER, "fastv", CALIBRATED, BOTH)),
    (PAPER, "random"),
    (PAPER, "fastv"),
    (CALIBRATED, "fastv"),
)
STEPS = (("importance", None), (SPATIAL, "importance"), (TEMPORAL, "importance"), (BOTH, "importance"), (PAPER, BOTH))
"""The paper's ablation: a row, and the row that its difference is taken to."""


class Scores:
    """Means and differences of the rows of a comparison. Clips are resampled, not questions."""

    def __init__(self, comparison: Comparison) -> None:
        self.comparison = comparison
        kinds = np.asarray(comparison.kinds)
        self.asked = {kind: np.flatnonzero((kinds == kind) | (kind == "all")) for kind in KINDS}

    @cached_property
    def bootstraps(self) -> dict[str, ClusterBootstrap]:
        """For every kind that was asked about."""
        clips = np.asarray(self.comparison.clips).astype(str)
        return {kind: ClusterBootstrap(clips[asked].tolist()) for kind, asked in self.asked.items() if asked.size}

    def accuracy(self, row: Row, kind: str) -> Interval | None:
        """Share of the questions of a kind, 0..1; None if there are none."""
        return self.bootstraps[kind].interval(self._correct(row, kind)) if kind in self.bootstraps else None

    def difference(self, first: Row, second: Row, kind: str) -> Interval | None:
        """Accuracy of the first less that of the second, on the same questions."""
        if kind not in self.bootstraps:
            return None
        return self.bootstraps[kind].difference(self._correct(first, kind), self._correct(second, kind))

    def recall(self, row: Row) -> Interval | None:
        """Share of a question's event tokens that are kept, mean over the questions that events decide."""
        tokens, asked, evidence = row.evidence_kept, self.asked["event"], self.comparison.evidence
        if "event" not in self.bootstraps:
            return None
        return self.bootstraps["event"].interval([tokens[number] / evidence[number] for number in asked])

    def _correct(self, row: Row, kind: str) -> NDArray[np.float64]:
        return np.asarray([int(mark) for mark in row.correct], dtype=np.float64)[self.asked[kind]]


def page(comparison: Comparison) -> str:
    """The whole page in Markdown."""
    scores = Scores(comparison)
    parts = [_opening(comparison), _controls(scores)]
    parts += [_table(scores, retention) for retention in comparison.retentions]
    names = {row.name for row in comparison.rows}
    if names >= {name for name, _ in STEPS}:
        parts.append(_ablation(scores))
    if names >= {name for pair in PAIRS for name in pair}:
        parts.append(_pairs(scores))
    if PAPER in names:
        parts.append(_against_the_paper(scores))
    parts.append(_LIMITS)
    return "\n\n".join(parts) + "\n"


def _opening(comparison: Comparison) -> str:
    count, clips = len(comparison.families), len(set(comparison.clips))
    given = ",".join(f"{retention:g}" for retention in comparison.retentions)
    lines = [
        f"- `{row.name}`: `{row.method}` with {_settings(row.settings)}" for row in comparison.rows if row.settings
    ]
    besides = "\n".join(dict.fromkeys(lines))
    return f"""# Every method on the tiny model

{count} questions ({comparison.kinds.count("event")} on events, the others on what is stable) about {clips} clips of
SynthEvents, world `{comparison.world}`, split `{comparison.split}`, answered by the tiny LLaVA-Video that is shipped
([its card](synth_model_card.md)), in float32. An answer is the likeliest of the four options. Written by this command,
which takes any number of questions (1000 unless told):

```bash
python -m st_simdiff.synth compare --world {comparison.world} --split {comparison.split} --seed {comparison.seed} \\
    --questions {count} --retention {given} --out docs/synth_results
```

Settings are the methods' defaults; nothing was chosen on these questions. `importance` and `fastv` are one rule at
these settings. Besides the registry:

{besides}

In brackets: 95 % intervals by bootstrap over clips (percentile, 5,000 resamples). Differences are paired: both
answered the same questions; bold ones have an interval that excludes zero. Nothing is corrected for the number of
comparisons: of twenty that are truly zero, one is expected to be bold.

An *event token* is the token of a cell in which an event begins, in its first frame. *Evidence kept*: of the event
tokens that decide a question, the share that is left at the end, mean over the questions on events. *All events
kept*: the same over all events of the clips, cuts included, which change a whole frame. A token that was merged
into another one's slot counts as lost. *Processed*: share of the visual tokens that the decoder's layers process on
average.

**Equal budgets are not equal work here.** The budget is what is left at the end. Methods that prune after the
second of the five layers (`importance`, `fastv`, `sttm`) take all tokens through two of them, and process far more
than those that act at the input; read their rows with the last column. So does ST-SimDiff where its rule lets many
candidates in (`tau_sim=0.99`, spatial edges alone). In a 28-layer decoder two layers are a few percent."""


def _settings(settings: dict[str, object]) -> str:
    return ", ".join(f"`{name}={value}`" for name, value in settings.items())


def _controls(scores: Scores) -> str:
    full, blind = (scores.comparison.row(name) for name in (FULL, BLIND))
    rows = [[name, *(_interval(scores.accuracy(row, kind)) for kind in KINDS)] for name, row in _named(full, blind)]
    return "## Without compression\n\n" + _markdown(["", *KINDS], rows)


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
            *(_interval(scores.accuracy(row, kind)) for kind in KINDS),
            _signed(scores.difference(row, full, "all")),
            _interval(scores.recall(row)),
            _share(row.events_kept),
            _share(row.kept),
            _share(row.processed),
        ]
        for name, row in _named(*measured)
    ]
    return f"## {retention:.0%} of the visual tokens\n\n" + _markdown(head, rows)


def _ablation(scores: Scores) -> str:
    head = ["", "r", *KINDS, "evidence kept"]
    rows = []
    for retention in scores.comparison.retentions:
        for name, base in STEPS:
            row = scores.comparison.row(name, retention)
            minus = ["", "", ""]
            if base is not None:
                before = scores.comparison.row(base, retention)
                minus = [_signed(scores.difference(row, before, kind)) for kind in KINDS]
            label = f"`{name}`" + (f" minus `{base}`" if base else "")
            rows.append([label, f"{retention:g}", *minus, _interval(scores.recall(row))])
    return f"""## The paper's ablation

What the similarity graph adds to importance alone, and what the events add to the graph, at the paper's thresholds.

{_markdown(head, rows)}"""


def _pairs(scores: Scores) -> str:
    rows = [
        [f"`{first}` minus `{second}`", f"{retention:g}"]
        + [
            _signed(scores.difference(*(scores.comparison.row(name, retention) for name in (first, second)), kind))
            for kind in KINDS
        ]
        for first, second in PAIRS
        for retention in scores.comparison.retentions
    ]
    return "## Paired differences\n\n" + _markdown(["", "r", *KINDS], rows)


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
            f"- **{retention:.0%}** ({_share(scores.accuracy(paper, 'all').mean)}). "
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


_LIMITS = """## What this says, and what it does not

It says how these methods, with these settings, treat one model for which dropping the wrong tokens costs answers
that can be checked, on held-out clips, with the truth about every event at hand. A method that drops the evidence
of an event before the first layer leaves nothing to answer from: that much is general. Keeping it is not enough:
what else is kept, and what means were put in its place, decides as well.

It does not rank the methods for 7B models, and no number here predicts one there:

- A fixed cosine belongs to one vision encoder, and 0.8 and 0.2 were set on others: what they score here says nothing of
  what they score there. The pair .99/.9 also lets more candidates into the first two layers; its lead is not the
  thresholds' alone.
- The pair .99/.9 is calibrated by hand: it was found on an earlier model of the same kind, on other clips.
- Methods that rank by the vision tower's attention (PruMerge, PruMerge+, FasterVLM, VisionZip, VisPruner, in part
  FastVID and HoliTom) rely on what large pretrained towers attend to. This tower was trained to name what single
  cells show; nothing taught its attention to mark what matters. Their scores are a statement about this tower.
- The language model was trained on this very task, which favours pruning by its own attention.
- 320 tokens in 16 frames of 4 x 4, a background that stands still, events of one cell: little room for communities,
  and neighbours in time that are nearly equal.
- The model was trained on all tokens. Means, and rows without their newline tokens, are input that it has never
  seen.
- One model, one training seed. The intervals are over clips, and know nothing of another model."""


def _share(value: float) -> str:
    return f"{value:.3f}".removeprefix("0")


def _interval(interval: Interval | None) -> str:
    if interval is None:
        return "–"
    bounds = "" if interval.low is None else f" [{_share(interval.low)}, {_share(interval.high)}]"
    return _share(interval.mean) + bounds


def _signed(interval: Interval | None) -> str:
    """A difference; bold where its interval excludes zero."""
    if interval is None:
        return "–"
    if interval.low is None:
        return f"{interval.mean:+.3f}"
    text = f"{interval.mean:+.3f} [{interval.low:+.3f}, {interval.high:+.3f}]"
    return text if interval.contains(0) else f"**{text}**"


def _markdown(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    head = list(head)
    rule = ["---", *["--:"] * (len(head) - 1)]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (head, rule, *rows))
