"""Compression by brute force: nothing is taken out of the sequence, dropped tokens are masked as keys.

The decoder's layers run over the whole sequence with dense masks and the original rotary positions, and every new token
starts again from the beginning. Slow, and with nothing in common with the code it checks.
"""

import torch


def dense_mask(alive, dtype):
    """Additive (1, 1, L, L): a query sees itself, and the keys before it that are alive, bool (L,)."""
    length = alive.numel()
    causal = torch.ones(length, length, dtype=torch.bool).tril()
    allowed = (causal & alive) | torch.eye(length, dtype=torch.bool)
    return torch.zeros(length, length, dtype=dtype).masked_fill(~allowed, torch.finfo(dtype).min)[None, None]


@torch.no_grad()
def masked_logits(causal_lm, embeds, positions, alive_per_layer):
    """Logits of the last position. embeds (1, L, D); alive_per_layer: one bool (L,) a decoder layer."""
    decoder = causal_lm.model
    hidden, rotary = embeds, decoder.rotary_emb(embeds, positions)
    for layer, alive in zip(decoder.layers, alive_per_layer, strict=True):
        hidden = layer(hidden, attention_mask=dense_mask(alive, embeds.dtype), position_embeddings=rotary)
        hidden = hidden[0] if isinstance(hidden, tuple) else hidden
    return causal_lm.lm_head(decoder.norm(hidden[:, -1:]))[0, 0]


@torch.no_grad()
def masked_greedy(causal_lm, embeds, positions, alive_per_layer, steps):
    """Greedy tokens and the logits of every step, recomputing the whole sequence each time."""
    tokens, logits = [], []
    for _ in range(steps):
        logits.append(masked_logits(causal_lm, embeds, positions, alive_per_layer))
        tokens.append(int(logits[-1].argmax()))
        new = causal_lm.get_input_embeddings()(torch.tensor([[tokens[-1]]]))
        embeds = torch.cat([embeds, new], dim=1)
        positions = torch.cat([positions, positions[..., -1:] + 1], dim=-1)
        alive_per_layer = [torch.cat([alive, torch.tensor([True])]) for alive in alive_per_layer]
    return tokens, torch.stack(logits)


@torch.no_grad()
def last_query_scores(causal_lm, embeds, positions, alive_per_layer, layer_index, project):
    """Softmax of the last query's attention in decoder layer `layer_index`, mean over heads, (L,), dead keys zero.

    project(attention_module, normed_hidden, rotary) -> queries and keys, (1, H, L, d), one key a query head.
    """
    decoder = causal_lm.model
    hidden, rotary = embeds, decoder.rotary_emb(embeds, positions)
    for layer, alive in zip(decoder.layers[:layer_index], alive_per_layer, strict=False):
        hidden = layer(hidden, attention_mask=dense_mask(alive, embeds.dtype), position_embeddings=rotary)
        hidden = hidden[0] if isinstance(hidden, tuple) else hidden
    layer = decoder.layers[layer_index]
    queries, keys = project(layer.self_attn, layer.input_layernorm(hidden), rotary)
    logits = (queries[:, :, -1:] @ keys.transpose(-1, -2)) * layer.self_attn.scaling
    logits = logits.masked_fill(~alive_per_layer[layer_index], float("-inf"))
    return logits.softmax(-1).mean(1)[0, 0]
