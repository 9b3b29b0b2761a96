"""What the page says in words: how the adaptive rule was chosen, and what the numbers do not say."""

from studies.synthevents.scores import Scores, signed_text
from studies.synthevents.variants import FULL, LATER

CHOICE = """## How the adaptive rule was chosen

On the development split alone, and frozen before this run, on clips that nothing had been measured on. An earlier form
(r enters, pruned after layer 1, newlines are nodes) had been measured on other clips of the test split (seed 0): .915
against FastV's .937 at 15 %, which is why it was worked on. At 15 %,
1,800 dev questions on the plain world and 180 each on `camera`, `large_events` and `long_events`:

| rule | plain | its event questions | mean of four worlds | processed |
| --- | --: | --: | --: | --: |
| `fastv` (k=2) | .924 | .901 | .858 | .490 |
| `fastv`, k=3 | .958 | .930 | .930 | .660 |
| .99/.9, pruned after layer 2 | .933 | .884 | .911 | .417 |
| root of r enters, pruned after layer 1 | .932 | .888 | .897 | .252 |
| the same, `cover=0.25` | .931 | .889 | .897 | .252 |
| the same, no graph | .929 | .881 | .893 | .249 |
| the same, `tau_sim=q0.5` | .937 | .899 | .901 | .253 |
| cube root of r enters, pruned after layer 1 | .936 | .897 | .902 | .310 |
| root of r enters, pruned after layer 2 | .944 | .902 | .915 | .303 |
| the same, no graph | .934 | .885 | .907 | .298 |
| the same, no events | .943 | .900 | .914 | .298 |
| the same, no cover | .943 | .900 | .916 | .303 |
| root of r enters, pruned after layer 3 | .945 | .903 | .915 | .354 |
| **cube root of r enters, pruned after layer 2** | .951 | .914 | .924 | .389 |
| the same, `tau_sim=q0.5` | .954 | .921 | .921 | .395 |

It was not the evidence that was missing: 98 % of it was kept before as well. What helped is that attention may choose
among more tokens, and is asked one layer later; k=3 helps FastV no less. On smaller sets of other dev clips (600 and
three or four worlds of 180): "most central" in place of farthest points cost .2; nodes in place of dropped newlines
.01. Without gain: letting in the tokens before, after or beside events, whole first or last frames, or all newlines;
protecting events; caps of 128 and 256 (.005 more at 15 %, .02 less at 8 %); covering by attention (.01 less on stable
questions)."""

ONE_RULE = " `importance` and `fastv` are one rule at these\nsettings."

ROWS_OF_EQUAL_COMPUTE = """\
Rows named after another method's compute keep as many tokens as let the layers process on average what those of that
method process at the same r. Where the layers before the pruning leave nothing of a budget there is no row: FastV at
the adaptive rule's lowest compute, and the release, whose r is an average over the layers, at 8 %. DyCoke, which keeps
a quarter of the frames whole, has none below 30 %."""

READING = """\
In brackets: 95 % intervals by bootstrap over clips (percentile, 5,000 resamples). Differences are paired: both
answered the same questions; bold ones have an interval that excludes zero. Except under *What is claimed*, nothing is
corrected for the number of comparisons: of twenty that are truly zero, one is expected to be bold.

An *event token* is a token of the cell in which an event begins, in its first frame. *Evidence kept*: of the event
tokens that decide a question, the share that is left at the end, mean over the questions on events. *All events
kept*: the same over all events of the clips, cuts included, which change a whole frame. A token that was merged
into another one's slot counts as lost. *Processed*: share of the visual tokens that the decoder's layers process on
average."""

EQUAL_BUDGETS = """\
**Equal budgets are not equal work here.** The budget is what is left at the end. Methods that prune after the
second of the five layers ({early}) take all tokens through two of them, and process far more
than those that act at the input; read their rows with the last column. So does ST-SimDiff where its rule lets many
candidates in ({many}). In a 28-layer decoder two layers are a few percent."""

_LIMITS = """## What this says, and what it does not

It says how these methods, with these settings, treat one model for which dropping the wrong tokens costs answers
that can be checked, on held-out clips, with the truth about every event at hand. A method that drops all traces of an
event before the first layer leaves nothing to answer from. The event tokens counted here are those of its first frame;
later frames and what lies around it tell of it, too, and what else is kept, and what means were put in its place,
decides as well.

It does not rank the methods for 7B models, and no number here predicts one there:

"""

_THRESHOLDS = """\
- A fixed cosine belongs to one vision encoder, and 0.8 and 0.2 were set on others: what they score here says nothing of
  what they score there. The pair .99/.9 also lets more candidates into the first two layers; its lead is not the
  thresholds' alone.
- The pair .99/.9 is calibrated by hand: it was found on an earlier model of 4 x 4 tokens a frame, on other clips."""
_TOWER = """\
- Methods that rank by the vision tower's attention (PruMerge, PruMerge+, FasterVLM, VisionZip, VisPruner, in part
  FastVID and HoliTom) rely on what large pretrained towers attend to. This tower was trained to name what single
  cells show; nothing taught its attention to mark what matters. Their scores are a statement about this tower."""
_ATTENTION = """\
- The language model was trained on this very task, which favours pruning by its own attention.{change}
  How early a 7B model's attention knows what a question needs is not known from here."""
_CHANGE = """ That of its third
  layer alone, given all tokens, changes the accuracy by {change} at 8 % (`fastv, k=3` minus full)."""
_TRAINING = """\
- The model was trained on all tokens. Means, and rows without their newline tokens, are input that it has never
  seen."""
_COARSE = """- 320 tokens in 16 frames of 4 x 4, a background that stands still, events of one cell: little room for
  communities, and neighbours in time that are nearly equal."""
_FINE = """- {count} tokens in {frames} frames of {side} x {side}: shapes and events cover a few cells each, the
  background stands still, and neighbours in time are nearly equal. The training went on from the shipped weights, so
  this is no independent model."""
_ONE_MODEL = "- One model, one training seed. The intervals are over clips, and know nothing of another model."


def limits(scores: Scores) -> str:
    """What the comparison does not say."""
    comparison = scores.comparison
    names = {row.name for row in comparison.rows}
    change = ""
    if comparison.has(LATER, 0.08):
        gap = scores.difference(comparison.row(LATER, 0.08), comparison.row(FULL), "all")
        change = _CHANGE.format(change=signed_text(gap).strip("*"))
    structure = _COARSE
    if comparison.side != 4:
        count = comparison.frames * comparison.side * (comparison.side + 1)
        structure = _FINE.format(count=count, frames=comparison.frames, side=comparison.side)
    points = [_THRESHOLDS, *([_TOWER] if "prumerge" in names else []), _ATTENTION.format(change=change)]
    return _LIMITS + "\n".join([*points, structure, _TRAINING, _ONE_MODEL])
