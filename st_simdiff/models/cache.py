"""Cache layers that hold fewer tokens than the sequence has."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from st_simdiff.errors import InputError
from st_simdiff.models.shared_prefill import SharedPrefill
from st_simdiff.models.transformers_api import (
    Cache,
    DynamicCache,
    DynamicLayer,
    DynamicSlidingWindowLayer,
    LinearAttentionLayer,
    holds_keys,
)

UNEXPECTED = "This cache was pruned by compression: go on from it inside compress(...), or with the model attached."


class _RowsFollow(DynamicLayer):
    """What a layer says of each row goes along where rows of the batch are repeated, chosen or reordered."""

    def batch_repeat_interleave(self, repeats: int) -> None:
        super().batch_repeat_interleave(repeats)
        self._select_rows(lambda rows: rows.repeat_interleave(repeats, dim=0))

    def batch_select_indices(self, indices: torch.Tensor) -> None:
        super().batch_select_indices(indices)
        self._select_rows(lambda rows: rows[indices])

    def reorder_cache(self, beam_idx: torch.LongTensor) -> None:
        super().reorder_cache(beam_idx)
        self._select_rows(lambda rows: rows[beam_idx.to(rows.device)])

    def _select_rows(self, select: Callable[[torch.Tensor], torch.Tensor]) -> None:
        raise NotImplementedError


class PrunedLayer(_RowsFollow):
    """Keys and values of the kept tokens, under the length of the whole sequence.

    The length reported to `generate` stays the logical one, so new tokens go on from the original positions.
    removed: tokens of the sequence that this layer does not hold. valid: bool (B, held), False where a shorter row of
    the batch is padded; None if no row is. fixed: how many positions, up to the last one that follows a dropped token,
    must stay, because cropping into them could not tell the dropped tokens from the others. shift: int64 (B, 1), how
    far renumbering has moved this layer's positions back; None if they are the original ones. shared: in the first
    layer, what further questions about the same video go on from, if that was to be kept.
    """

    def __init__(
        self,
        layer: DynamicLayer,
        *,
        removed: int,
        valid: torch.Tensor | None,
        fixed: int,
        shift: torch.Tensor | None = None,
        shared: SharedPrefill | None = None,
    ) -> None:
        super().__init__()
        if layer.keys is None or layer.values is None:
            raise ValueError("A layer of the cache that holds nothing cannot be pruned.")
        self.lazy_initialization(layer.keys, layer.values)
        self.keys, self.values = layer.keys, layer.values
        self.removed = removed
        self.valid = valid
        self.fixed = fixed
        self.shift = shift
        self.shared = shared
        self.expected = False

    @property
    def held(self) -> int:
        """Positions stored, padding included."""
        return super().get_seq_length()

    def get_seq_length(self) -> int:
        return self.held + self.removed if self.held else 0

    def update(self, *args: Any, **kwargs: Any) -> tuple[torch.Tensor, torch.Tensor]:
        """Adds keys and values. Raises `InputError` where no hook has seen to it that the mask fits."""
        if not self.expected:
            raise InputError(UNEXPECTED)
        self.expected = False
        return super().update(*args, **kwargs)

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        return self.held + query_length, self.removed

    def validity(self) -> torch.Tensor | None:
        """Bool (B, held): `valid`, cut or extended to what the layer holds now. None if nothing is padded."""
        if self.valid is None or self.valid.shape[1] == self.held:
            return self.valid
        extended = self.valid.new_ones(self.valid.shape[0], self.held)
        shared = min(self.held, self.valid.shape[1])
        extended[:, :shared] = self.valid[:, :shared]
        return extended

    def crop(self, tokens_to_remove: int) -> None:
        if tokens_to_remove > 0:
            raise InputError(
                f"crop takes a negative number, how many tokens are taken off the cache's end, got {tokens_to_remove}."
            )
        if abs(tokens_to_remove) > self.held - self.fixed:
            raise InputError(
                f"Only the {self.held - self.fixed} tokens after the compressed video can be cropped off the cache, "
                f"got {abs(tokens_to_remove)}: positions count every token of the video, kept or not."
            )
        super().crop(tokens_to_remove)
        self.valid = self.validity()

    def reset(self) -> None:
        super().reset()
        self.removed, self.valid, self.fixed, self.shift, self.shared = 0, None, 0, None, None

    def _select_rows(self, select: Callable[[torch.Tensor], torch.Tensor]) -> None:
        self.valid = None if self.valid is None else select(self.valid)
        self.shift = None if self.shift is None else select(self.shift)


class PrunedSlidingLayer(_RowsFollow, DynamicSlidingWindowLayer):
    """Keys and values of the last kept tokens of a layer with a window, under the length of the whole sequence.

    places: int64 (B or 1, n), where in the whole sequence the last n positions that went in stood. valid: bool (B, n),
    False where a row is padded; None if none is. total: the length of the whole sequence. Holds as many tokens as a
    window has beside the query: those of them that stood further back are masked. What has left it cannot come back.
    """

    def __init__(
        self, layer: DynamicLayer, window: int, *, places: torch.Tensor, valid: torch.Tensor | None, total: int
    ) -> None:
        super().__init__(window)
        if layer.keys is None or layer.values is None:
            raise ValueError("A layer of the cache that holds nothing cannot be pruned.")
        self.lazy_initialization(layer.keys, layer.values)
        self.keys, self.values = (part[:, :, 1 - window :] for part in (layer.keys, layer.values))
        self.cumulative_length = total
        self.places, self.valid = places[:, -self.held :], None if valid is None else valid[:, -self.held :]
        self.expected = False
        self.is_croppable = False

    @property
    def held(self) -> int:
        """Positions stored, padding included."""
        return 0 if self.keys is None or not self.keys.numel() else self.keys.shape[-2]

    @property
    def removed(self) -> int:
        return self.cumulative_length - self.held

    def update(self, *args: Any, **kwargs: Any) -> tuple[torch.Tensor, torch.Tensor]:
        """Adds keys and values. Raises `InputError` where no hook has seen to it that the mask fits."""
        if not self.expected:
            raise InputError(UNEXPECTED)
        self.expected = False
        before = self.cumulative_length
        full = super().update(*args, **kwargs)
        new = torch.arange(before, self.cumulative_length, device=self.places.device)
        self.places = torch.cat([self.places, new.expand(len(self.places), -1)], dim=1)[:, -self.held :]
        if self.valid is not None:
            self.valid = torch.cat([self.valid, self.valid.new_ones(len(self.valid), len(new))], 1)[:, -self.held :]
        return full

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        return self.held + query_length, self.removed

    def crop(self, tokens_to_remove: int) -> None:
        if tokens_to_remove:
            raise InputError("Tokens cannot be cropped off a pruned cache with sliding windows.")

    def _select_rows(self, select: Callable[[torch.Tensor], torch.Tensor]) -> None:
        self.places = self.places if len(self.places) == 1 else select(self.places)
        self.valid = None if self.valid is None else select(self.valid)


PRUNED = (PrunedLayer, PrunedSlidingLayer)


def is_pruned(cache: Cache | None) -> bool:
    """Whether compression has taken tokens out of this cache."""
    return isinstance(cache, Cache) and any(isinstance(layer, PRUNED) for layer in cache.layers)


def held_in(cache: Cache, index: int) -> int:
    """Positions that a layer of the cache stores, padding included."""
    if index >= len(cache.layers):
        return 0
    keys: Any = getattr(cache.layers[index], "keys", None)
    return 0 if keys is None or not keys.numel() else keys.shape[-2]


def check_rows(cache: Cache | None, rows: int) -> None:
    """Raises `InputError` if a pruned cache is of another number of rows than the `rows` that go on from it."""
    layers = cache.layers if isinstance(cache, Cache) else []
    pruned: list[Any] = [layer for layer in layers if isinstance(layer, PRUNED)]
    held = next((len(layer.keys) for layer in pruned if layer.held), rows)
    if held != rows:
        raise InputError(
            f"The cache is of {held} row{'s' * (held > 1)}, but {rows} reach the decoder (beams and return sequences "
            "count): its batch_repeat_interleave repeats the rows of a cache."
        )


def check_cache(cache: Cache | None) -> None:
    """Raises `InputError` for a cache that cannot be pruned."""
    if cache is None:
        return
    known = {DynamicLayer, DynamicSlidingWindowLayer, LinearAttentionLayer, *PRUNED}
    kinds = {type(layer) for layer in cache.layers if holds_keys(layer)}
    if not isinstance(cache, DynamicCache) or not kinds <= known:
        named = ", ".join(sorted({type(cache).__name__} | {kind.__name__ for kind in kinds}))
        raise InputError(f"Compression works with a DynamicCache or with no cache, got {named}.")
    if getattr(cache, "offloading", False):
        raise InputError("Compression works with a cache that stays on its device, got one that is offloaded.")
