"""One forward pass of a decoder under compression: which tokens each layer sees, and what the cache remembers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch

from st_simdiff.errors import InputError
from st_simdiff.methods.base import Method, Reduction, StageRecord, VisualTokens, no_attention
from st_simdiff.models.account import Account
from st_simdiff.models.cache import check_cache, is_pruned
from st_simdiff.models.deepstack import Deepstack
from st_simdiff.models.families.base import VideoTokens
from st_simdiff.models.layer_kinds import DecoderLayers
from st_simdiff.models.layer_masks import LayerMasks
from st_simdiff.models.masks import check_left_padding, check_mask
from st_simdiff.models.packing import Packing, gathered, pack
from st_simdiff.models.sequence import Video, View
from st_simdiff.models.shared_prefill import SharedPrefill
from st_simdiff.models.trace import VideoTrace
from st_simdiff.models.transformers_api import (
    Cache,
    DynamicCache,
    TransformersModule,
    has_rotary_kinds,
    rotary_of,
)
from st_simdiff.selection.budget import ModelShape

Rotary = tuple[torch.Tensor, torch.Tensor]


class ForwardPass:
    """Follows one call of the text model from its inputs through its layers to its cache.

    embeds: (B, L, D), the new positions. attention_mask: (B, past + L) or None. position_ids: (B or 1, L) or
    (axes, B or 1, L). cache: None or a `DynamicCache`, pruned or not. blocks: int64 (B, L), the block of tokens that
    see each other in sliding layers, -1 for none.
    """

    def __init__(
        self,
        text_model: TransformersModule,
        layers: DecoderLayers,
        method: Method,
        embeds: torch.Tensor,
        attention_mask: torch.Tensor | None,
        position_ids: torch.Tensor | None,
        cache: Cache | None,
        blocks: torch.Tensor | None = None,
    ) -> None:
        check_cache(cache)
        check_mask(attention_mask)
        self.text_model, self.layers, self.method, self.cache = text_model, layers, method, cache
        self.batch, self.input_length = embeds.shape[:2]
        self.pruned_past = is_pruned(cache)
        self.past_length = past = cache.get_seq_length() if cache is not None else 0
        if position_ids is None:
            position_ids = torch.arange(past, past + self.input_length, device=embeds.device).unsqueeze(0)
        self.position_ids = position_ids
        past_valid, valid, self.row_lengths = _split_validity(attention_mask, past, self.batch, self.input_length)
        self.view = View(self.input_length, valid)
        self.packed = False
        self.tail = self.input_length
        self.query = 1
        self.videos: list[Video] = []
        self.deepstack: Deepstack | None = None
        self.rotaries: dict[str, Rotary] = {}
        self.sharing = self.asked = False
        self.resumed: SharedPrefill | None = None
        self.shared: SharedPrefill | None = None
        self.stages = layers.stages(method)
        self.account = Account(layers, self.batch, past, past_valid, embeds.device)
        own_blocks = None if blocks is None else blocks[:, -self.input_length :]  # a turn may bring the whole row
        self.masks = LayerMasks(text_model.config, self.account, own_blocks)
        self._has_rotary_kinds = has_rotary_kinds(text_model)

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
        # what was resumed is part of the sequence
        held = self.account.seen[index][0].held if self.resumed is None else 0

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
            stages=self.stages,
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

        self.position_ids = packing.take_positions(self.position_ids)
        if self.deepstack is not None:
            self.deepstack.pack(packing)
        for kind, (cosines, sines) in self.rotaries.items():
            self.rotaries[kind] = packing.take_rotary(cosines), packing.take_rotary(sines)
        length = max(self.row_lengths)
        self.view = View(
            length,
            packing.valid if min(self.row_lengths) < length else None,
            old.shift,
            kept=packing.after(old.kept),
            entered=packing.after(old.entered) if layer >= 0 else None,
        )
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
        self.view = replace(self.view, shift=dropped if old.shift is None else old.shift + dropped)
        for kind in self.rotaries:
            self.rotaries[kind] = rotary_of(self.text_model, hidden, self.position_ids, kind)

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
        past = self.account.enter(index, cache, self.view)
        kind = self.rotary_kind(index)
        if kind not in self.rotaries:
            cosines, sines = rotary
            self.rotaries[kind] = self.follow(cosines, cosines.dim() - 2), self.follow(sines, sines.dim() - 2)
        if not self.active:
            return {}
        position_embeddings = self.rotaries[kind]
        if past.shift is not None:
            position_embeddings = rotary_of(self.text_model, hidden, self.position_ids - past.shift, kind)
        mask, rows = self.masks.of(index, hidden, cache), hidden.shape[1]
        if rows < self.view.length:  # layers without keys of their own may be given the last positions alone
            cosines, sines = position_embeddings
            position_embeddings = cosines[..., -rows:, :], sines[..., -rows:, :]
            mask = None if mask is None else mask[..., -rows:, :]
        return {
            "attention_mask": mask,
            "position_embeddings": position_embeddings,
            "position_ids": None,  # flash attention would read gapped positions as packed sequences
        }

    def take(self, tensor: torch.Tensor, dim: int) -> torch.Tensor:
        """What was made for the sequence that the decoder was given, for what has gone on of it; `dim` as below."""
        kept = self.view.kept
        return tensor if kept is None else gathered(tensor, kept, dim, dim - 1)

    def follow(self, tensor: torch.Tensor, dim: int) -> torch.Tensor:
        """What was made for the sequence that entered the layers (B or 1, L, ...), for what has gone on of it.

        dim: that of L; the batch is the one before it.
        """
        entered = self.view.entered
        return tensor if entered is None else gathered(tensor, entered, dim, dim - 1)

    def rotary_for(self, index: int, hidden: torch.Tensor) -> Rotary:
        """Cosines and sines of the positions that go on, for layer `index`, which may not have been reached."""
        kind = self.rotary_kind(index)
        found = self.rotaries.get(kind)
        return found if found is not None else rotary_of(self.text_model, hidden, self.position_ids, kind)

    def rotary_kind(self, index: int) -> str:
        return self.layers.kinds[index] if self._has_rotary_kinds else ""

    def text_model_mask(self) -> torch.Tensor:
        """An explicit mask for the text model itself, which builds one that no layer will use. Bool (B, past + L)."""
        length = self.past_length + self.view.length
        return torch.ones(self.batch, length, dtype=torch.bool, device=self.position_ids.device)

    # --- what the cache remembers ---

    def leave(self, returned: Cache | None) -> None:
        """Tells the cache, once all layers have added to it, what it holds and what it does not.

        returned: the cache in the decoder's output. Raises `InputError` where layers or cache escaped the hooks.
        """
        self.account.check(self.cache, returned)
        if self.active and self.cache is not None:
            tail = self.tail if self.videos else None
            self.account.close(self.cache, self.packed, self.input_length, tail, self.shared)


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
