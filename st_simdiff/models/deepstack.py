"""Vision features that a decoder adds to its visual tokens after its first layers (DeepStack, Qwen3-VL)."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from st_simdiff.models.packing import Packing


@dataclass
class Deepstack:
    """The features of every stage, and which token of the sequence each row of them belongs to.

    features: one (n, D) a layer, from the first layer on. source: int64 (B, L), the row of the features that a position
    gets, -1 for none. A slot that took in others (a merged token) gets its own features.
    """

    features: list[torch.Tensor]
    source: torch.Tensor
    _where: tuple[torch.Tensor, torch.Tensor] | None = None

    @classmethod
    def of(cls, mask: torch.Tensor, features: list[torch.Tensor]) -> Deepstack:
        """From the decoder's arguments. mask: bool (B, L), whose True positions, in order, are the rows of features."""
        rank = mask.flatten().cumsum(0).view_as(mask) - 1
        return cls(features, rank.masked_fill(~mask, -1))

    def pack(self, packing: Packing) -> None:
        """Follows the tokens that go on. What pads a row is seen by no token, so it does not matter what it gets."""
        self.source = packing.take(self.source, 1)
        self._where = None

    def add(self, layer: int, hidden: torch.Tensor) -> torch.Tensor:
        """The hidden states (B, L, D) that leave decoder layer `layer`, with its features added."""
        if layer >= len(self.features):
            return hidden
        if self._where is None:  # one read of the device for each length of the sequence
            rows, columns = (self.source >= 0).nonzero(as_tuple=True)
            self._where = rows, columns
        rows, columns = (part.to(hidden.device) for part in self._where)
        features = self.features[layer].to(hidden.device, hidden.dtype)
        hidden = hidden.clone()
        hidden[rows, columns] += features[self.source.to(hidden.device)[rows, columns]]
        return hidden
