"""Every internal name of transformers that hooks and loaders touch, under one meaning for all versions.

The cache of keys and values is called `past_key_values` up to transformers 5.23 and `cache` from 5.24 on. Names that
are not known end in one sentence with the installed version (`unknown_version`), never in a wrong answer: there is no
upper bound on the version, `check_decoder` looks at the signatures when hooks are attached, and every prefill is
checked against its account (`ForwardPass.leave`).
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from inspect import signature
from typing import Any, TypeAlias

import torch
import transformers
from torch import nn
from transformers import AttentionInterface, cache_utils
from transformers.cache_utils import (
    Cache,
    DynamicCache,
    DynamicLayer,
    DynamicSlidingWindowLayer,
    LinearAttentionLayer,
)
from transformers.masking_utils import create_causal_mask

from st_simdiff.errors import InputError

__all__ = ["Cache", "DynamicCache", "DynamicLayer", "DynamicSlidingWindowLayer", "LinearAttentionLayer"]

TESTED = "5.17 to 5.24"

TransformersModule: TypeAlias = Any
"""An `nn.Module` of transformers. Its attributes are known to transformers alone: for type checkers, torch makes every
attribute of a module a tensor or a module."""

_CACHE_NAMES = ("cache", "past_key_values")
_LAYER_ARGUMENTS = frozenset({"hidden_states", "attention_mask", "position_ids", "position_embeddings"})
_ATTENTION_ARGUMENTS = frozenset({"hidden_states", "attention_mask", "position_embeddings"})
_DECODER_ARGUMENTS = frozenset({"inputs_embeds", "attention_mask", "position_ids"})
_MASK_ARGUMENTS = frozenset({"config", "inputs_embeds", "attention_mask", "layer_idx"})


def unknown_version(what: str) -> InputError:
    """The error for something that transformers does in another way than the hooks know."""
    return InputError(
        f"Compression does not know how transformers {transformers.__version__} runs this model (tested: {TESTED}): "
        f"{what}."
    )


# --- the cache ---


def cache_of(arguments: Mapping[str, Any]) -> Any:
    """The cache among the keyword arguments of a forward, or None."""
    return next((arguments[name] for name in _CACHE_NAMES if arguments.get(name) is not None), None)


def check_not_assisted(setting: Callable[[str], Any]) -> None:
    """Raises `InputError` for assisted generation behind a cache. setting: the value of an argument of `generate`.

    Up to 5.24 it gives the decoder all of the prompt, also what the cache holds.
    """
    for name in ("assistant_model", "prompt_lookup_num_tokens", "assistant_early_exit"):
        if setting(name) is not None:
            raise InputError(
                "Assisted generation of transformers computes what a cache holds once more, and answers wrongly: leave "
                f"out {name} behind a cache."
            )


def begins(cache: Any) -> bool:
    """Whether a forward that is given `cache` is the first of its prompts.

    False for the paged cache of continuous batching, in which many prompts are at different points.
    """
    if cache is None:
        return True
    return hasattr(cache, "get_seq_length") and cache.get_seq_length() == 0


def with_cache(function: Callable[..., Any], arguments: Mapping[str, Any], cache: Any) -> dict[str, Any]:
    """The keyword arguments with `cache` under the name by which `function` takes it.

    Raises `InputError` if it takes none.
    """
    name = next((name for name in _CACHE_NAMES if name in _parameters(function)), None)
    if name is None:
        raise unknown_version(f"{function.__qualname__} takes no {' or '.join(_CACHE_NAMES)}")
    return {key: value for key, value in arguments.items() if key not in _CACHE_NAMES} | {name: cache}


def cache_in(output: Any) -> Cache | None:
    """The cache in the output of a model, whatever its name, or None."""
    values = output.values() if isinstance(output, Mapping) else output if isinstance(output, tuple) else ()
    return next((value for value in values if isinstance(value, Cache)), None)


def holds_keys(layer: Any) -> bool:
    """Whether a layer of a cache stores keys of its own: linear layers and those that use another's do not."""
    return not isinstance(layer, (LinearAttentionLayer, getattr(cache_utils, "DummyLayer", LinearAttentionLayer)))


# --- masks and attention ---


def causal_mask(config: Any, embeds: torch.Tensor, valid: torch.Tensor | None, cache: Cache | None, layer: int) -> Any:
    """The mask of decoder layer `layer` in the form of its attention implementation, None where that needs none.

    embeds: (B, L, D), the new positions. valid: bool (B, past + L), False where a key is padding; None if none is.
    """
    arguments = {"config": config, "inputs_embeds": embeds, "attention_mask": valid, "layer_idx": layer}
    return create_causal_mask(**with_cache(create_causal_mask, arguments, cache))


def mask_for(config: Any, visible: torch.Tensor, embeds: torch.Tensor) -> torch.Tensor:
    """A mask that is ready, bool (B, 1, Q, K), in the form of the attention implementation.

    Raises `InputError` for an implementation that takes none.
    """
    implementation = config._attn_implementation
    if implementation not in ("sdpa", "eager"):
        raise InputError(
            f"Sliding windows under compression need attn_implementation 'sdpa' or 'eager', got {implementation!r}, "
            "which counts the window in the tokens that are left."
        )
    visible = visible.to(embeds.device)
    if implementation == "sdpa":
        return visible
    least = torch.finfo(embeds.dtype).min
    return torch.zeros_like(visible, dtype=embeds.dtype).masked_fill(~visible, least)


