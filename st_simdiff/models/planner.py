"""The retention for a budget: bytes of keys and values, or seconds up to the first token."""

from __future__ import annotations

from collections.abc import Callable

from st_simdiff.checks import check_range, check_whole
from st_simdiff.errors import InputError
from st_simdiff.models.flops import ModelCost, Speed
from st_simdiff.selection.budget import ModelShape


def retention_for_kv_bytes(
    shape: ModelShape, tokens: int, kv_bytes: int, *, entering: float = 0.0, full_layers: int = 2
) -> float:
    """The largest retention whose keys and values of one video fit into `kv_bytes`, met to the token.

    shape: the decoder's (`model_shape`). tokens: N of the video. entering: the share of them that the first
    `full_layers` layers hold, where a method prunes inside the decoder; 0 for one that acts at the input alone. It is
    taken as fixed: where it falls with the retention, give what it is at the retention that is found, or more.
    Raises `InputError` if one token does not fit, and for an argument out of range.
    """
    check_whole("kv_bytes", kv_bytes, 1, "the bytes of keys and values")
    check_whole("tokens", tokens, 1, "the number of the video's visual tokens")
    _check_layers(entering, full_layers)

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
    for `retention_for_kv_bytes`. Raises `InputError` if a single token takes longer, and for an argument out of range.
    """
    check_whole("frames", frames, 1, "the number of the video's frames")
    check_range("seconds", seconds, 0, float("inf"), "the time up to the first token")
    _check_layers(entering, full_layers)
    tokens = cost.tokens(frames)

    def fits(kept: int) -> bool:
        share = kept / tokens
        flops = cost.compressed(frames, share, min(1.0, max(share, entering)), full_layers)
        return speed.seconds(flops) + speed.overhead(tokens) <= seconds

    return _largest(tokens, fits, f"{seconds} s for {frames} frames")


def _check_layers(entering: float, full_layers: int) -> None:
    check_range("entering", entering, 0, 1, "the share of the tokens that the first layers hold")
    check_whole("full_layers", full_layers, 0, "the number of the first layers that hold them")


def _largest(tokens: int, fits: Callable[[int], bool], budget: str) -> float:
    """k / N for the most tokens k that fit; what fits with k fits with fewer."""
    if not fits(1):
        raise InputError(f"Not even one of the video's {tokens} tokens fits into {budget}.")
    low, high = 1, tokens + 1
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return low / tokens
