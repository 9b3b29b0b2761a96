"""What a budget means: how many tokens, how much compute, how many bytes of KV cache."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

from st_simdiff.errors import InputError


def retention_fraction(retention: float | Fraction) -> Fraction:
    """The retention as the decimal that was written, to 12 digits: 0.55 is 55/100, and 0.1 + 0.2 is 3/10."""
    return Fraction(str(retention)).limit_denominator(10**12)


def target_count(retention: float | Fraction, count: int) -> int:
    """ceil(r N), Section 4.5 of the paper. ceil(0.55 * 100) is 55, though 0.55 * 100 > 55 in floating point."""
    return max(1, math.ceil(retention_fraction(retention) * count))


def compute_target(retention: float | Fraction, count: int, entering: int, full_layers: int, num_layers: int) -> int:
    """How many tokens may go on behind `full_layers` layers that process `entering` of N = `count` tokens each.

    The layer-averaged share of tokens is r then: full entering + (L - full) kept = r L N, solved for kept and rounded
    up, at least 1, at most `entering`. Raises `InputError` when no layer is left behind the full ones.
    """
    left = num_layers - full_layers
    if left < 1:
        raise InputError(
            f"A layer-averaged budget needs a layer behind the pruning, and {full_layers} of {num_layers} layers run "
            "before it."
        )
    share = retention_fraction(retention) * num_layers * count - full_layers * entering
    return min(entering, max(1, math.ceil(share / left)))


@dataclass(frozen=True)
class LayerShape:
    """The sizes of one decoder layer that its cost depends on.

    weights: of the matrices that every token goes through; of experts, as many as a token is sent to. pair:
    multiply-adds of one query-key pair, all heads. window: how many positions a token sees, itself included; None for
    all before it. stored: numbers that the cache keeps of a token; 0 in a layer that has a state, or uses the keys of
    another.
    """

    weights: int
    pair: int
    window: int | None
    stored: int

    def flops(self, tokens: int) -> int:
        """Of a prefill over `tokens` positions (a multiply-add is two; causal attention)."""
        seen = tokens if self.window is None else min(tokens, self.window)
        pairs = seen * (seen + 1) // 2 + (tokens - seen) * seen
        return 2 * (tokens * self.weights + pairs * self.pair)

    def kept(self, tokens: int) -> int:
        """Numbers that the cache keeps of so many positions: of a window, those that the next token will see."""
        return self.stored * (tokens if self.window is None else min(tokens, self.window - 1))


@dataclass(frozen=True)
class ModelShape:
    """The sizes of a decoder that its cost depends on.

    each: those of every layer, where layers differ, or have experts, windows, a state or latents; empty where all are
    full attention and a gated MLP.
    """

    layers: int
    hidden: int
    intermediate: int
    heads: int
    kv_heads: int
    head_dim: int
    kv_itemsize: int = 2
    each: tuple[LayerShape, ...] = ()

    def layer(self, index: int) -> LayerShape:
        """The sizes of decoder layer `index`."""
        if self.each:
            return self.each[index]
        projections = self.hidden * self.head_dim * (2 * self.heads + 2 * self.kv_heads)
        return LayerShape(
            weights=projections + 3 * self.hidden * self.intermediate,
            pair=2 * self.heads * self.head_dim,
            window=None,
            stored=2 * self.kv_heads * self.head_dim,
        )

    def prefill_flops(self, tokens_per_layer: Sequence[int]) -> int:
        """FLOPs of the layers, given how many positions each of them processes."""
        costs: dict[tuple[LayerShape, int], int] = {}
        total = 0
        for index, tokens in enumerate(tokens_per_layer):
            layer = self.layer(index)
            if (layer, tokens) not in costs:
                costs[layer, tokens] = layer.flops(tokens)
            total += costs[layer, tokens]
        return total

    def kv_bytes(self, tokens_per_layer: Sequence[int]) -> int:
        """Bytes of keys and values, given how many positions each layer has seen."""
        kept = sum(self.layer(index).kept(tokens) for index, tokens in enumerate(tokens_per_layer))
        return kept * self.kv_itemsize


def layer_averaged_share(tokens_per_layer: Sequence[int], count: int) -> float:
    """Mean over the layers of (tokens processed / N): FrameFusion's `cost`, here from the model's real layers."""
    return sum(tokens_per_layer) / (len(tokens_per_layer) * count)
