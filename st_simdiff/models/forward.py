"""One forward pass of a decoder under compression: which tokens each layer sees, and what the cache remembers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch

from st_simdiff.errors import InputError
from st_simdiff.methods.base import Method, Reduction, StageRecord, VisualTokens, no_attention
from st_simdiff.models.cache import PrunedLayer, check_cache, held_in, is_pruned
from st_simdiff.models.deepstack import Deepstack
from st_simdiff.models.families.base import VideoTokens
from st_simdiff.models.masks import check_left_padding, check_mask
from st_simdiff.models.packing import Packing, pack
from st_simdiff.models.sequence import Past, Video, View
from st_simdiff.models.shared_prefill import SharedPrefill
from st_simdiff.models.trace import VideoTrace
from st_simdiff.models.transformers_api import (
    Cache,
    DynamicCache,
    TransformersModule,
    causal_mask,
    decoder_layers,
    unknown_version,
)
from st_simdiff.selection.budget import ModelShape

Rotary = tuple[torch.Tensor, torch.Tensor]


class ForwardPass:
    """Follows one call of the text model from its inputs through its layers to its cache.

    embeds: (B, L, D), the new positions. attention_mask: (B, past + L) or None. position_ids: (B or 1, L) or
    (axes, B or 1, L). cache: None or a `DynamicCache`, pruned or not.
    """

    def __init__(
        self,
        text_model: TransformersModule,
        method: Method,
        embeds: torch.Tensor,
        attention_mask: torch.Tensor | None,
        position_ids: torch.Tensor | None,
        cache: Cache | None,
    ) -> None:
        check_cache(cache)
        check_mask(attention_mask)
        self.text_model, self.method, self.cache = text_model, method, cache
        self.batch, self.input_length = embeds.shape[:2]
        self.pruned_past = is_pruned(cache)
        self.past_length = past = cache.get_seq_length() if cache is not None else 0
        if position_ids is None:
            position_ids = torch.arange(past, past + self.input_length, device=embeds.device).unsqueeze(0)
        self.position_ids = position_ids
        self.given_past_valid, valid, self.row_lengths = _split_validity(
            attention_mask, past, self.batch, self.input_length
        )
        self.view = View(self.input_length, valid, None)
        self.packed = False
        self.tail = self.input_length
        self.query = 1
        self.videos: list[Video] = []
        self.deepstack: Deepstack | None = None
        self.rotary: Rotary | None = None
        self.kept: torch.Tensor | None = None
        self.sharing = self.asked = False
        self.resumed: SharedPrefill | None = None
        self.shared: SharedPrefill | None = None
        self.scored = frozenset(method.layers(len(decoder_layers(text_model))))
        self.seen: dict[int, tuple[Past, View]] = {}
        self._mask: tuple[tuple, torch.Tensor | None] | None = None

    # --- videos and their reductions ---

    def add_videos(
        self, announced: list[list[VideoTokens]], shape: ModelShape, device: torch.device, logits_to_keep: int
    ) -> None:
        """Takes in the videos of the prompt. Beams and return sequences repeat every row of the prompt.

        logits_to_keep: how many logits the caller asked for. What comes after the first of them is an answer or a
        draft, so its position is the prompt's last; a position before the end of a video is none.
        """
        if self.batch % len(announced):
            raise InputError(f"The prompt has {len(announced)} rows, but {self.batch} reach the decoder.")
        repeats = self.batch // len(announced)
        for row in range(self.batch):
            for tokens in announced[row // repeats]:
                offsets = torch.arange(tokens.grid.count, device=device)
                trace = VideoTrace(row, tokens.grid, shape, offsets)
                start = tokens.first if tokens.contiguous else None
                self.videos.append(Video(row, tokens, tokens.positions.to(device), trace, start))
        self.tail = self.input_length - 1 - max(video.tokens.last for video in self.videos)
        self.query = logits_to_keep if logits_to_keep <= self.tail else 1

    def reduce_input(self, embeds: torch.Tensor) -> torch.Tensor:
        """The embeddings that enter the first layer, (B, L', D)."""

        def decide(video: Video) -> Reduction | None:
            return self.method.reduce_input(self._visual_tokens(video, video.of(embeds)))

        return self._reduce(-1, embeds, decide)

    def add_deepstack(self, index: int, hidden: torch.Tensor) -> torch.Tensor:
        """The hidden states that leave layer `index`, with what the text model would have added to them."""
        return hidden if self.deepstack is None else self.deepstack.add(index, hidden)

    def reduce_after_layer(
        self,
        index: int,
        hidden: torch.Tensor,
        attention: Callable[[], torch.Tensor],
        visual_attention: Callable[[int, torch.Tensor, torch.Tensor], torch.Tensor],
    ) -> torch.Tensor:
        """The hidden states that leave layer `index`, (B, L', D). attention: last query's, (B, held + L).

        visual_attention: of a row, the places of n of its tokens and their hidden states (n, D): float32 (n,).
        """
        held = self.seen[index][0].held if self.resumed is None else 0  # what was resumed is part of the sequence

        def decide(video: Video) -> Reduction | None:
            features = video.of(hidden)

            def asked() -> torch.Tensor:
                self.asked = video.trace.asked = True
                return video.of(attention(), held)

            tokens = self._visual_tokens(video, features, attention=asked)
            tokens = replace(tokens, visual_attention=lambda: visual_attention(video.row, video.where, features))
            return self.method.reduce_after_layer(index, tokens)

        return self._reduce(index, hidden, decide)

    def _visual_tokens(
        self, video: Video, features: torch.Tensor, attention: Callable[[], torch.Tensor] = no_attention
    ) -> VisualTokens:
        return VisualTokens(
            features=features,
            offsets=video.trace.offsets,
            grid=video.tokens.grid,
            num_layers=video.trace.shape.layers,
            attention=attention,
            vision=video.tokens.vision,
            history=tuple(video.trace.stages),
        )

    def _reduce(self, layer: int, hidden: torch.Tensor, decide: Callable[[Video], Reduction | None]) -> torch.Tensor:
        for video in self.videos:  # layers may be spread over devices
            video.where = video.where.to(hidden.device)
            video.trace.offsets = video.trace.offsets.to(hidden.device)
        with torch.no_grad():
            decided = [(video, decide(video)) for video in self.videos]
        decisions = [(video, reduction) for video, reduction in decided if reduction is not None]
        for video, reduction in decisions:
            video.trace.stages.append(StageRecord(layer, video.count, reduction))
        if all(r.values is None and r.kept.numel() == video.count for video, r in decisions):
            return hidden

        old = self.view
        keep = (
            old.valid.to(hidden.device, copy=True)
            if old.valid is not None
            else hidden.new_ones(hidden.shape[:2], dtype=torch.bool)
        )
        for video, reduction in decisions:
            keep[video.row, video.where] = False
            keep[video.row, video.where[reduction.kept]] = True
            self.row_lengths[video.row] -= video.count - reduction.kept.numel()
        packing = pack(keep, max(self.row_lengths))
        hidden = packing.take(hidden, 1)
        self._move_videos(packing, {id(video): reduction for video, reduction in decisions})
        for video, reduction in decisions:
            if reduction.values is not None:
                hidden[video.row, video.where] = reduction.values.to(hidden.dtype)

        self.kept = packing.index if self.kept is None else packing.take(self.kept, 1)
        self.position_ids = packing.take_positions(self.position_ids)
        if self.deepstack is not None:
            self.deepstack.pack(packing)
        if self.rotary is not None:
            cosines, sines = self.rotary
            self.rotary = packing.take_rotary(cosines), packing.take_rotary(sines)
        length = max(self.row_lengths)
        self.view = View(length, packing.valid if min(self.row_lengths) < length else None, old.shift)
        self.packed = True
        if self.method.renumbers_positions and self.position_ids.dim() == 2:
            self._renumber(hidden, keep, old)
        return hidden

    def _move_videos(self, packing: Packing, chosen: dict[int, Reduction]) -> None:
        """Takes the videos to their places in the packed sequence. chosen: by the id of the video."""
        before, length = packing.moved.shape[1], packing.index.shape[1]
        removed_behind = dict.fromkeys(range(self.batch), 0)
        for video in reversed(self.videos):
            reduction, count = chosen.get(id(video)), video.count
            if reduction is not None:
                video.where = video.where[reduction.kept]
                video.trace.offsets = video.trace.offsets[reduction.kept]
            if video.start is not None:
                behind = before - video.start - count - removed_behind[video.row]
                video.start = length - behind - video.count
            video.where = packing.moved[video.row, video.where]
            removed_behind[video.row] += count - video.count

    def _renumber(self, hidden: torch.Tensor, keep: torch.Tensor, old: View) -> None:
        """Makes the positions of every row contiguous again, and remembers how far its end has moved back."""
        before = old.length if old.valid is None else old.valid.sum(1, keepdim=True)
        dropped = before - keep.sum(1, keepdim=True)
        end = self.position_ids[:, -1:] - dropped
        self.position_ids = end + torch.arange(1 - self.view.length, 1, device=end.device)
        self.view = View(self.view.length, self.view.valid, dropped if old.shift is None else old.shift + dropped)
        if self.rotary is not None:
            self.rotary = self.text_model.rotary_emb(hidden, self.position_ids)

    # --- what each layer is given ---

    @property
    def chooses(self) -> bool:
        """Whether there are videos among whose tokens the method may choose."""
        return bool(self.videos) or self.resumed is not None

    @property
    def active(self) -> bool:
        """Whether the layers need masks and rotary embeddings other than the text model's own."""
        return self.packed or self.pruned_past

    def enter_layer(
        self, index: int, hidden: torch.Tensor, rotary: Rotary, cache: DynamicCache | None
    ) -> dict[str, Any]:
        """The arguments of decoder layer `index` that differ from what the text model passes.

        cache: the one that the layer is given, which the text model may have made just now.
        """
        self.cache = cache
        past = self._past(index)
        held: Any = cache.layers[index] if cache is not None and index < len(cache.layers) else None
        if isinstance(held, PrunedLayer):
            held.expected = True
        self.seen[index] = (past, self.view)
        if self.rotary is None:
            self.rotary = rotary
        if not self.active:
            return {}
        position_embeddings = self.rotary
        if past.shift is not None:
            position_embeddings = self.text_model.rotary_emb(hidden, self.position_ids - past.shift)
        return {
            "attention_mask": self._layer_mask(index, hidden),
            "position_embeddings": position_embeddings,
            "position_ids": None,  # flash attention would read gapped positions as packed sequences
        }

    def text_model_mask(self) -> torch.Tensor:
        """An explicit mask for the text model itself, which builds one that no layer will use. Bool (B, past + L)."""
        past = self.cache.get_seq_length() if self.cache is not None else 0
        return torch.ones(self.batch, past + self.view.length, dtype=torch.bool, device=self.position_ids.device)

    def key_validity(self, index: int) -> torch.Tensor | None:
        """Bool (B, held + L): which keys of layer `index` are tokens. None if all are."""
        past, view = self.seen[index]
        if past.valid is None and view.valid is None:
            return None
        device = self.position_ids.device
        old = past.valid if past.valid is not None else _all_valid(self.batch, past.held, device)
        new = view.valid if view.valid is not None else _all_valid(self.batch, view.length, device)
        return torch.cat([old, new], dim=1)

    def _layer_mask(self, index: int, hidden: torch.Tensor) -> torch.Tensor | None:
        past, view = self.seen[index]
        if view.length == 1 and past.valid is None and view.valid is None:
            return None  # one token sees all that is held
        key = (past.held, past.removed, id(past.valid), id(view))
        if self._mask is None or self._mask[0] != key:  # one at a time: a mask of a long batch is large
            self._mask = None
            mask = self.key_validity(index)
            if mask is not None:
                mask = torch.cat([_all_valid(self.batch, past.removed, mask.device), mask], dim=1)
            self._mask = (key, causal_mask(self.text_model.config, hidden, mask, self.cache, index))
        return self._mask[1]

    def _past(self, index: int) -> Past:
        if self.cache is None or index >= len(self.cache.layers):
            return Past()
        layer: Any = self.cache.layers[index]
        if self.resumed is not None and index > self.resumed.layer:
            return Past(removed=self.past_length)
        if isinstance(layer, PrunedLayer):
            return Past(layer.held, layer.removed, layer.validity(), layer.shift, layer.fixed)
        return Past(layer.get_seq_length(), valid=self.given_past_valid)

    # --- what the cache remembers ---

    def leave(self, returned: Cache | None) -> None:
        """Tells the cache, once all layers have added to it, what it holds and what it does not.

        returned: the cache in the decoder's output. Raises `InputError` where layers or cache escaped the hooks.
        """
        self._check_account(returned)
        if not self.active or self.cache is None:
            return
        if (
            not self.packed
            and self.view.valid is None
            and all(isinstance(one, PrunedLayer) for one in self.cache.layers)
        ):
            return  # a step of the decoding: the layers' own account still holds
        validities: dict[tuple[int, int], torch.Tensor | None] = {}
        layers: list[Any] = self.cache.layers
        for index, layer in enumerate(layers):
            past, view = self.seen[index]
            key = (id(past.valid), id(view))
            if key not in validities:
                validities[key] = self.key_validity(index)
            shift = view.shift if past.shift is None else past.shift if view.shift is None else past.shift + view.shift
            fixed = past.held + view.length - self.tail if self.videos else past.fixed
            self.cache.layers[index] = PrunedLayer(
                layer,
                removed=past.removed + self.input_length - view.length,
                valid=validities[key],
                fixed=fixed,
                shift=shift,
                shared=self.shared if index == 0 else None,
            )

    def _check_account(self, returned: Cache | None) -> None:
        """Whether every layer was seen, and every layer of the cache has grown by what its layer was given."""
        unseen = [index for index in range(len(decoder_layers(self.text_model))) if index not in self.seen]
        if unseen:
            raise unknown_version(f"its decoder layers {unseen} ran without their hooks")
        if returned is not None and returned is not self.cache:
            raise unknown_version("the decoder returned a cache that its layers were not given")
        if self.cache is None:
            return
        for index, (past, view) in self.seen.items():
            grown, expected = held_in(self.cache, index), past.held + view.length
            if grown != expected:
                raise unknown_version(f"layer {index} of the cache holds {grown} positions where {expected} went in")


def _all_valid(batch: int, length: int, device: torch.device) -> torch.Tensor:
    return torch.ones(batch, length, dtype=torch.bool, device=device)


def _split_validity(
    attention_mask: torch.Tensor | None, past: int, batch: int, length: int
) -> tuple[torch.Tensor | None, torch.Tensor | None, list[int]]:
    """The mask of the past and of the new positions, bool; None where every position is a token; new tokens a row.

    A single new position is always a token. Raises `InputError` for right padding, whose last query would be no token.
    Reads the device once, where there is padding twice.
    """
    if attention_mask is None or length == 1:
        return None, None, [length] * batch
    mask = attention_mask.bool()
    new = mask[:, past:][:, -length:]
    everywhere, lengths = torch.stack([mask.sum(1), new.sum(1)]).tolist()
    if min(everywhere) == mask.shape[1]:
        return None, None, [length] * batch
    check_left_padding(mask)
    return mask[:, :past], new, lengths
