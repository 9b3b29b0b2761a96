"""The entries of a checkpoint's config files, checked as data: types and ranges, before anything is made of them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

DEEPEST = 20
"""Objects within objects."""

_USUAL_ACTIVATIONS = frozenset({"silu", "gelu", "gelu_pytorch_tanh", "quick_gelu"})
"""Known without importing what transformers has, which takes seconds."""


class Rule(Protocol):
    """What a value may be, in words by `str`."""

    def allows(self, value: Any) -> bool: ...


@dataclass(frozen=True)
class Whole:
    """A whole number."""

    low: int
    high: int

    def allows(self, value: Any) -> bool:
        return isinstance(value, int) and not isinstance(value, bool) and self.low <= value <= self.high

    def __str__(self) -> str:
        return f"a whole number from {self.low} to {self.high}"


@dataclass(frozen=True)
class Real:
    """A number; `above` is not among them, unless `least` is given."""

    above: float | None
    high: float
    least: float | None = None

    def allows(self, value: Any) -> bool:
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            return False
        return (value >= self.least if self.above is None else value > self.above) and value <= self.high

    def __str__(self) -> str:
        low = f"from {self.least:g}" if self.above is None else f"above {self.above:g}"
        return f"a number {low}, at most {self.high:g}"


@dataclass(frozen=True)
class Flag:
    """true or false."""

    def allows(self, value: Any) -> bool:
        return isinstance(value, bool)

    def __str__(self) -> str:
        return "true or false"


@dataclass(frozen=True)
class Activation:
    """The name of one of transformers' activation functions."""

    def allows(self, value: Any) -> bool:
        return isinstance(value, str) and (value in _USUAL_ACTIVATIONS or _is_activation(value))

    def __str__(self) -> str:
        return "the name of an activation function, such as silu or gelu_pytorch_tanh"


def _is_activation(name: str) -> bool:
    from transformers.activations import ACT2FN

    return name in ACT2FN


@dataclass(frozen=True)
class Side:
    """A size in pixels: one number, or height and width."""

    high: int

    def allows(self, value: Any) -> bool:
        sides = value if isinstance(value, list) and len(value) == 2 else [value]
        return all(Whole(1, self.high).allows(side) for side in sides)

    def __str__(self) -> str:
        return f"a whole number from 1 to {self.high}, or two of them"


@dataclass(frozen=True)
class TokenIds:
    """The id of a token, or a list of them."""

    def allows(self, value: Any) -> bool:
        ids = value if isinstance(value, list) else [value]
        return all(Whole(-1, 2**24).allows(one) for one in ids)

    def __str__(self) -> str:
        return "the id of a token, or a list of them"


@dataclass(frozen=True)
class Names:
    """A list of texts."""

    def allows(self, value: Any) -> bool:
        return isinstance(value, list) and all(isinstance(one, str) for one in value)

    def __str__(self) -> str:
        return "a list of names"


@dataclass(frozen=True)
class Text:
    """A text."""

    def allows(self, value: Any) -> bool:
        return isinstance(value, str)

    def __str__(self) -> str:
        return "a text"


_LAYERS, _WIDTH, _HEADS = Whole(1, 1024), Whole(1, 2**20), Whole(1, 4096)
_PART = Whole(1, 4096)
_EPSILON, _SHARE = Real(0, 1), Real(None, 1, least=0)

RULES: dict[str, Rule] = {
    **dict.fromkeys(("num_hidden_layers", "depth"), _LAYERS),
    **dict.fromkeys(("hidden_size", "intermediate_size", "embed_dim", "out_hidden_size", "mm_hidden_size"), _WIDTH),
    **dict.fromkeys(("num_attention_heads", "num_key_value_heads", "num_heads"), _HEADS),
    **dict.fromkeys(("head_dim", "window_size", "num_video_frames", "spatial_merge_size"), _PART),
    **dict.fromkeys(("temporal_patch_size", "num_channels", "in_channels", "in_chans"), _PART),
    "vocab_size": Whole(1, 2**24),
    "max_position_embeddings": Whole(1, 2**28),
    "num_position_embeddings": Whole(1, 2**24),
    "image_size": Side(2**14),
    "patch_size": Side(2**12),
    **dict.fromkeys(("rms_norm_eps", "layer_norm_eps"), _EPSILON),
    "rope_theta": Real(0, 1e15),
    "factor": Real(0, 1e6),
    "initializer_range": Real(None, 1e3, least=0),
    "attention_dropout": _SHARE,
    **dict.fromkeys(("tie_word_embeddings", "use_sliding_window", "mm_use_im_start_end"), Flag()),
    "hidden_act": Activation(),
    **dict.fromkeys(("model_type", "tokenizer_class", "processor_class", "mm_projector_type"), Text()),
    **dict.fromkeys(("mm_newline_position", "mm_spatial_pool_mode", "mm_vision_tower"), Text()),
    "architectures": Names(),
    **dict.fromkeys(("bos_token_id", "eos_token_id", "pad_token_id"), TokenIds()),
    **dict.fromkeys(("num_beams", "max_new_tokens"), Whole(1, 2**28)),
    **dict.fromkeys(("do_sample", "use_cache"), Flag()),
    "temperature": Real(None, 1e3, least=0),
    "top_p": _SHARE,
    "top_k": Whole(0, 2**24),
    "repetition_penalty": Real(0, 100),
}
"""By the name of an entry, wherever in a config it stands."""

_MAY_BE_NULL = frozenset(
    {"head_dim", "architectures", "num_key_value_heads", "tie_word_embeddings", "use_sliding_window", "processor_class"}
    | {"bos_token_id", "eos_token_id", "pad_token_id", "num_beams", "max_new_tokens", "do_sample", "use_cache"}
    | {"temperature", "top_p", "top_k", "repetition_penalty", "mm_vision_tower"}
)
"""Entries whose null says the same as their absence."""


def check_entries(content: Mapping[str, Any], file: Path) -> None:
    """Raises ValueError, naming `file` and the entry, for a value that no checkpoint of a known model can have."""
    for place, key, value in _entries(content):
        rule = RULES.get(key)
        if rule is None or (value is None and key in _MAY_BE_NULL) or rule.allows(value):
            continue
        shown = repr(value)
        raise ValueError(f"{file}: {place} must be {rule}, got {shown if len(shown) < 100 else shown[:96] + ' ...'}.")
    for place, part in _objects(content):
        _check_heads(part, place, file)


def _check_heads(part: Mapping[str, Any], place: str, file: Path) -> None:
    """Attention heads share the hidden size, and groups of them a key."""
    hidden, heads = part.get("hidden_size"), part.get("num_attention_heads")
    if hidden is None or heads is None:
        return
    if part.get("head_dim") is None and hidden % heads:
        raise ValueError(f"{file}: {place}num_attention_heads must divide hidden_size, got {heads} and {hidden}.")
    keys = part.get("num_key_value_heads")
    if keys is not None and heads % keys:
        raise ValueError(f"{file}: {place}num_key_value_heads must divide num_attention_heads, got {keys} and {heads}.")


def _entries(content: Mapping[str, Any]) -> Iterator[tuple[str, str, Any]]:
    for place, part in _objects(content):
        for key, value in part.items():
            yield f"{place}{key}", key, value


def _objects(content: Mapping[str, Any], place: str = "", depth: int = 0) -> Iterator[tuple[str, Mapping[str, Any]]]:
    yield place, content
    if depth < DEEPEST:
        for key, value in content.items():
            if isinstance(value, Mapping):
                yield from _objects(value, f"{place}{key}.", depth + 1)
