"""The masks of decoder layers that see fewer tokens than the sequence has."""

from __future__ import annotations

from typing import Any

import torch

from st_simdiff.errors import InputError
from st_simdiff.models.account import Account
from st_simdiff.models.layer_kinds import LINEAR, SLIDING, visible
from st_simdiff.models.transformers_api import Cache, causal_mask, mask_for


class LayerMasks:
    """Makes each layer's mask from the account of what it holds and sees.

    blocks: int64 (B, L), the block of every position that the decoder was given: tokens of one block see each other in
    sliding-window layers; -1 for none. None where a model has no blocks.
    """

    def __init__(self, config: Any, account: Account, blocks: torch.Tensor | None) -> None:
        self.config, self.account, self.blocks = config, account, blocks
        self._made: dict[str, tuple[tuple, torch.Tensor | None]] = {}

    def of(self, index: int, hidden: torch.Tensor, cache: Cache | None) -> torch.Tensor | None:
        """The mask of layer `index`, whose input is `hidden` (B, L, D), in the form that its attention takes.

        Of a linear layer: bool (B, L), which positions are tokens. Raises `InputError` where the layer shares the keys
        of one that saw other tokens.
        """
        layers, view = self.account.layers, self.account.seen[index][1]
        kind, source = layers.kinds[index], layers.sources[index]
        past, same = self.account.seen[source]
        if same is not view:
            raise InputError("Tokens cannot be dropped behind a layer whose keys later layers share.")
        if kind == LINEAR:
            return None if view.length == 1 or view.valid is None else view.valid.to(hidden.device)
        if kind != SLIDING and view.length == 1 and past.valid is None and view.valid is None:
            return None  # one token sees all that is held
        key = (past.held, past.removed, id(past.valid), id(past.places), id(view))
        if kind not in self._made or self._made[kind][0] != key:  # one of each kind: that of a long batch is large
            self._made.pop(kind, None)
            make = self._sliding if kind == SLIDING else self._full
            self._made[kind] = (key, make(source, hidden, cache))
        return self._made[kind][1]

    def _full(self, index: int, hidden: torch.Tensor, cache: Cache | None) -> torch.Tensor | None:
        mask, removed = self.account.key_validity(index), self.account.seen[index][0].removed
        if mask is not None:
            mask = torch.cat([self.account.all_valid(removed), mask], dim=1)
        return causal_mask(self.config, hidden, mask, cache, index)

    def _sliding(self, index: int, hidden: torch.Tensor, cache: Cache | None) -> torch.Tensor:  # noqa: ARG002
        account, (past, view) = self.account, self.account.seen[index]
        places, blocks = account.places(index), self.blocks
        if blocks is not None:
            own = blocks if view.kept is None else blocks.gather(1, view.kept.expand(account.batch, -1))
            blocks = torch.cat([own.new_full((account.batch, past.held), -1), own], dim=1)
        seen = visible(
            places[:, past.held :],
            places,
            window=account.layers.window,
            valid=account.key_validity(index),
            blocks=None if blocks is None else (blocks[:, past.held :], blocks),
        )
        return mask_for(self.config, seen.expand(account.batch, -1, -1, -1), hidden)
