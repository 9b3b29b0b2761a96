"""FlashVID. "FlashVID: Efficient Video Large Language Models via Training-free Tree-based Spatiotemporal Token
Merging", ICLR 2026, arXiv 2602.08024; github.com/Fanziyang-v/FlashVID. The trees are in `flashvid_trees.py`."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch

from st_simdiff.checks import check_flag, check_range, check_whole
from st_simdiff.errors import InputError
from st_simdiff.methods.base import Reduction, VisionInput, VisualTokens
from st_simdiff.methods.budgeted import even_quotas
from st_simdiff.methods.flashvid_trees import Tokens, reduce_segments
from st_simdiff.methods.patches import Choice, Patches, PatchMethod, unit
from st_simdiff.methods.ranking import highest, rank

LAYER = 19
"""0-based index of the decoder layer whose attention prunes once more, as published for 28 layers."""
LEFT = 0.3
"""Share of the tokens that the second pruning leaves."""


@dataclass(frozen=True, kw_only=True)
class FlashVID(PatchMethod):
    """Keeps attended patches that are unlike each other, and merges the others along time and then in their frame.

    segments: least number of segments (8; the official Qwen2.5-VL takes 4). tau: frames less similar than this are cut
    apart. chosen: share of the kept that attention and difference choose. linked: patches more similar than this to
    one a frame earlier join it. relevance: whether likeness to the segment's mean weighs the choice (official
    `attn_div_v2`, for LLaVA; Qwen2.5-VL's `attn_div` does without).
    as_published: 1.25 r at the input, and 30 % of that after the layer of index 19, which makes r the share that 28
    layers process on average. Else all of the reduction is made at the input.
    """

    name: ClassVar[str] = "flashvid"

    segments: int = 8
    tau: float = 0.9
    chosen: float = 0.7
    linked: float = 0.8
    relevance: bool = True
    expansion: float = 1.25

    def __post_init__(self) -> None:
        super().__post_init__()
        check_whole("segments", self.segments, 1, "the least number of segments")
        check_range("tau", self.tau, -1, 1, "a cosine similarity")
        check_range("chosen", self.chosen, 0, 1, "a share of the kept patches")
        check_range("linked", self.linked, -1, 1, "a cosine similarity")
        check_flag("relevance", self.relevance)
        check_range("expansion", self.expansion, 1, 10, "how many times the budget enters the language model")

    @property
    def vision_inputs(self) -> frozenset[VisionInput]:
        return frozenset({"attention"})

    @property
    def asks_query(self) -> bool:
        return self.published

    def layers(self, num_layers: int) -> tuple[int, ...]:
        if not self.published or self.retention == 1:
            return ()
        if num_layers <= LAYER + 1:
            raise InputError(f"FlashVID prunes after the layer of index {LAYER}; the model has {num_layers} layers.")
        return (LAYER,)

    def choose(self, patches: Patches, count: int) -> Choice:
        quotas = even_quotas(count, len(patches.features))
        kept, values, owner = self.reduce(patches, quotas, exact=True).merged()
        return Choice(kept, values, owner)

    def choose_published(self, patches: Patches) -> Choice:
        frames, size, _ = patches.features.shape
        quota = min(size, math.ceil(size * self.retention * self.expansion))
        kept, values, owner = self.reduce(patches, [quota] * frames, exact=False).merged()
        return Choice(kept, values, owner)

    def reduce(self, patches: Patches, quotas: list[int], *, exact: bool) -> Tokens:
        """What each frame's quota of tokens becomes. exact: without the official faults, and exactly as many."""
        lengths = segment_lengths(patches.features.float().mean(1), self.segments, self.tau)
        counts = [math.ceil(quota * self.chosen) for quota in quotas]
        return reduce_segments(
            patches.features,
            patches.attention,
            [length for length in lengths if length],
            counts,
            quotas,
            self.linked,
            relevance=self.relevance,
            exact=exact,
        )

    def reduce_after_layer(self, layer: int, tokens: VisualTokens) -> Reduction | None:  # noqa: ARG002
        if not self.published or self.retention == 1:
            return None
        scores = tokens.attention()
        return Reduction(kept=highest(scores, math.ceil(LEFT * scores.numel())), details=scores)


def segment_lengths(frames: torch.Tensor, least: int, tau: float) -> list[int]:
    """Frames per segment: cut where neighbours are less similar than `tau`, and at the least similar others.

    frames: (T, C), one feature a frame. With fewer than `least` segments, min(missing, T - 1) more cuts are made: of
    videos that are cut everywhere some twice, which leaves segments of length 0, as published.
    """
    vectors = unit(frames)
    similarity = (vectors[:-1] * vectors[1:]).sum(-1)
    cuts = (similarity < tau).nonzero().flatten()
    if len(cuts) + 1 < least:
        others = similarity.index_fill(0, cuts, 1.0)
        more = min(least - len(cuts) - 1, len(similarity))
        cuts = torch.cat([cuts, rank(-others)[:more]]).sort().values
    bounds = torch.cat([cuts.new_zeros(1), cuts + 1, cuts.new_full((1,), len(frames))])
    return bounds.diff().tolist()
