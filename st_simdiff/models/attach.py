"""Compression on any supported transformers model, by torch hooks: no forward is replaced, subclassed or copied.

Only the method that encodes videos, where a family has one, is wrapped on the model object to note the videos' grids.

During a prefill the hooks take tokens out of the sequence: before the first decoder layer, and after the layers that
the method names. Kept tokens keep their position ids. What is left is packed to the right, row by row, and every layer
gets the rotary embedding and the mask of what it really sees. The cache then holds fewer positions than the sequence
has, and later forwards get masks to match. Where nothing is dropped nothing is touched.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import torch
from torch import nn

from st_simdiff.errors import InputError
from st_simdiff.methods.base import Method
from st_simdiff.models.attention import KeyTap, last_query_attention, last_token_attention
from st_simdiff.models.cache import is_pruned
from st_simdiff.models.clock import stage_of
from st_simdiff.models.costs import model_shape
from st_simdiff.models.deepstack import Deepstack
from st_simdiff.models.families import family_of
from st_simdiff.models.families.base import Family, ImagesAsFrames, VideoTokens
from st_simdiff.models.forward import ForwardPass
from st_simdiff.models.trace import Trace
from st_simdiff.models.transformers_api import (
    cache_in,
    cache_of,
    check_decoder,
    check_gathered,
    layer_inputs,
    layer_kinds,
    unknown_version,
    with_cache,
)


@contextmanager
def compress(model: nn.Module, method: Method, *, images_as_frames: ImagesAsFrames = False) -> Iterator[Trace]:
    """Compresses the videos of every prompt that `model` sees inside the block. Leaving it restores the model exactly.

    Yields the trace of the last prompt with videos. Every video has its own N and budget; images and text pass. A
    second turn on the returned cache keeps the first turn's pruning; continue it inside a block, which supplies the
    masks that a pruned cache needs. The query that ranks tokens is the prompt's last one: to score an answer, prefill
    the prompt alone and continue on its cache, or ask for the answer's logits only (`logits_to_keep`, the answer's
    length plus one, as assisted generation does for its drafts).
    images_as_frames: for InternVL, which sees a video as single images: True if all images of a row are the frames of
    one video, or the sizes of groups of consecutive images (a group of one is an image).
    Raises `InputError` for an unsupported model, or one that is compressed already.
    """
    attachment = Attachment(model, method, family_of(model, images_as_frames))
    try:
        yield attachment.trace
    finally:
        attachment.remove()


class Attachment:
    """The hooks of one method on one model, and the forward pass they are in."""

    def __init__(self, model: nn.Module, method: Method, family: Family) -> None:
        self.method = method
        self.head = family.head(model)
        self.text_model = family.text_model(model)
        self.shape = model_shape(self.text_model)
        self.trace = Trace()
        self.announced: list[list[VideoTokens]] | None = None
        self.forward: ForwardPass | None = None
        self.logits_to_keep = 1
        self.attention_call: dict[str, Any] | None = None
        self.handles: list[Any] = []
        _check_text_model(self.text_model, family)
        scored_layers = method.layers(self.shape.layers)
        try:
            self.handles += family.watch(model, self._announce, method.vision_inputs)
            self._hook(self.head, self._enter_head, before=True)
            self._hook(self.text_model, self._enter, before=True)
            self._hook(self.text_model, self._leave, before=False, always_call=True)
            adds_features = "deepstack_visual_embeds" in family.decoder_arguments
            for index, layer in enumerate(self.text_model.layers):
                scored = index in scored_layers
                self._watch_layer(index, layer, scored=scored, changed=scored or adds_features)
        except BaseException:
            self.remove()
            raise

    def remove(self) -> None:
        """Takes every hook off again."""
        while self.handles:
            self.handles.pop().remove()

    def _hook(self, module: nn.Module, hook: Any, *, before: bool, **options: Any) -> None:
        register = module.register_forward_pre_hook if before else module.register_forward_hook
        self.handles.append(register(hook, with_kwargs=True, **options))

    def _watch_layer(self, index: int, layer: nn.Module, *, scored: bool, changed: bool) -> None:
        """scored: whether the method acts after the layer. changed: whether its output may be another then."""

        def before_layer(_module: nn.Module, args: tuple, kwargs: dict) -> tuple[tuple, dict] | None:
            return self._enter_layer(index, layer, args, kwargs)

        def after_layer(module: nn.Module, _args: tuple, _kwargs: dict, output: Any) -> Any:
            return self._leave_layer(index, module, output, scored=scored)

        self._hook(layer, before_layer, before=True)
        if changed:
            self._hook(layer, after_layer, before=False)
        if scored:
            self._hook(layer.self_attn, self._tap_attention, before=True)

    def _announce(self, videos: list[list[VideoTokens]]) -> None:
        self.announced = videos

    def _enter_head(self, _module: nn.Module, _args: tuple, kwargs: dict) -> None:
        wanted = kwargs.get("logits_to_keep")
        self.logits_to_keep = wanted if isinstance(wanted, int) and wanted > 0 else 1

    def _enter(self, _module: nn.Module, args: tuple, kwargs: dict) -> tuple[tuple, dict] | None:
        announced, self.announced = self.announced, None
        past = cache_of(kwargs)
        has_videos = announced is not None and any(announced)
        if not has_videos and not is_pruned(past):
            return None
        if args:
            raise InputError("Under compression the decoder takes keyword arguments only.")
        kwargs = dict(kwargs)
        if kwargs.get("inputs_embeds") is None:
            kwargs["inputs_embeds"] = self.text_model.get_input_embeddings()(kwargs.pop("input_ids"))
        embeds = kwargs["inputs_embeds"]
        self.forward = forward = ForwardPass(
            self.text_model, self.method, embeds, kwargs.get("attention_mask"), kwargs.get("position_ids"), past
        )
        if has_videos:
            forward.add_videos(announced, self.shape, embeds.device, self.logits_to_keep)
            features, mask = kwargs.pop("deepstack_visual_embeds", None), kwargs.pop("visual_pos_masks", None)
            if features is not None:
                forward.deepstack = Deepstack.of(mask, features)
            self.trace.videos = [video.trace for video in forward.videos]
            with stage_of(self.head, "selection"):
                kwargs["inputs_embeds"] = forward.reduce_input(embeds)
        if forward.active:
            check_gathered(kwargs, embeds.shape[:2])
            kwargs["position_ids"] = forward.position_ids
            kwargs["attention_mask"] = forward.text_model_mask()
        return args, kwargs

    def _leave(self, _module: nn.Module, _args: tuple, _kwargs: dict, output: Any) -> None:
        forward, self.forward, self.attention_call, self.logits_to_keep = self.forward, None, None, 1
        if forward is not None and output is not None:
            forward.leave(cache_in(output))

    def _enter_layer(self, index: int, layer: nn.Module, args: tuple, kwargs: dict) -> tuple[tuple, dict] | None:
        if self.forward is None:
            return None
        hidden, rotary = layer_inputs(layer, args, kwargs)
        return args, kwargs | self.forward.enter_layer(index, hidden, rotary, cache_of(kwargs))

    def _tap_attention(self, module: nn.Module, args: tuple, kwargs: dict) -> tuple[tuple, dict] | None:
        cache = cache_of(kwargs)
        if self.forward is None or not self.forward.videos or isinstance(cache, KeyTap):
            return None
        self.attention_call = with_cache(type(module).forward, kwargs, KeyTap(cache))
        return args, self.attention_call

    def _leave_layer(self, index: int, layer: nn.Module, output: Any, *, scored: bool) -> Any:
        forward, call = self.forward, self.attention_call
        self.attention_call = None
        if forward is None or not forward.videos:
            return None
        hidden = output[0] if isinstance(output, tuple) else output
        reduced = forward.add_deepstack(index, hidden)

        @cache
        def attention() -> torch.Tensor:
            return last_query_attention(layer.self_attn, call, forward.key_validity(index), forward.query)

        def visual_attention(row: int, where: torch.Tensor, hidden: torch.Tensor) -> torch.Tensor:
            layers = self.text_model.layers
            if index + 1 == len(layers):
                raise InputError("Attention among the visual tokens is that of the next layer, and this is the last.")
            return last_token_attention(layers[index + 1], hidden, rotary_at(call["position_embeddings"], row, where))

        if scored:
            if call is None:
                raise unknown_version(f"{type(layer).__name__} did not call its self_attn")
            with stage_of(self.head, "scoring"):
                reduced = forward.reduce_after_layer(index, reduced, attention, visual_attention)
        if reduced is hidden:
            return None
        return (reduced, *output[1:]) if isinstance(output, tuple) else reduced


def rotary_at(rotary: tuple[torch.Tensor, torch.Tensor], row: int, where: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """Cosines and sines (..., B or 1, L, d) of some positions of one row: (..., 1, n, d). where: int64 (n,)."""
    rows = (part[..., min(row, part.shape[-3] - 1), :, :].unsqueeze(-3) for part in rotary)
    return tuple(part.index_select(-2, where.to(part.device)) for part in rows)


def _check_text_model(text_model: nn.Module, family: Family) -> None:
    """Raises `InputError` for a decoder that hooks cannot serve."""
    for hook in text_model._forward_pre_hooks.values():
        if isinstance(getattr(hook, "__self__", None), Attachment):
            raise InputError("The model is compressed already: leave the first compress(...) block before the next.")
    check_decoder(text_model, family.decoder_arguments)
    kinds = layer_kinds(text_model)
    if kinds != {"full_attention"}:
        raise InputError(f"Compression needs full attention in every decoder layer, the model has {sorted(kinds)}.")
