"""Compression by brute force: nothing is taken out of the sequence, dropped tokens are masked as keys.

The decoder's layers run over the whole sequence with dense masks and the original rotary positions, and every new token
starts again from the beginning; windows are counted in the whole sequence. Linear layers, which have no mask of keys,
run from scratch on the shortened sequence. Slow, and with nothing in common with the code it checks.
"""

from __future__ import annotations

import inspect
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
    positions. edits: what happens to the hidden states (1, L, D) that leave a layer. per_layer: (1, L, layers, d),
    features of every layer. blocks: int64 (L,), frames whose tokens see each other in sliding layers, -1 for none.
    wider: added to the width of the window, for a wrong variant.
    """

    embeds: torch.Tensor
    positions: list[torch.Tensor]
    visual: torch.Tensor | None = None
    deepstack: tuple[torch.Tensor, ...] = ()
    edits: dict[int, Callable[[torch.Tensor], torch.Tensor]] = field(default_factory=dict)
    per_layer: torch.Tensor | None = None
    blocks: torch.Tensor | None = None
    wider: int = 0


def decoder_of(model):
    if isinstance(model, LlavaVideo):
        return model.language_model.model
    base = model.base_model
    return getattr(base, "language_model", None) or getattr(base, "text_model", None) or model.model


def kinds_of(decoder):
    kinds = getattr(decoder.config, "layer_types", None)
    return list(kinds) if kinds else ["full_attention"] * len(decoder.layers)


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
    deepstack = () if deepstack is None else tuple(deepstack)
    blocks = None
    if getattr(decoder_of(model).config, "use_bidirectional_attention", None) == "vision":
        blocks, types = [], inputs["mm_token_type_ids"][0].tolist()
        for place, kind in enumerate(types):
            new = place == 0 or types[place - 1] == 0
            blocks.append(-1 if kind == 0 else max(blocks, default=-1) + 1 if new else blocks[-1])
        blocks = torch.tensor(blocks)
    return Sequence(
        embeds,
        positions,
        seen.get("visual_pos_masks"),
        deepstack,
        per_layer=seen.get("per_layer_inputs"),
        blocks=blocks,
    )


def dense_mask(alive, dtype, window=None, blocks=None):
    """Additive (1, 1, L, L): a query sees itself, and the keys before it that are alive, bool (L,), and near."""
    length = alive.numel()
    causal = torch.ones(length, length, dtype=torch.bool, device=alive.device).tril()
    if blocks is not None:
        causal = causal | ((blocks[:, None] == blocks) & (blocks >= 0))
    if window is not None:
        causal = causal & torch.ones_like(causal).triu(1 - window)
    allowed = (causal & alive) | torch.eye(length, dtype=torch.bool, device=alive.device)
    return torch.zeros(length, length, dtype=dtype, device=alive.device).masked_fill(~allowed, torch.finfo(dtype).min)[
        None, None
    ]


def through_layers(decoder, sequence, alive_per_layer, stop=None):
    """Hidden states after the first `stop` layers."""
    hidden, kinds = sequence.embeds, kinds_of(decoder)
    shared, per_layer = {}, sequence.per_layer
    if per_layer is not None:
        per_layer = decoder.project_per_layer_inputs(hidden, per_layer)
    for index, layer in enumerate(decoder.layers[:stop]):
        alive = alive_per_layer[index]
        rotary = rotary_of(decoder, hidden, sequence, index)
        if kinds[index] == "linear_attention":
            short = tuple(part[..., alive, :] for part in rotary)
            new = layer(hidden[:, alive], attention_mask=None, position_embeddings=short)
            hidden = hidden.clone()
            hidden[:, alive] = new[0] if isinstance(new, tuple) else new
            continue
        mask = mask_of(decoder, hidden, sequence, alive, index)
        more = {} if "shared_kv_states" not in parameters(layer) else {"shared_kv_states": shared}
        if per_layer is not None:
            more["per_layer_input"] = per_layer[:, :, index]
        hidden = layer(hidden, attention_mask=mask, position_embeddings=rotary, **more)
        hidden = hidden[0] if isinstance(hidden, tuple) else hidden
        if index < len(sequence.deepstack):
            hidden = hidden.clone()
            hidden[sequence.visual] += sequence.deepstack[index]
        if index in sequence.edits:
            hidden = sequence.edits[index](hidden)
    return hidden


def parameters(module):
    return inspect.signature(type(module).forward).parameters


def rotary_of(decoder, hidden, sequence, index):
    kind = {"layer_type": kinds_of(decoder)[index]} if "layer_type" in parameters(decoder.rotary_emb) else {}
    positions = sequence.positions[index]
    if positions.dim() == 2 and hasattr(decoder.rotary_emb, "mrope_section"):
        positions = positions.expand(3, *positions.shape)
    return decoder.rotary_emb(hidden, positions, **kind)


def mask_of(decoder, hidden, sequence, alive, index):
    if kinds_of(decoder)[index] == "full_attention":
        return dense_mask(alive, hidden.dtype)
    return dense_mask(alive, hidden.dtype, decoder.config.sliding_window + sequence.wider, sequence.blocks)


@torch.no_grad()
def masked_logits(model, sequence, alive_per_layer):
    """Logits of every position (L, V). alive_per_layer: one bool (L,) a decoder layer."""
    decoder = decoder_of(model)
    hidden = through_layers(decoder, sequence, alive_per_layer)
    logits = output_embeddings(model)(decoder.norm(hidden))[0]
    cap = getattr(decoder.config, "final_logit_softcapping", None)
    return logits if cap is None else cap * torch.tanh(logits / cap)


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
    ids, per_layer, blocks = torch.tensor([tokens], device=device), sequence.per_layer, sequence.blocks
    if per_layer is not None or blocks is not None:  # Gemma 4 takes a placeholder that was drawn for padding
        ids = torch.where((ids >= 5) & (ids <= 7), 0, ids)
    if per_layer is not None:
        per_layer = torch.cat([per_layer, decoder_of(model).get_per_layer_inputs(ids)], dim=1)
    if blocks is not None:
        blocks = torch.cat([blocks, torch.full_like(ids[0], -1)])
    sequence = replace(
        sequence,
        per_layer=per_layer,
        blocks=blocks,
        embeds=torch.cat([sequence.embeds, model.get_input_embeddings()(ids)], dim=1),
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
        more = {} if "shared_kv_states" not in parameters(layer) else {"shared_kv_states": {}}
        _, weights = layer.self_attn(
            hidden_states=layer.input_layernorm(hidden) if hasattr(layer, "input_layernorm") else hidden,
            attention_mask=mask_of(decoder, hidden, sequence, alive_per_layer[layer_index], layer_index),
            position_embeddings=rotary_of(decoder, hidden, sequence, layer_index),
            **more,
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
    prune_layer = pruning_layer(model, method)
    scores = last_query_scores(model, sequence, early, prune_layer)
    final, kept = candidates.clone(), []
    for video in videos:
        where = torch.tensor(video.positions)
        order = scores[where].masked_fill(~candidates[where], -1).argsort(descending=True)
        best = order[: target_count(method.retention, video.grid.count)].sort().values
        final[where] = False
        final[where[best]] = True
        kept.append(best.tolist())
    return early[: prune_layer + 1] + [final] * (layers - prune_layer - 1), kept


def pruning_layer(model, method: STSimDiff):
    """The first full-attention layer from `prune_layer` on."""
    return kinds_of(decoder_of(model)).index("full_attention", method.prune_layer)
