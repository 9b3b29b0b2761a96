"""The retention for a budget: bytes of keys and values, or seconds up to the first token."""

from __future__ import annotations

from collections.abc import Callable

from st_simdiff.errors import InputError
from st_simdiff.models.flops import ModelCost, Speed
from st_simdiff.selection.budget import ModelShape


def retention_for_kv_bytes(
    shape: ModelShape, tokens: int, kv_bytes: int, *, entering: float = 0.0, full_layers: int = 2
) -> float:
    """The largest retention whose keys and values of one video fit into `kv_bytes`, met to the token.

    shape: the decoder's (`model_shape`). tokens: N of the video. entering: the share of them that the first
    `full_layers` layers hold, where a method prunes inside the decoder; 0 for one that acts at the input alone.
    Raises `InputError` if one token does not fit.
    """

    def fits(kept: int) -> bool:
        held = max(kept, min(tokens, round(entering * tokens)))
        first = min(full_layers, shape.layers)
        return shape.kv_bytes([held] * first + [kept] * (shape.layers - first)) <= kv_bytes

    return _largest(tokens, fits, f"{kv_bytes} bytes of keys and values")


def retention_for_seconds(
    cost: ModelCost, speed: Speed, frames: int, seconds: float, *, entering: float = 0.0, full_layers: int = 2
) -> float:
    """The largest retention at which one question is at its first token within `seconds`, by a measured speed.

    cost: the model's (`model_cost`). speed: the machine's, as `st-simdiff bench` measures it. entering, full_layers: as
    for `retention_for_kv_bytes`. Raises `InputError` if a single token takes longer.
    """
    tokens = cost.tokens(frames)

    def fits(kept: int) -> bool:
        share = kept / tokens
        flops = cost.compressed(frames, share, min(1.0, max(share, entering)), full_layers)
        return speed.seconds(flops) + speed.overhead(tokens) <= seconds

    return _largest(tokens, fits, f"{seconds} s for {frames} frames")


def _largest(tokens: int, fits: Callable[[int], bool], budget: str) -> float:
    """k / N for the most tokens k that fit; what fits with k fits with fewer."""
    if tokens < 1:
        raise InputError(f"A video has at least one visual token, got {tokens}.")
    if not fits(1):
        raise InputError(f"Not even one of the video's {tokens} tokens fits into {budget}.")
    low, high = 1, tokens + 1
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return low / tokens
