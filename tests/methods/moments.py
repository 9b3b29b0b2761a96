"""Synthetic videos, and a walk of a method through the moments of a prefill without any model."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch

from st_simdiff.methods.base import Method, Reduction, StageRecord, VisionRecord, VisualTokens
from st_simdiff.selection.grid import TokenGrid


def synthetic(
    grid: TokenGrid,
    *,
    seed: int = 0,
    dim: int = 16,
    num_layers: int = 6,
    dtype: torch.dtype = torch.float32,
    device: str = "cpu",
) -> VisualTokens:
    """Random tokens that drift from frame to frame, with shared newline features, as they enter a language model."""
    random = torch.Generator().manual_seed(seed)
    size = grid.height * grid.width
    patches = torch.randn(grid.frames, size, dim, generator=random)
    for frame in range(1, grid.frames):
        patches[frame] = 0.95 * patches[frame - 1] + 0.3 * patches[frame]
    features = torch.randn(dim, generator=random).repeat(grid.count, 1)
    features[grid.patches().flatten()] = patches.flatten(0, 1)
    count = grid.frames * size
    return VisualTokens(
        features=features.to(device, dtype),
        offsets=torch.arange(grid.count, device=device),
        grid=grid,
        num_layers=num_layers,
        vision=VisionRecord(
            attention=torch.rand(count, generator=random).to(device) / size,
            keys=torch.randn(count, 8, generator=random).to(device, dtype),
        ),
    )


@dataclass(frozen=True)
class Walk:
    """What a method did: its stages, with the tokens that each was given, and the tokens left in the end."""

    stages: list[tuple[VisualTokens, StageRecord]]
    left: VisualTokens

    @property
    def kept(self) -> torch.Tensor:
        """Offsets of the tokens left, int64 (m,)."""
        return self.left.offsets


def walk(method: Method, tokens: VisualTokens, *, seed: int = 1) -> Walk:
    """Takes `tokens` through the input and every decoder layer. A layer adds a little noise to the hidden states."""
    random = torch.Generator().manual_seed(seed)
    stages: list[tuple[VisualTokens, StageRecord]] = []

    def apply(tokens: VisualTokens, layer: int, reduction: Reduction | None) -> VisualTokens:
        if reduction is None:
            return tokens
        record = StageRecord(layer, tokens.offsets.numel(), reduction)
        stages.append((tokens, record))
        features = tokens.features[reduction.kept] if reduction.values is None else reduction.values
        return replace(
            tokens, features=features, offsets=tokens.offsets[reduction.kept], history=(*tokens.history, record)
        )

    tokens = apply(tokens, -1, method.reduce_input(tokens))
    layers = method.layers(tokens.num_layers)
    for layer in range(tokens.num_layers):
        noise = torch.randn(tokens.features.shape, generator=random).to(tokens.features)
        scores = torch.rand(tokens.offsets.numel(), generator=random).to(tokens.features.device)
        tokens = replace(tokens, features=tokens.features + 0.05 * noise, attention=lambda scores=scores: scores)
        if layer in layers:
            tokens = apply(tokens, layer, method.reduce_after_layer(layer, tokens))
    return Walk(stages, tokens)


def check(tokens: VisualTokens, reduction: Reduction) -> None:
    """What every reduction promises, whatever the method."""
    before, kept = tokens.offsets.numel(), reduction.kept
    assert kept.dtype == torch.int64
    assert kept.device == tokens.features.device
    assert bool((kept[1:] > kept[:-1]).all()), "kept slots ascend and are unique"
    assert kept.numel() > 0
    assert int(kept[0]) >= 0
    assert int(kept[-1]) < before
    if reduction.values is not None:
        assert reduction.values.shape == (kept.numel(), tokens.features.shape[1])
        assert reduction.values.dtype == tokens.features.dtype
        assert reduction.values.device == tokens.features.device
    if reduction.merged_into is not None:
        into = reduction.merged_into
        assert into.shape == (before,)
        assert into.dtype == torch.int64
        assert torch.equal(into[kept], kept), "a kept slot is its own"
        assert bool(torch.isin(into[into >= 0], kept).all()), "others live in kept slots"
        assert bool((into >= -1).all())
