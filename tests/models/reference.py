"""Compression by brute force: nothing is taken out of the sequence, dropped tokens are masked as keys.

The decoder's layers run over the whole sequence with dense masks and the original rotary positions, and every new token
starts again from the beginning. Slow, and with nothing in common with the code it checks.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

import torch

from st_simdiff.checkpoints.llava_video.modeling import LlavaVideo
from st_simdiff.methods.base import VisualTokens
from st_simdiff.methods.st_simdiff import STSimDiff
from st_simdiff.selection.budget import target_count


@dataclass(frozen=True)
class Sequence:
    """What enters the decoder, one row.

    positions: (1, L) or (3, 1, L), one for every layer. visual: bool (1, L). deepstack: one (n, D) a layer for its True
    positions. edits: what happens to the hidden states (1, L, D) that leave a layer.
    """

    embeds: torch.Tensor
    positions: list[torch.Tensor]
    visual: torch.Tensor | None = None
    deepstack: tuple[torch.Tensor, ...] = ()
    edits: dict[int, Callable[[torch.Tensor], torch.Tensor]] = field(default_factory=dict)


def decoder_of(model):
    return model.language_model.model if isinstance(model, LlavaVideo) else model.base_model.language_model


def output_embeddings(model):
    return (model.language_model if isinstance(model, LlavaVideo) else model).get_output_embeddings()


@torch.no_grad()
def entering(model, inputs) -> Sequence:
    """Runs the plain model on one row, and tells what its decoder was given."""
    seen = {}

    def note(_module, _args, kwargs):
        seen.update(kwargs)

    handle = decoder_of(model).register_forward_pre_hook(note, with_kwargs=True)
    try:
        model(**inputs, use_cache=False)
    finally:
        handle.remove()
    embeds, positions = seen["inputs_embeds"], seen.get("position_ids")
    if positions is None:
        positions = torch.arange(embeds.shape[1], device=embeds.device)[None]
    if positions.dim() == 3:
        positions = positions[-3:]
    deepstack, positions = seen.get("deepstack_visual_embeds"), [positions] * len(decoder_of(model).layers)
    return Sequence(embeds, positions, seen.get("visual_pos_masks"), () if deepstack is None else tuple(deepstack))


def dense_mask(alive, dtype):
    """Additive (1, 1, L, L): a query sees itself, and the keys before it that are alive, bool (L,)."""
    length = alive.numel()
    causal = torch.ones(length, length, dtype=torch.bool, device=alive.device).tril()
    allowed = (causal & alive) | torch.eye(length, dtype=torch.bool, device=alive.device)
    return torch.zeros(length, length, dtype=dtype, device=alive.device).masked_fill(~allowed, torch.finfo(dtype).min)[
        None, None
    ]


def through_layers(decoder, sequence, alive_per_layer, stop=None):
    """Hidden states after the first `stop` layers."""
    hidden = sequence.embeds
    for index, layer in enumerate(decoder.layers[:stop]):
        mask = dense_mask(alive_per_layer[index], hidden.dtype)
        rotary = decoder.rotary_emb(hidden, sequence.positions[index])
        hidden = layer(hidden, attention_mask=mask, position_embeddings=rotary)
        hidden = hidden[0] if isinstance(hidden, tuple) else hidden
        if index < len(sequence.deepstack):
            hidden = hidden.clone()
            hidden[sequence.visual] += sequence.deepstack[index]
        if index in sequence.edits:
            hidden = sequence.edits[index](hidden)
    return hidden


@torch.no_grad()
def masked_logits(model, sequence, alive_per_layer):
    """Logits of every position (L, V). alive_per_layer: one bool (L,) a decoder layer."""
    decoder = decoder_of(model)
    hidden = through_layers(decoder, sequence, alive_per_layer)
    return output_embeddings(model)(decoder.norm(hidden))[0]


@torch.no_grad()
def masked_greedy(model, sequence, alive_per_layer, steps):
    """Greedy tokens and the logits of every step (steps, V), recomputing the whole sequence each time."""
    tokens, logits = [], []
    for _ in range(steps):
        logits.append(masked_logits(model, sequence, alive_per_layer)[-1])
        tokens.append(int(logits[-1].argmax()))
        sequence, alive_per_layer = extended(model, sequence, alive_per_layer, tokens[-1:])
    return tokens, torch.stack(logits)


def extended(model, sequence, alive_per_layer, tokens):
    """The sequence and its masks with text tokens added."""
    device = sequence.embeds.device
    new = torch.ones(len(tokens), dtype=torch.bool, device=device)
    steps = torch.arange(1, len(tokens) + 1, device=device)
    sequence = replace(
        sequence,
        embeds=torch.cat([sequence.embeds, model.get_input_embeddings()(torch.tensor([tokens], device=device))], dim=1),
        positions=[torch.cat([own, own[..., -1:] + steps], dim=-1) for own in sequence.positions],
        visual=None if sequence.visual is None else torch.cat([sequence.visual, ~new[None]], dim=-1),
    )
    return sequence, [torch.cat([alive, new]) for alive in alive_per_layer]


def forced_logits(model, sequence, alive_per_layer, tokens):
    """Logits (len(tokens), V) that each of the given new tokens is drawn from."""
    start = sequence.embeds.shape[1] - 1
    return masked_logits(model, *extended(model, sequence, alive_per_layer, tokens))[start : start + len(tokens)]


@contextmanager
def attention(model, implementation):
    """The model with another attention implementation."""
    decoder = decoder_of(model)
    before = decoder.config._attn_implementation
    decoder.config._attn_implementation = implementation
    try:
        yield
    finally:
        decoder.config._attn_implementation = before


@torch.no_grad()
def last_query_scores(model, sequence, alive_per_layer, layer_index):
    """Eager attention weights of the last query in decoder layer `layer_index`, mean over heads, (L,)."""
    decoder = decoder_of(model)
    with attention(model, "eager"):
        hidden = through_layers(decoder, sequence, alive_per_layer, layer_index)
        layer = decoder.layers[layer_index]
        _, weights = layer.self_attn(
            hidden_states=layer.input_layernorm(hidden),
            attention_mask=dense_mask(alive_per_layer[layer_index], hidden.dtype),
            position_embeddings=decoder.rotary_emb(hidden, sequence.positions[layer_index]),
        )
    return weights[0, :, -1].mean(0)


def st_simdiff_masks(model, sequence, videos, method: STSimDiff):
    """The masks of every layer under ST-SimDiff, and what is kept of every video (offsets, ascending)."""
    layers = len(decoder_of(model).layers)
    candidates = torch.ones(sequence.embeds.shape[1], dtype=torch.bool)
    for video in videos:
        where = torch.tensor(video.positions)
        tokens = VisualTokens(sequence.embeds[0, where], torch.arange(video.grid.count), video.grid, layers)
        candidates[where] = False
        candidates[where[method.reduce_input(tokens).kept]] = True
    early = [candidates] * layers
    scores = last_query_scores(model, sequence, early, method.prune_layer)
    final, kept = candidates.clone(), []
    for video in videos:
        where = torch.tensor(video.positions)
        order = scores[where].masked_fill(~candidates[where], -1).argsort(descending=True)
        best = order[: target_count(method.retention, video.grid.count)].sort().values
        final[where] = False
        final[where[best]] = True
        kept.append(best.tolist())
    return early[: method.prune_layer + 1] + [final] * (layers - method.prune_layer - 1), kept
