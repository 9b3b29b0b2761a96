"""What every decoder layer holds and sees during one forward, and what the cache is told about it in the end."""

from __future__ import annotations

from typing import Any

import torch

from st_simdiff.models.cache import PRUNED, PrunedLayer, PrunedSlidingLayer, held_in
from st_simdiff.models.layer_kinds import LINEAR, SLIDING, DecoderLayers
from st_simdiff.models.sequence import Past, View
from st_simdiff.models.shared_prefill import SharedPrefill
from st_simdiff.models.transformers_api import Cache, DynamicSlidingWindowLayer, holds_keys, unknown_version


class Account:
    """One forward's account, layer by layer.

    past_length: positions of the whole sequence before this forward. past_valid: bool (B, past_length), False where the
    caller's mask says padding; None if none is. seen: what each layer that has been entered holds and sees.
    restarts_after: the layer behind which all layers see the whole prompt anew; None in most forwards.
    """

    def __init__(
        self,
        layers: DecoderLayers,
        batch: int,
        past_length: int,
        past_valid: torch.Tensor | None,
        device: torch.device,
    ) -> None:
        self.layers, self.batch, self.past_length, self.device = layers, batch, past_length, device
        self.seen: dict[int, tuple[Past, View]] = {}
        self.restarts_after: int | None = None
        self._past_valid = past_valid

    def enter(self, index: int, cache: Cache | None, view: View) -> Past:
        """Notes that layer `index` is about to see `view`. Returns what its cache holds."""
        past = self._past(self.layers.sources[index], cache)
        layer: Any = cache.layers[index] if cache is not None and index < len(cache.layers) else None
        if isinstance(layer, PRUNED):
            layer.expected = True
        self.seen[index] = (past, view)
        return past

    def key_validity(self, index: int) -> torch.Tensor | None:
        """Bool (B, held + L): which keys of layer `index` are tokens. None if all are."""
        past, view = self.seen[index]
        if past.valid is None and view.valid is None:
            return None
        old = past.valid if past.valid is not None else self.all_valid(past.held)
        new = view.valid if view.valid is not None else self.all_valid(view.length)
        return torch.cat([old.to(self.device), new.to(self.device)], dim=1)

    def places(self, index: int) -> torch.Tensor:
        """Where in the whole sequence the keys of sliding-window layer `index` stand, int64 (B or 1, held + L)."""
        past, view = self.seen[index]
        new = torch.arange(view.length, device=self.device)[None] if view.kept is None else view.kept.to(self.device)
        old = past.places.to(self.device) if past.places is not None else new[:, :0]
        rows = max(len(old), len(new))
        return torch.cat([old.expand(rows, -1), self.past_length + new.expand(rows, -1)], dim=1)

    def all_valid(self, length: int) -> torch.Tensor:
        return torch.ones(self.batch, length, dtype=torch.bool, device=self.device)

    def _past(self, index: int, cache: Cache | None) -> Past:
        if index in self.seen:  # layers that share keys have the past of the first of them
            return self.seen[index][0]
        if cache is None or index >= len(cache.layers) or not holds_keys(cache.layers[index]):
            return Past()
        layer: Any = cache.layers[index]
        if self.restarts_after is not None and index > self.restarts_after:
            return Past(removed=self.past_length)
        if isinstance(layer, PrunedSlidingLayer):
            return Past(layer.held, layer.removed, layer.valid, places=layer.places)
        if isinstance(layer, PrunedLayer):
            return Past(layer.held, layer.removed, layer.validity(), layer.shift, layer.fixed)
        if self.layers.kinds[index] != SLIDING:
            return Past(layer.get_seq_length(), valid=self._past_valid)
        held, end = held_in(cache, index), layer.get_seq_length()
        valid = None if self._past_valid is None else self._past_valid[:, end - held : end]
        return Past(held, end - held, valid, places=torch.arange(end - held, end, device=self.device)[None])

    def close(
        self, cache: Cache, packed: bool, input_length: int, tail: int | None, shared: SharedPrefill | None
    ) -> None:
        """Tells the layers of the cache what has gone into them.

        packed: whether this forward has dropped tokens. input_length: its positions. tail: those of them behind the
        last video; None without one. shared: what the cache is to keep for further questions.
        """
        layers: list[Any] = cache.layers
        own = [index for index, layer in enumerate(layers) if holds_keys(layer)]
        any_padding = any(self.seen[index][1].valid is not None for index in own)
        if not packed and not any_padding and all(isinstance(layers[index], PRUNED) for index in own):
            return  # a step of the decoding: the layers' own account still holds
        validities: dict[tuple[int, int], torch.Tensor | None] = {}
        for index in own:
            past, view = self.seen[index]
            key = (id(past.valid), id(view))
            if key not in validities:
                validities[key] = self.key_validity(index)
            if self.layers.kinds[index] == SLIDING:
                layers[index] = PrunedSlidingLayer(
                    layers[index],
                    self.layers.window or 0,
                    places=self.places(index),
                    valid=validities[key],
                    total=self.past_length + input_length,
                )
                continue
            shift = view.shift if past.shift is None else past.shift if view.shift is None else past.shift + view.shift
            layers[index] = PrunedLayer(
                layers[index],
                removed=past.removed + input_length - view.length,
                valid=validities[key],
                fixed=past.fixed if tail is None else past.held + view.length - tail,
                shift=shift,
                shared=shared if index == 0 else None,
            )

    def check(self, cache: Cache | None, returned: Cache | None) -> None:
        """Whether every layer was seen, and every layer of the cache has grown by what its layer was given.

        cache, returned: what the layers were given, and what the decoder returned. Raises `InputError` if not.
        """
        unseen = [index for index in range(len(self.layers)) if index not in self.seen]
        if unseen:
            raise unknown_version(f"its decoder layers {unseen} ran without their hooks")
        if returned is not None and returned is not cache:
            raise unknown_version("the decoder returned a cache that its layers were not given")
        if cache is None:
            return
        for index, (past, view) in self.seen.items():
            if self.layers.kinds[index] == LINEAR or self.layers.sources[index] != index:
                continue
            grown, expected = held_in(cache, index), past.held + view.length
            if index < len(cache.layers) and isinstance(cache.layers[index], DynamicSlidingWindowLayer):
                expected = min(expected, (self.layers.window or 0) - 1)
            if grown != expected:
                raise unknown_version(f"layer {index} of the cache holds {grown} positions where {expected} went in")