def register_attention(name: str, function: Callable[..., Any]) -> None:
    """Makes `function` an attention implementation, for `attending_by`."""
    AttentionInterface.register(name, function)


def attending_by(name: str, attention: TransformersModule) -> Callable[..., Any]:
    """The forward of an attention module, with another attention implementation.

    It is that of a copy which shares the weights: the module itself and its config are in use by other calls.
    """
    other = copy.copy(attention)
    other.config = copy.copy(attention.config)
    other.config._attn_implementation = name
    # the class's forward: one that accelerate has put on the object would run the module itself
    return type(attention).forward.__get__(other)


def takes(module: TransformersModule, argument: str) -> bool:
    """Whether the module's forward has the argument."""
    return argument in _parameters(type(module).forward)


def has_rotary_kinds(text_model: TransformersModule) -> bool:
    """Whether the rotary embedding differs between kinds of layers."""
    return takes(text_model.rotary_emb, "layer_type")


def rotary_of(text_model: TransformersModule, hidden: torch.Tensor, positions: torch.Tensor, kind: str) -> Any:
    """Cosines and sines of the decoder for layers of `kind`."""
    options = {"layer_type": kind} if has_rotary_kinds(text_model) else {}
    if positions.dim() == 2 and hasattr(text_model.rotary_emb, "mrope_section"):  # text alone: all axes are the same
        positions = positions.expand(3, *positions.shape)
    return text_model.rotary_emb(hidden, positions, **options)


def decoder_layers(text_model: TransformersModule) -> list[nn.Module]:
    """The layers that the decoder runs."""
    return list(text_model.layers[: text_model.config.num_hidden_layers])


# --- what must be as the hooks expect it ---


def check_decoder(text_model: TransformersModule, extra: Iterable[str] = ()) -> None:
    """Looks at the signatures of the decoder, its layers and their attention; once for each class.

    extra: what else the decoder must take. Raises `InputError`, naming the version, where something is missing.
    """
    _check(create_causal_mask, _MASK_ARGUMENTS)
    _check(type(text_model).forward, _DECODER_ARGUMENTS.union(extra))
    layers = _parts(text_model, "layers")
    _parts(text_model, "rotary_emb")
    for kind in {type(layer) for layer in layers}:
        _check(kind.forward, _LAYER_ARGUMENTS)
    for kind in {type(layer.self_attn) for layer in layers if hasattr(layer, "self_attn")}:
        _check(kind.forward, _ATTENTION_ARGUMENTS)


def check_gathered(arguments: Mapping[str, Any], shape: torch.Size, followed: Iterable[str] = ()) -> None:
    """Raises `InputError` if the decoder is given something for each of its (B, L) positions that hooks do not know.

    Tokens could be taken out of the sequence, but not out of that. followed: what hooks know beside the usual.
    """
    names = _DECODER_ARGUMENTS.union(_CACHE_NAMES, followed)
    for name, value in arguments.items():
        known = name in names
        if not known and isinstance(value, torch.Tensor) and value.shape[:2] == shape:
            raise unknown_version(f"the decoder is given {name}, one entry for each token")


def layer_inputs(
    layer: TransformersModule, args: tuple, arguments: Mapping[str, Any]
) -> tuple[torch.Tensor, tuple, torch.Tensor | None]:
    """Hidden states (B, L, D) and rotary embedding that a decoder layer is called with, and its own input (B, L, d).

    The last, None in most models, comes second (Gemma 4, whose embeddings have a part for every layer).
    """
    hidden = args[0] if args else arguments.get("hidden_states")
    rotary = arguments.get("position_embeddings")
    own = args[1] if len(args) > 1 else None
    known = len(args) < 2 or (len(args) == 2 and takes(layer, "per_layer_input"))
    if not known or hidden is None or rotary is None:
        raise unknown_version(f"{type(layer).__name__} is called with other arguments")
    return hidden, rotary, own


def named_arguments(function: Callable[..., Any], args: tuple, kwargs: Mapping[str, Any]) -> Mapping[str, Any]:
    """The arguments that a method of a module is called with, positional ones by their names."""
    return {**dict(zip(_positional(function), args, strict=False)), **kwargs} if args else kwargs


def _parts(module: TransformersModule, name: str) -> Any:
    if not hasattr(module, name):
        raise unknown_version(f"{type(module).__name__} has no {name}")
    return getattr(module, name)


def _check(function: Callable[..., Any], names: frozenset[str]) -> None:
    known = _parameters(function)
    missing = sorted(names - known) + ([] if known.intersection(_CACHE_NAMES) else ["cache"])
    if missing:
        raise unknown_version(f"{function.__qualname__} does not take {', '.join(missing)}")


def _parameters(function: Callable[..., Any]) -> frozenset[str]:
    return _parameters_of(getattr(function, "__func__", function))


@lru_cache(maxsize=256)
def _positional(function: Callable[..., Any]) -> tuple[str, ...]:
    """Names of the arguments behind self."""
    return tuple(signature(function).parameters)[1:]


@lru_cache(maxsize=256)
def _parameters_of(function: Callable[..., Any]) -> frozenset[str]:
    return frozenset(signature(function).parameters)
