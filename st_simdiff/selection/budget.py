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
class ModelShape:
    """The sizes of a decoder that its cost depends on."""

    layers: int
    hidden: int
    intermediate: int
    heads: int
    kv_heads: int
    head_dim: int
    kv_itemsize: int = 2

    def layer_flops(self, tokens: int) -> int:
        """FLOPs of one decoder layer's prefill over `tokens` positions (a multiply-add is two; causal attention)."""
        projections = self.hidden * self.head_dim * (2 * self.heads + 2 * self.kv_heads)
        mlp = 3 * self.hidden * self.intermediate
        attention = tokens * (tokens + 1) // 2 * 2 * self.heads * self.head_dim
        return 2 * (tokens * (projections + mlp) + attention)

    def kv_bytes(self, tokens_per_layer: Sequence[int]) -> int:
        """Bytes of keys and values, given how many positions each layer stores."""
        return sum(tokens_per_layer) * 2 * self.kv_heads * self.head_dim * self.kv_itemsize


def layer_averaged_share(tokens_per_layer: Sequence[int], count: int) -> float:
    """Mean over the layers of (tokens processed / N): FrameFusion's `cost`, here from the model's real layers."""
    return sum(tokens_per_layer) / (len(tokens_per_layer) * count)
