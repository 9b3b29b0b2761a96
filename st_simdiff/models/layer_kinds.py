"""What the layers of a decoder are, and where a method can act in it.

A full-attention layer lets a token see all tokens before it. A sliding-window layer lets it see those at most a window
back, counted in the whole sequence: a token that was dropped still counts. A linear layer (Gated DeltaNet) has a state
instead of keys, into which a shorter sequence goes. Latent attention (MLA) and mixtures of experts are full-attention
layers to compression; only their sizes differ.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from st_simdiff.errors import InputError
from st_simdiff.methods.base import Method

FULL, SLIDING, LINEAR = "full_attention", "sliding_attention", "linear_attention"
SUPPORTED = (FULL, SLIDING, LINEAR)


@dataclass(frozen=True)
class DecoderLayers:
    """kinds: one a layer. window: how many positions a sliding layer lets a token see, itself included; None without.

    sources: the layer whose keys and values each layer attends to: itself, or an earlier one that shares them.
    """

    kinds: tuple[str, ...]
    window: int | None
    sources: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.kinds)

    def stages(self, method: Method) -> tuple[int, ...]:
        """After which layers `method` acts: those that it names, or the next ones that have the attention it asks for.

        Stages that meet in one layer become one. Raises `InputError` for a method that these layers cannot serve.
        """
        named = method.layers(len(self))
        if method.asks_query:
            moved = tuple(self._next_full(layer, method) for layer in named)
        elif method.asks_visual:
            moved = tuple(self._next_full(layer + 1, method) - 1 for layer in named)
        else:
            moved = named
        stages = tuple(dict.fromkeys(moved))
        shared = [source for layer, source in enumerate(self.sources) if source != layer]
        if shared and any(stage >= min(shared) for stage in stages):
            raise InputError(
                f"{method.name} acts after decoder layer {max(stages)}, but later layers of this model share the keys "
                f"of layer {min(shared)}: tokens can be dropped before it alone."
            )
        if method.renumbers_positions and SLIDING in self.kinds:
            raise InputError(
                f"{method.name} renumbers positions, but this model has sliding windows, which are counted in the "
                "positions of the whole sequence."
            )
        return stages

    def _next_full(self, layer: int, method: Method) -> int:
        found = next((index for index in range(layer, len(self)) if self.kinds[index] == FULL), None)
        if found is None:
            raise InputError(
                f"{method.name} needs the attention of a full-attention layer from decoder layer {layer} on, and the "
                f"model has none of its {len(self)} there."
            )
        return found


def decoder_kinds(config: Any) -> DecoderLayers:
    """The layers of a decoder with this config. Raises `InputError` for a kind that cannot be compressed."""
    count, window = config.num_hidden_layers, getattr(config, "sliding_window", None)
    kinds = getattr(config, "layer_types", None)
    kinds = tuple(kinds or (SLIDING if window is not None else FULL,) * count)[:count]
    unknown = sorted(set(kinds).difference(SUPPORTED))
    if unknown:
        raise InputError(
            f"Compression works in decoder layers of {', '.join(SUPPORTED)}; this model has {', '.join(unknown)}."
        )
    modes = getattr(config, "kv_sharing_modes", None) or [None] * count
    stores = {kind: index for index, (kind, mode) in enumerate(zip(kinds, modes, strict=True)) if mode == "store"}
    sources = tuple(stores[kinds[index]] if mode == "reuse" else index for index, mode in enumerate(modes))
    return DecoderLayers(kinds, window if SLIDING in kinds else None, sources)


def visible(
    query: torch.Tensor,
    key: torch.Tensor,
    *,
    window: int | None,
    valid: torch.Tensor | None,
    blocks: tuple[torch.Tensor, torch.Tensor] | None,
) -> torch.Tensor:
    """Which keys a query sees in a causal layer, bool (B, 1, Q, K).

    query, key: int64 (B or 1, Q), (B or 1, K), places in the whole sequence. window: None sees all before. valid: bool
    (B, K), False where a key is padding. blocks: int64 (B or 1, Q) and (B or 1, K), the block of each, -1 for none: the
    tokens of a block see each other. Every query sees itself, so that padding has something to see.
    """
    q, k = query[:, :, None], key[:, None, :]
    seen = q >= k
    if blocks is not None:
        own, other = blocks[0][:, :, None], blocks[1][:, None, :]
        seen = seen | ((own == other) & (own >= 0))
    if window is not None:
        seen = seen & (k > q - window)
    if valid is not None:
        seen = seen & valid[:, None, :]
    return (seen | (q == k))[:, None]
