"""What a vision tower's attention says about its patches, recorded while the tower runs."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from st_simdiff.methods.base import VisionInput
from st_simdiff.models.transformers_api import TransformersModule

_SCORE_BYTES = 1 << 26
"""Attention scores computed at once: the frames of a chunk are taken in turns that fit."""


@dataclass(frozen=True)
class FrameRecord:
    """What the patches of T frames got.

    attention: float32 (T, n, 1), received by every patch, mean over queries and heads. keys: (T, n, d_head), mean over
    heads. pooled: (T, d), what the tower's pooling head returned. Any may be None.
    """

    attention: torch.Tensor | None
    keys: torch.Tensor | None
    pooled: torch.Tensor | None = None

    def frames(self, start: int, stop: int) -> FrameRecord:
        parts = (self.attention, self.keys, self.pooled)
        return FrameRecord(*(None if part is None else part[start:stop] for part in parts))


class _Recording(threading.local):
    """What one thread is recording: nothing, until it asks for something."""

    wanted: frozenset[VisionInput] = frozenset()
    seen: tuple[FrameRecord, ...] = ()
    pooled: tuple[torch.Tensor, ...] = ()


class SiglipRecorder:
    """Records one SigLIP attention module for the thread that asks for it, from `start` to `take`.

    head: the tower's pooling head, if it has one, whose output is recorded as well.
    """

    def __init__(self, attention: TransformersModule, *, head: nn.Module | None = None) -> None:
        self.attention = attention
        self._own = _Recording()
        self.handles = [attention.register_forward_pre_hook(self._record, with_kwargs=True)]
        if head is not None:
            self.handles.append(head.register_forward_hook(self._record_head))

    def start(self, wanted: frozenset[VisionInput]) -> None:
        """Forgets what has been seen, and records `wanted` from here on."""
        self._own.wanted, self._own.seen, self._own.pooled = wanted, (), ()

    def take(self) -> FrameRecord:
        """What has been seen since `start`. Empty records if that is nothing."""
        own = self._own
        wanted, seen, pooled = own.wanted, own.seen, own.pooled
        self.start(frozenset())
        if not seen:
            return FrameRecord(None, None)
        return FrameRecord(
            _joined([record.attention for record in seen]) if "attention" in wanted else None,
            _joined([record.keys for record in seen]) if "keys" in wanted else None,
            torch.cat(pooled) if pooled else None,
        )

    @torch.compiler.disable
    @torch.no_grad()
    def _record_head(self, _head: nn.Module, _args: tuple, output: torch.Tensor) -> None:
        if self._own.wanted:
            self._own.pooled += (output.detach(),)

    @torch.compiler.disable
    @torch.no_grad()
    def _record(self, module: Any, args: tuple, kwargs: dict) -> None:
        wanted = self._own.wanted
        if not wanted:
            return
        hidden = args[0] if args else kwargs["hidden_states"]
        heads = (module.num_heads, module.head_dim)
        keys = module.k_proj(hidden).unflatten(-1, heads)
        attention = None
        if "attention" in wanted:
            queries = module.q_proj(hidden).unflatten(-1, heads)
            step = max(1, _SCORE_BYTES // (hidden.shape[1] ** 2 * module.num_heads * 4))
            turns = range(0, len(hidden), step)
            attention = torch.cat([_received(queries[t : t + step], keys[t : t + step], module.scale) for t in turns])
        self._own.seen += (FrameRecord(attention, keys.mean(-2) if "keys" in wanted else None),)


def _joined(parts: list[torch.Tensor | None]) -> torch.Tensor:
    return torch.cat([part for part in parts if part is not None])


def _received(queries: torch.Tensor, keys: torch.Tensor, scale: float) -> torch.Tensor:
    """Attention every patch receives, mean over queries and heads, of (T, n, heads, d): float32 (T, n, 1)."""
    scores = queries.transpose(1, 2).float() @ keys.permute(0, 2, 3, 1).float() * scale
    return scores.softmax(-1).mean((1, 2)).unsqueeze(-1)
