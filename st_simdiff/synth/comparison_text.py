"""What the page says in words: how the adaptive rule was chosen, and what the numbers do not say."""

CHOICE = """## How the adaptive rule was chosen

TODO"""

LIMITS = """## What this says, and what it does not

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
