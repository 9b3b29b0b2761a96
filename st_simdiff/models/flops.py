"""What a model's forward costs in FLOPs, vision tower included, and the speed-up that compression cannot exceed.

A multiply-add counts two. Matrix products, convolutions and attention are counted, as torch.utils.flop_counter does,
but for causal attention, of which only the lower triangle is: this is what a flash kernel computes. Norms, activations,
pooling and the selection itself are not counted: what they take is what a measurement loses against the limit.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from st_simdiff.checks import check_retention
from st_simdiff.errors import InputError
from st_simdiff.selection.budget import ModelShape, target_count


@dataclass(frozen=True)
class VisionShape:
    """The sizes of a vision tower and its projector that their cost depends on, for one step of the tower.

    frames: that one step takes in. patches: cut out of them, each through an embedding of `embedding_weights`.
    tokens: rows in the tower (one more than patches with a CLS token). width: of queries and keys, all heads together.
    layer_weights: of every layer's matrices. pairs: query-key pairs of every layer. projected: rows that go through
    the projector's matrices, of `projector_weights`.
    """

    frames: int
    patches: int
    embedding_weights: int
    tokens: int
    width: int
    layer_weights: tuple[int, ...]
    pairs: tuple[int, ...]
    projected: int
    projector_weights: int

    def tower_flops(self, frames: int) -> int:
        """FLOPs of the tower for so many frames."""
        attention = 2 * sum(self.pairs) * self.width
        products = self.patches * self.embedding_weights + self.tokens * sum(self.layer_weights) + attention
        return 2 * products * -(-frames // self.frames)

    def projector_flops(self, frames: int) -> int:
        """FLOPs of the projector for so many frames."""
        return 2 * self.projected * self.projector_weights * -(-frames // self.frames)


@dataclass(frozen=True)
class ModelCost:
    """FLOPs from the pixels of one video to the first token of the answer.

    step_tokens: visual tokens, separators included, that `step_frames` frames become. text: tokens of the prompt beside
    them. vocabulary: rows of the output embedding, which the last position alone goes through.
    """

    vision: VisionShape
    decoder: ModelShape
    vocabulary: int
    step_tokens: int
    step_frames: int = 1
    text: int = 64

    def tokens(self, frames: int) -> int:
        """N, the visual tokens of so many frames."""
        return -(-frames // self.step_frames) * self.step_tokens

    @property
    def logits(self) -> int:
        """FLOPs of the logits of one position."""
        return 2 * self.decoder.hidden * self.vocabulary

    def encoding(self, frames: int) -> int:
        """FLOPs of vision tower and projector, which compression inside the decoder does not change."""
        return self.vision.tower_flops(frames) + self.vision.projector_flops(frames)

    def prefill(self, visual_per_layer: Sequence[int]) -> int:
        """FLOPs of the decoder, given how many visual tokens each of its layers processes."""
        layers = self.decoder.prefill_flops([count + self.text for count in visual_per_layer])
        return layers + self.logits

    def another(self, visual_per_layer: Sequence[int], shared_text: int, shared_layers: int) -> int:
        """FLOPs of the decoder for another question about a video whose prefill is there in the first layers.

        visual_per_layer: as for `prefill`. shared_text: how many of the `text` tokens the prompts share. shared_layers:
        layers in which the video and those are there: only the new text goes through them. The others see the whole
        prompt, as the question decides which tokens reach them.
        """
        shared = self.decoder.prefill_flops([count + shared_text for count in visual_per_layer[:shared_layers]])
        return self.prefill(visual_per_layer) - shared

    def full(self, frames: int) -> int:
        """FLOPs without compression."""
        return self.encoding(frames) + self.prefill([self.tokens(frames)] * self.decoder.layers)

    def compressed(self, frames: int, retention: float, candidates: float, full_layers: int = 2) -> int:
        """FLOPs where a share `candidates` of the tokens enters the decoder and ceil(r N) go on.

        full_layers: layers that see all candidates; 2 in the paper. A method that acts at the input alone has
        candidates = retention, one that acts inside alone has candidates = 1. Raises `InputError` for a share out of
        (0, 1] or below the retention.
        """
        return self.encoding(frames) + self.prefill(self.layer_tokens(frames, retention, candidates, full_layers))

    def layer_tokens(self, frames: int, retention: float, candidates: float, full_layers: int = 2) -> list[int]:
        """Visual tokens in each layer, as `compressed` counts them."""
        check_retention(retention)
        if not retention <= candidates <= 1:
            raise InputError(
                f"candidates is the share of visual tokens that enters the decoder, in [retention, 1], got "
                f"{candidates!r} with retention {retention!r}."
            )
        count = self.tokens(frames)
        entering, left = target_count(candidates, count), target_count(retention, count)
        full_layers = min(full_layers, self.decoder.layers)
        return [entering] * full_layers + [left] * (self.decoder.layers - full_layers)

    def limit(self, frames: int, retention: float, candidates: float, full_layers: int = 2) -> float:
        """Full over compressed: the speed-up from pixels to the first token if every FLOP took the same time."""
        return self.full(frames) / self.compressed(frames, retention, candidates, full_layers)


def match_budget(
    cost: ModelCost, retention: float, candidates: float, *, reference_frames: int = 64, full_layers: int = 2
) -> int:
    """The most frames whose compressed cost is at most what the full model costs at `reference_frames`.

    In whole steps of the model, to which `reference_frames` is rounded up as well. For LLaVA-Video-7B at 30 % with 60 %
    of the tokens entering: 150 frames for 64. Raises `InputError` as `ModelCost.compressed`.
    """
    step = max(cost.step_frames, cost.vision.frames)
    low = -(-reference_frames // step)
    budget = cost.full(low * step)

    def fits(steps: int) -> bool:
        return cost.compressed(steps * step, retention, candidates, full_layers) <= budget

    high = 2 * low
    while fits(high):
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return low * step


@dataclass(frozen=True)
class Speed:
    """What a measurement says about a machine, beside the FLOPs.

    flops_per_second: of a full prefill. floor_seconds: what one forward takes however few tokens it has (reading the
    weights, starting kernels), once for a batch. fixed_seconds, token_seconds: selection, scoring and gathering of one
    video, and of each of its N tokens.
    """

    flops_per_second: float
    floor_seconds: float = 0.0
    fixed_seconds: float = 0.0
    token_seconds: float = 0.0

    def seconds(self, flops: int) -> float:
        """Of one forward."""
        return max(self.floor_seconds, flops / self.flops_per_second)

    def overhead(self, tokens: int) -> float:
        """Of compressing one video."""
        return self.fixed_seconds + self.token_seconds * tokens


def pays(cost: ModelCost, speed: Speed, frames: int, retention: float, candidates: float, *, batch: int = 1) -> bool:
    """Whether compression saves time: the decoder's, for a batch of videos, against what compressing them takes."""
    full = batch * cost.prefill([cost.tokens(frames)] * cost.decoder.layers)
    compressed = batch * cost.prefill(cost.layer_tokens(frames, retention, candidates))
    return speed.seconds(full) - speed.seconds(compressed) > batch * speed.overhead(cost.tokens(frames))


def break_even(
    cost: ModelCost, speed: Speed, retention: float, candidates: float, *, batch: int = 1, most: int = 4096
) -> int | None:
    """The fewest frames at which compression pays; None if it does not up to `most` frames.

    The saving grows at least as fast as the tokens, and the overhead as fast, so that it pays from there on.
    """
    step = max(cost.step_frames, cost.vision.frames)
    low, high = 0, most // step
    if not pays(cost, speed, high * step, retention, candidates, batch=batch):
        return None
    while high - low > 1:
        middle = (low + high) // 2
        reached = pays(cost, speed, middle * step, retention, candidates, batch=batch)
        low, high = (low, middle) if reached else (middle, high)
    return high * step


def break_even_retention(
    cost: ModelCost, speed: Speed, frames: int, candidates: float, *, batch: int = 1, steps: int = 100
) -> float | None:
    """The largest retention, in `steps` from 0 to 1, at which compression pays; None if none does.

    candidates: the share that enters; where the retention is above it, as many enter as stay.
    """
    for kept in range(steps - 1, 0, -1):
        share = kept / steps
        if pays(cost, speed, frames, share, max(candidates, share), batch=batch):
            return share
    return None
