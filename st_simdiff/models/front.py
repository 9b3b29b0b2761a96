"""What a call asks for is looked at before anything is computed: the vision tower may take seconds."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from st_simdiff.errors import InputError
from st_simdiff.models.cache import check_cache, is_pruned
from st_simdiff.models.families.base import Compression, Family
from st_simdiff.models.families.encoder_call import EncoderCall
from st_simdiff.models.loss import Labels
from st_simdiff.models.masks import check_mask
from st_simdiff.models.resume import check_first, chooses_anew
from st_simdiff.models.transformers_api import (
    TransformersModule,
    cache_of,
    check_not_assisted,
    decoder_layers,
    named_arguments,
)

_CACHES = frozenset({None, "dynamic", "hybrid"})
"""Values of `cache_implementation` that mean a `DynamicCache` for a decoder with full attention."""


class Front:
    """Refuses calls of `model` and of its `generate` that compression cannot serve: with a video, or behind one.

    active: what compresses the prompts of this thread, or None. Stays until `remove`.
    """

    def __init__(self, model: TransformersModule, family: Family, active: Callable[[], Compression | None]) -> None:
        self._model, self._family, self._active = model, family, active
        self._layers = len(decoder_layers(family.text_model(model)))
        self._handles: list[Any] = [model.register_forward_pre_hook(self._enter_forward, with_kwargs=True)]
        if hasattr(model, "generate"):
            self._handles.append(EncoderCall(model, "generate", self._enter_generate))

    def remove(self) -> None:
        while self._handles:
            self._handles.pop().remove()

    def _enter_forward(self, module: TransformersModule, args: tuple, kwargs: dict[str, Any]) -> None:
        self._check(named_arguments(type(module).forward, args, kwargs))

    def _enter_generate(self, given: dict[str, Any]) -> None:
        arguments = {**given.pop("kwargs", {}), **given}
        settings = arguments.get("generation_config") or getattr(self._model, "generation_config", None)
        self._check(arguments, lambda name: _or_else(arguments.get(name), getattr(settings, name, None)))

    def _check(self, arguments: Mapping[str, Any], setting: Callable[[str], Any] | None = None) -> None:
        past, brings_video = cache_of(arguments), self._family.brings_video(arguments)
        if not brings_video and (setting is None or not is_pruned(past)):
            return
        compression = self._active()
        if compression is None:
            return
        if not brings_video:
            assert setting is not None
            check_not_assisted(setting)
            compression.family.check_behind(arguments, past.get_seq_length())
            if compression.share_prefix and chooses_anew(past, compression.method):
                check_not_chunked(setting("prefill_chunk_size"))
            return
        check_cache(past)
        if compression.share_prefix and past is not None:
            check_first(past.get_seq_length())
        mask, labels = arguments.get("attention_mask"), arguments.get("labels")
        check_mask(mask)
        if labels is not None:
            if not _is_zero(arguments.get("logits_to_keep")):
                raise InputError("A loss needs the logits of every position: leave out logits_to_keep.")
            if compression.method.layers(self._layers):
                Labels(labels).answer_length(mask)
        if setting is not None:
            check_generation(setting)
        compression.family.check_prompt(self._model, arguments)


def check_generation(setting: Callable[[str], Any]) -> None:
    """Raises `InputError` for a way of generating that compression cannot serve. setting: the value of one by name."""
    cache, chunk, penalty = (setting(name) for name in ("cache_implementation", "prefill_chunk_size", "penalty_alpha"))
    if cache == "paged":
        raise InputError("Continuous batching takes token ids alone, and no video: leave out cache_implementation.")
    if cache not in _CACHES:
        raise InputError(f"Compression works with a DynamicCache or with no cache, got cache_implementation={cache!r}.")
    check_not_chunked(chunk)
    if penalty:
        raise InputError(
            "Contrastive search compares with the hidden states of the whole prompt, which compression takes tokens "
            f"out of: leave out penalty_alpha, got {penalty!r}."
        )


def check_not_chunked(chunk: Any) -> None:
    """Raises `InputError` for a prompt, or another question behind a cache, that is to come in chunks."""
    if chunk is not None:
        raise InputError(f"Compression needs the whole prompt at once, got prefill_chunk_size={chunk!r}.")


def _is_zero(count: Any) -> bool:
    return count is None or (isinstance(count, int) and count == 0)


def _or_else(value: Any, default: Any) -> Any:
    return default if value is None else value
