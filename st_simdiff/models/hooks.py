"""The hooks on a model, shared by all that compress it; what they do is decided anew for every call.

During a prefill the hooks take tokens out of the sequence: before the first decoder layer, and after the layers that
the method names. Kept tokens keep their position ids. What is left is packed to the right, row by row, and every layer
gets the rotary embedding and the mask of what it really sees. The cache then holds fewer positions than the sequence
has, and later forwards get masks to match. Where nothing is dropped nothing is touched.

All that a forward needs to remember belongs to the thread that runs it, so threads do not see each other's prompts.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping
from contextvars import ContextVar
from dataclasses import replace
from functools import cache
from typing import Any

import torch

from st_simdiff.errors import InputError
from st_simdiff.methods.base import Method
from st_simdiff.models.attention import KeyTap, last_query_attention, last_token_attention, rotary_at
from st_simdiff.models.cache import check_rows, is_pruned
from st_simdiff.models.clock import stage_of
from st_simdiff.models.compiled import Uncompiled, check_not_replaced
from st_simdiff.models.decoder_shape import model_shape
from st_simdiff.models.deepstack import Deepstack
from st_simdiff.models.families.base import Compression, Family, VideoTokens
from st_simdiff.models.forward import ForwardPass
from st_simdiff.models.front import Front
from st_simdiff.models.layer_kinds import FULL, decoder_kinds
from st_simdiff.models.loss import Labels
from st_simdiff.models.resume import begin, check_first, join, keep, new_positions, note
from st_simdiff.models.trace import Trace
from st_simdiff.models.transformers_api import (
    TransformersModule,
    begins,
    cache_in,
    cache_of,
    check_decoder,
    check_gathered,
    decoder_layers,
    layer_inputs,
    unknown_version,
    with_cache,
)
from st_simdiff.models.vision import SiglipRecorder

logger = logging.getLogger(__name__)


class _Call(threading.local):
    """What one thread is in the middle of. attached, own: the attachment, and the same with a trace of this thread."""

    attached: Compression | None = None
    own: Compression | None = None
    compression: Compression | None = None
    announced: list[list[VideoTokens]] | None = None
    answered: int = 0
    token_mask: torch.Tensor | None = None
    blocks: torch.Tensor | None = None
    logits_to_keep: int = 1
    labels: Labels | None = None
    forward: ForwardPass | None = None
    attention_call: dict[str, Any] | None = None


class ModelHooks:
    """The hooks of one model.

    blocks: what holds for the context that asks, by the hooks that it holds for. attached: what holds for all others.
    users: how many blocks and attachments need the hooks. Raises `InputError` for a decoder that hooks cannot serve.
    """

    def __init__(
        self, model: TransformersModule, family: Family, blocks: ContextVar[Mapping[ModelHooks, Compression]]
    ) -> None:
        self.model, self.family = model, family
        self.head: TransformersModule = family.head(model)
        self.text_model: TransformersModule = family.text_model(model)
        self.recorder: SiglipRecorder | None = None
        self.attached: Compression | None = None
        self.users = 0
        self._blocks, self._call = blocks, _Call()
        self._told = False
        self._tapped: set[int] = set()
        self._changed: set[int] = set()
        self._handles: list[Any] = []
        family.check_version()
        check_not_replaced(self.text_model)
        check_decoder(self.text_model, family.decoder_arguments)
        self.kinds = decoder_kinds(self.text_model.config)
        self.shape = model_shape(self.text_model)
        self._layers: list[TransformersModule] = list(decoder_layers(self.text_model))
        try:
            attentions = (layer.self_attn for layer in self._layers if hasattr(layer, "self_attn"))
            parts = {model, self.head, self.text_model, *self._layers, *attentions}
            self._handles.append(Uncompiled(model, parts))
            self._handles.append(Front(model, family, self.active))
            self._handles += family.watch(model, self)
            self._hook(self.head, self._enter_head, before=True)
            self._hook(self.head, self._leave_head, before=False, always_call=True)
            self._hook(self.text_model, self._enter, before=True)
            self._hook(self.text_model, self._leave, before=False, always_call=True)
            for index, layer in enumerate(self._layers):
                self._watch_layer(index, layer, before=True)
        except BaseException:
            self.remove()
            raise

    def __deepcopy__(self, memo: dict) -> ModelHooks:
        raise InputError("A compressed model cannot be copied: copy it before it is compressed, or after.")

    def serve(self, method: Method) -> None:
        """Adds the hooks that `method` needs and that are not there yet. Raises `InputError` if there are none."""
        scored = set(self.kinds.stages(method))
        if method.vision_inputs and self.recorder is None:
            self.recorder = self.family.recorder(self.model, method.vision_inputs)
            self._handles += [Uncompiled(self.model, [self.recorder.attention]), *self.recorder.handles]
        follows_features = "deepstack_visual_embeds" in self.family.decoder_arguments
        for index, layer in enumerate(self._layers):
            if index in scored and index not in self._tapped and hasattr(layer, "self_attn"):
                self._tapped.add(index)
                self._hook(layer.self_attn, self._tap_attention, before=True)
            if (index in scored or follows_features) and index not in self._changed:
                self._changed.add(index)
                self._watch_layer(index, layer, before=False)

    def remove(self) -> None:
        """Takes every hook off again."""
        while self._handles:
            self._handles.pop().remove()

    def check_sharing(self, share_prefix: bool) -> None:
        """Raises `InputError` where `share_prefix` is asked of a decoder that cannot go back to an earlier position."""
        others = sorted(set(self.kinds.kinds) - {FULL})
        if share_prefix and others:
            raise InputError(
                f"share_prefix=True needs full attention in every decoder layer, the model has {', '.join(others)}, "
                "whose cache cannot be cut back to the video."
            )

    # --- what families report ---

    def active(self) -> Compression | None:
        block = self._blocks.get().get(self)
        if block is not None and block.open:
            return block
        attached, call = self.attached, self._call
        if attached is None:
            return None
        if call.attached is not attached:
            call.attached, call.own = attached, replace(attached, trace=self.own_trace())
        return call.own

    def own_trace(self) -> Trace:
        """Of this thread's prompts under the attachment."""
        if self._call.own is None:
            return Trace()
        return self._call.own.trace

    def starting(self) -> Compression | None:
        compression = self.active()
        if compression is None and not self._told:
            self._told = True
            logger.warning(
                "A video passes uncompressed: compress(...) holds for the thread that entered it; attach(...) for all."
            )
        return compression

    def report(self, compression: Compression, videos: list[list[VideoTokens]], answered: int = 0) -> None:
        call = self._call
        call.compression, call.announced, call.answered = compression, videos, answered

    def note_masks(self, token_mask: torch.Tensor | None, blocks: torch.Tensor | None) -> None:
        self._call.token_mask, self._call.blocks = token_mask, blocks

    # --- hooks ---

    def _hook(self, module: TransformersModule, hook: Any, *, before: bool, **options: Any) -> None:
        register = module.register_forward_pre_hook if before else module.register_forward_hook
        self._handles.append(register(hook, with_kwargs=True, **options))

    def _watch_layer(self, index: int, layer: TransformersModule, *, before: bool) -> None:
        @torch.compiler.disable
        def before_layer(_module: TransformersModule, args: tuple, kwargs: dict) -> tuple[tuple, dict] | None:
            return self._enter_layer(index, layer, args, kwargs)

        @torch.compiler.disable
        def after_layer(_module: TransformersModule, _args: tuple, _kwargs: dict, output: Any) -> Any:
            return self._leave_layer(index, layer, output)

        self._hook(layer, before_layer if before else after_layer, before=before)

    @torch.compiler.disable
    def _enter_head(self, _module: TransformersModule, args: tuple, kwargs: dict) -> tuple[tuple, dict] | None:
        call, compression = self._call, self.active()
        wanted, labels = kwargs.get("logits_to_keep"), kwargs.get("labels")
        call.logits_to_keep = wanted if isinstance(wanted, int) and wanted > 0 else 1
        call.labels = None
        if labels is None or compression is None:
            return None
        call.labels = Labels(labels, kwargs.get("num_items_in_batch"))
        if self.kinds.stages(compression.method):
            call.logits_to_keep = call.labels.answer_length() + 1
        return args, kwargs | {"labels": None}

    @torch.compiler.disable
    def _leave_head(self, module: TransformersModule, _args: tuple, _kwargs: dict, output: Any) -> Any:
        labels, self._call.labels = self._call.labels, None
        return None if labels is None or output is None else labels.with_loss(module, output)

    @torch.compiler.disable
    def _enter(self, _module: TransformersModule, args: tuple, kwargs: dict) -> tuple[tuple, dict] | None:
        call, past = self._call, cache_of(kwargs)
        videos, call.announced = call.announced, None
        token_mask, blocks, call.token_mask, call.blocks = call.token_mask, call.blocks, None, None
        compression = call.compression if videos is not None else self.active()
        call.compression = None
        if compression is None or not compression.open:
            return None
        if videos is None or not any(videos):
            videos = []
            if begins(past):
                compression.trace.videos = []
            if not is_pruned(past):
                return None
        if args:
            raise InputError("Under compression the decoder takes keyword arguments only.")
        kwargs = dict(kwargs)
        if kwargs.get("inputs_embeds") is None:
            kwargs["inputs_embeds"] = self.text_model.get_input_embeddings()(kwargs.pop("input_ids"))
        embeds = kwargs["inputs_embeds"]
        mask = kwargs.get("attention_mask")
        call.forward = forward = ForwardPass(
            self.text_model,
            self.kinds,
            compression.method,
            embeds,
            token_mask if isinstance(mask, dict) else mask,
            kwargs.get("position_ids"),
            past,
            blocks,
        )
        forward.sharing = compression.share_prefix
        if videos:
            if compression.share_prefix:
                check_first(forward.past_length)
            forward.add_videos(videos, self.shape, embeds.device, call.logits_to_keep + call.answered)
            features, mask = kwargs.pop("deepstack_visual_embeds", None), kwargs.pop("visual_pos_masks", None)
            if features is not None:
                forward.deepstack = Deepstack.of(mask, features)
            compression.trace.videos = [video.trace for video in forward.videos]
            with stage_of(self.head, "selection"):
                kwargs["inputs_embeds"] = forward.reduce_input(embeds)
        elif compression.share_prefix and begin(forward, call.logits_to_keep):
            assert forward.resumed is not None
            compression.trace.videos = [video.trace for video in forward.resumed.videos]
        if forward.active:
            check_rows(past, forward.batch)
            check_gathered(kwargs, embeds.shape[:2], self.family.decoder_arguments)
            if kwargs.get("per_layer_inputs") is not None:
                kwargs["per_layer_inputs"] = forward.take(kwargs["per_layer_inputs"], 1)
            kwargs["position_ids"] = forward.position_ids
            kwargs["attention_mask"] = forward.text_model_mask()
        return args, kwargs

    @torch.compiler.disable
    def _leave(self, _module: TransformersModule, _args: tuple, _kwargs: dict, output: Any) -> Any:
        call = self._call
        forward, call.forward, call.attention_call = call.forward, None, None
        call.logits_to_keep, call.answered = 1, 0
        if forward is None or output is None:
            return None
        forward.leave(cache_in(output))
        if forward.resumed is not None:
            return new_positions(output, forward.input_length)
        if call.labels is not None:
            call.labels.follow(forward.view.kept, forward.view.valid)
        return None

    def _enter_layer(
        self, index: int, layer: TransformersModule, args: tuple, kwargs: dict
    ) -> tuple[tuple, dict] | None:
        forward = self._call.forward
        if forward is None:
            return None
        hidden, rotary, own = layer_inputs(layer, args, kwargs)
        changed = forward.enter_layer(index, hidden, rotary, cache_of(kwargs))
        if own is not None and own.shape[1] != hidden.shape[1]:
            args = (args[0], forward.follow(own, 1))
        return args, kwargs | changed

    @torch.compiler.disable
    def _tap_attention(self, module: TransformersModule, args: tuple, kwargs: dict) -> tuple[tuple, dict] | None:
        call, past = self._call, cache_of(kwargs)
        if call.forward is None or not call.forward.chooses or isinstance(past, KeyTap):
            return None
        call.attention_call = with_cache(type(module).forward, kwargs, KeyTap(past))
        return args, call.attention_call

    def _leave_layer(self, index: int, layer: TransformersModule, output: Any) -> Any:
        forward, self_attention = self._call.forward, self._call.attention_call
        attention_call: dict[str, Any] = self_attention or {}
        self._call.attention_call = None
        if forward is None:
            return None
        joining = forward.resumed is not None and forward.resumed.layer == index
        if not forward.videos and not joining:
            return None
        hidden = output[0] if isinstance(output, tuple) else output
        reduced = join(forward, hidden) if joining else forward.add_deepstack(index, hidden)

        @cache
        def attention() -> torch.Tensor:
            if self_attention is None:
                raise unknown_version(f"{type(layer).__name__} did not call its self_attn")
            valid = forward.account.key_validity(index)
            return last_query_attention(layer.self_attn, attention_call, valid, forward.query)

        def visual_attention(row: int, where: torch.Tensor, hidden: torch.Tensor) -> torch.Tensor:
            if index + 1 == len(self._layers):
                raise InputError("Attention among the visual tokens is that of the next layer, and this is the last.")
            rotary = rotary_at(forward.rotary_for(index + 1, hidden[None]), row, where)
            return last_token_attention(self._layers[index + 1], hidden, rotary)

        if index in forward.stages:
            with stage_of(self.head, "scoring"):
                before = note(forward, index, reduced)
                reduced = forward.reduce_after_layer(index, reduced, attention, visual_attention)
                keep(forward, before)
        if reduced is hidden:
            return None
        return (reduced, *output[1:]) if isinstance(output, tuple) else reduced
