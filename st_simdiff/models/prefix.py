"""What several prompts about one video share: the choice at the decoder's input, and keys and values.

A decoder is causal, so a prompt that begins like an earlier one can go on from its cache. Under compression that holds
where the tokens that were kept do not depend on the question (`Method.asks_query`), or where the prompt is the same.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from st_simdiff.methods.base import Method, Reduction, VisualTokens
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
    cache: begins with the prompt, whatever came behind it. asks_query: whether the kept tokens depend on the question.
    """

    ids: torch.Tensor
    place: int
    trace: VideoTrace
    cache: DynamicCache
    asks_query: bool

    def shared(self, ids: torch.Tensor) -> int:
        """How many of `ids`, int64 (L',), need not go through the decoder again: 0, or the video and all before it
        and what follows alike, but never the last one, whose logits are wanted. Reads the device.
        """
        length = min(len(self.ids), len(ids))
        differ = (self.ids[:length] != ids[:length]).nonzero()
        alike = int(differ[0]) if len(differ) else length
        if self.asks_query and not alike == len(self.ids) == len(ids):
            return 0
        shared = min(alike, len(ids) - 1)
        return shared if shared > self.place else 0

    def until(self, count: int) -> DynamicCache:
        """The cache, cut off behind the first `count` of `ids`. It is the same object: there is no second copy."""
        held = count - 1 + self.trace.grid.count
        surplus = self.cache.get_seq_length() - held
        if surplus:
            self.cache.crop(-surplus)
        return self.cache


def new_cache(model: TransformersModule) -> DynamicCache:
    """An empty cache for the decoder of a LLaVA-Video or NVILA model."""
    return DynamicCache(config=model.language_model.config)
