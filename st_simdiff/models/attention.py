"""The last query's attention, from the model's own attention module and in O(N).

The module runs again for the last position alone, against the keys it has just computed, with an attention function
that returns the softmax itself. Norms, rotary embedding and biases are therefore the module's own.
"""

from __future__ import annotations

from typing import Any

import torch

from st_simdiff.models.transformers_api import (
    TransformersModule,
    attending_by,
    cache_of,
    register_attention,
    takes,
    unknown_version,
    with_cache,
)

_LAST_QUERY = "st_simdiff_last_query"
_LAST_TOKEN = "st_simdiff_last_token"


class KeyTap:
    """Stands between an attention module and its cache (which may be None) and remembers keys and values.

    Latent attention puts latents in their place, and works both out again from them.
    """

    def __init__(self, cache: Any) -> None:
        self.cache = cache
        self.keys: torch.Tensor | None = None
        self.values: torch.Tensor | None = None

    def update(self, keys: torch.Tensor, values: torch.Tensor, *args: Any, **kwargs: Any) -> tuple:
        if self.cache is not None:
            keys, values = self.cache.update(keys, values, *args, **kwargs)
        self.keys, self.values = keys, values
        return keys, values

    def __getattr__(self, name: str) -> Any:
        return getattr(self.cache, name)


class _Keys(KeyTap):
    """Answers every update with keys and values that are there already."""

    def __init__(self, keys: torch.Tensor, values: torch.Tensor) -> None:
        super().__init__(None)
        self.keys, self.values = keys, values

    def update(self, *_args: Any, **_kwargs: Any) -> tuple:
        return self.keys, self.values


def _softmax_only(
    module: TransformersModule,  # noqa: ARG001
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    **_kwargs: Any,
) -> tuple[torch.Tensor, torch.Tensor]:
    """softmax(q k^T) in float32 for one query, averaged over heads: (B, K). The output is not computed."""
    batch, heads, _, dim = query.shape
    groups = query.view(batch, key.shape[1], -1, dim).float()
    logits = groups @ key.transpose(-1, -2).float() * (dim**-0.5 if scaling is None else scaling)
    if attention_mask is not None:
        logits = logits.masked_fill(~attention_mask[:, None, None, :], float("-inf"))
    weights = logits.softmax(-1).flatten(1, 2).mean(1)
    return query.new_zeros(batch, 1, heads, value.shape[-1]), weights


def _softmax_of_last(
    module: TransformersModule,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,  # noqa: ARG001
    scaling: float | None = None,
    **_kwargs: Any,
) -> tuple[torch.Tensor, torch.Tensor]:
    """`_softmax_only` of the last of several queries, to all keys."""
    _, weights = _softmax_only(module, query[:, :, -1:], key, value, None, scaling)
    batch, heads, length, _ = query.shape
    return query.new_zeros(batch, length, heads, value.shape[-1]), weights


register_attention(_LAST_QUERY, _softmax_only)
register_attention(_LAST_TOKEN, _softmax_of_last)


def last_query_attention(
    module: TransformersModule, call: dict[str, Any], valid: torch.Tensor | None, query: int = 1
) -> torch.Tensor:
    """Attention of the last query to the keys up to its own, mean over heads, float32 (B, K - query + 1).

    module: an attention module. call: the keyword arguments it was called with, its cache a `KeyTap` that has the keys,
    (B, H_kv, K, d), past included. valid: bool (B, K), False where a key is padding; None if none is. query: which
    position is the last query, counted from the end: 1 is the very last.
    """
    tap = cache_of(call)
    keys, values = tap.keys, tap.values
    if keys is None:
        raise unknown_version(f"{type(module).__name__} did not pass its keys to the cache")
    own = call["hidden_states"].shape[1] - query
    until = keys.shape[-2] - query + 1
    # forward, not the module: hooks belong to the layer's own call
    forward = attending_by(_LAST_QUERY, module)
    last = call | {
        "hidden_states": call["hidden_states"][:, own : own + 1],
        "position_embeddings": tuple(part[..., own : own + 1, :] for part in call["position_embeddings"]),
        "attention_mask": None if valid is None else valid[:, :until],
    }
    if "shared_kv_states" in call:  # what a layer stores for later ones
        last["shared_kv_states"] = dict(call["shared_kv_states"])
    _, weights = forward(**with_cache(forward, last, _Keys(keys[..., :until, :], values[..., :until, :])))
    return weights


def last_token_attention(
    layer: TransformersModule, hidden: torch.Tensor, rotary: tuple[torch.Tensor, torch.Tensor]
) -> torch.Tensor:
    """Attention of the last of some tokens to all of them in a decoder layer, mean over heads, float32 (n,).

    Nothing but these tokens has a part in it. layer: one that has not run yet. hidden: (n, D), what would enter it.
    rotary: cosines and sines of the n positions, (..., 1, n, d).
    """
    norms_before = hasattr(layer, "input_layernorm")
    if not norms_before and not hasattr(layer, "post_feedforward_layernorm"):  # that is, it norms what comes out
        raise unknown_version(f"{type(layer).__name__} has no input_layernorm")
    forward = attending_by(_LAST_TOKEN, layer.self_attn)
    device = next(layer.self_attn.parameters()).device
    entering = hidden.to(device)[None]
    _, weights = forward(
        hidden_states=layer.input_layernorm(entering) if norms_before else entering,
        position_embeddings=tuple(part.to(device) for part in rotary),
        attention_mask=None,
        **({"shared_kv_states": {}} if takes(layer.self_attn, "shared_kv_states") else {}),
    )
    return weights[0].to(hidden.device)


def rotary_at(
    rotary: tuple[torch.Tensor, torch.Tensor], row: int, where: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Cosines and sines (..., B or 1, L, d) of some positions of one row: (..., 1, n, d). where: int64 (n,)."""

    def at(part: torch.Tensor) -> torch.Tensor:
        own = part[..., min(row, part.shape[-3] - 1), :, :].unsqueeze(-3)
        return own.index_select(-2, where.to(part.device))

    cosines, sines = rotary
    return at(cosines), at(sines)
