"""What several prompts about one video share: the choice at the decoder's input, and keys and values.

A decoder is causal, so a prompt that begins like an earlier one can go on from its cache. Under compression that holds
in all layers where the question had no part in which tokens were kept, or where the prompt is the same, and else in the
layers before the first choice that asked it (`st_simdiff.models.shared_prefill`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from st_simdiff.methods.base import Method, Reduction, VisualTokens
from st_simdiff.models.resume import shared_prefill
from st_simdiff.models.trace import VideoTrace
from st_simdiff.models.transformers_api import DynamicCache, TransformersModule


class ChoosesOnce:
    """A method that chooses among the tokens of one video, again and again: at the input it does so once.

    For prompts about that video alone: what is chosen there depends on nothing else. Stands in for a `Method`.
    """

    def __init__(self, method: Method) -> None:
        self.method = method
        self.choices: list[Reduction | None] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self.method, name)

    def reduce_input(self, tokens: VisualTokens) -> Reduction | None:
        if not self.choices:
            self.choices.append(self.method.reduce_input(tokens))
        return self.choices[0]


@dataclass(frozen=True)
class Prefix:
    """A prompt with one video, as it went through the decoder under a method.

    ids: int64 (L,), one of them the placeholder of the video. place: where that is. trace: what became of the video.
    cache: begins with the prompt, whatever came behind it.
    """

    ids: torch.Tensor
    place: int
    trace: VideoTrace
    cache: DynamicCache

    def shared(self, ids: torch.Tensor) -> int:
        """How many of `ids`, int64 (L',), need not go through the decoder's first layers again: 0, or the video and all
        before it and what follows alike, but never the last one, whose logits are wanted. Reads the device.
        """
        length = min(len(self.ids), len(ids))
        differ = (self.ids[:length] != ids[:length]).nonzero()
        alike = int(differ[0]) if len(differ) else length
        if self.trace.asked and shared_prefill(self.cache) is None and not self._same(ids):
            return 0
        shared = min(alike, len(ids) - 1)
        return shared if shared > self.place else 0

    def layers(self, ids: torch.Tensor) -> int:
        """In how many of the decoder's layers that holds: all of them, or those before the first choice that asks the
        question.
        """
        prefill = shared_prefill(self.cache)
        if prefill is None or not self.trace.asked or self._same(ids):
            return self.trace.shape.layers
        return prefill.layer + 1

    def until(self, count: int, ids: torch.Tensor) -> DynamicCache:
        """The cache, cut off behind the first `count` of `ids`. It is the same object: there is no second copy."""
        held = count - 1 + self.trace.grid.count
        surplus = self.cache.get_seq_length() - held
        if surplus:
            self.cache.crop(-surplus)
        prefill = shared_prefill(self.cache)
        if prefill is not None:  # the last position of the same prompt chooses what it has chosen
            prefill.valid_from = len(self.ids) - 1 + self.trace.grid.count - self._same(ids)
        return self.cache

    def _same(self, ids: torch.Tensor) -> bool:
        return torch.equal(self.ids, ids)


def new_cache(model: TransformersModule) -> DynamicCache:
    """An empty cache for the decoder of a LLaVA-Video or NVILA model."""
    return DynamicCache(config=model.language_model.config)
