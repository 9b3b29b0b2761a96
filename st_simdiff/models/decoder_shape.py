"""The sizes of a decoder that its FLOPs and its cache depend on, read from its layers, whatever their kind."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from torch import nn

from st_simdiff.models.layer_kinds import FULL, LINEAR, DecoderLayers, decoder_kinds
from st_simdiff.models.transformers_api import TransformersModule, decoder_layers
from st_simdiff.selection.budget import LayerShape, ModelShape


def model_shape(text_model: TransformersModule) -> ModelShape:
    """The decoder's sizes. Raises `InputError` for layers that cannot be compressed.

    Of a linear layer the recurrent rule is counted: what kernels that work in chunks do beyond it depends on them.
    """
    kinds, config = decoder_kinds(text_model.config), _of_layer(text_model.config, 0)
    heads = config.num_attention_heads
    shape = ModelShape(
        layers=len(kinds),
        hidden=config.hidden_size,
        intermediate=getattr(config, "intermediate_size", None) or config.moe_intermediate_size,
        heads=heads,
        kv_heads=config.num_key_value_heads or heads,
        head_dim=_head_dim(config),
        kv_itemsize=text_model.dtype.itemsize,
    )
    each = tuple(
        _layer(layer, index, _of_layer(text_model.config, index), kinds)
        for index, layer in enumerate(decoder_layers(text_model))
    )
    plain = shape.layer(0)
    return shape if all(layer == plain for layer in each) else ModelShape(**vars(shape) | {"each": each})


def matrix_weights(modules: Iterable[nn.Module], experts_a_token: int = 1) -> int:
    """Weights of the matrices and convolutions that one token goes through inside `modules`, biases left out.

    experts_a_token: to how many experts of a mixture a token is sent; their matrices are stacked in one parameter.
    """
    total = 0
    for part in (part for module in modules for part in module.modules()):
        if isinstance(part, nn.Linear):
            total += part.in_features * part.out_features  # a quantised weight has another shape
        elif isinstance(part, nn.Embedding):
            continue
        elif isinstance(part, (nn.Conv1d, nn.Conv2d, nn.Conv3d)):
            total += part.weight.numel()
        else:
            own = part.parameters(recurse=False)
            total += sum(_share(one, experts_a_token) for one in own if one.dim() in (2, 3))
    return total


def _share(parameter: nn.Parameter, experts_a_token: int) -> int:
    """Of (experts, out, in), the chosen ones; of a router's matrix, all."""
    return parameter.numel() if parameter.dim() == 2 else parameter[0].numel() * experts_a_token


def _of_layer(config: Any, index: int) -> Any:
    """The config as it is for one layer: layers may differ, and then the whole one does not answer."""
    own = getattr(config, "per_layer_config", None)
    return own[index] if own else config


def _head_dim(config: Any) -> int:
    return getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads


def _layer(layer: TransformersModule, index: int, config: Any, kinds: DecoderLayers) -> LayerShape:
    experts = getattr(config, "num_experts_per_tok", None) or getattr(config, "top_k_experts", None) or 1
    weights = matrix_weights([layer], experts)
    if kinds.kinds[index] == LINEAR:  # its state takes in, forgets and is read by every token
        state = config.linear_num_value_heads * config.linear_key_head_dim * config.linear_value_head_dim
        return LayerShape(weights + 3 * state, 0, None, 0)
    attention = layer.self_attn
    value = getattr(attention, "v_head_dim", None) or getattr(attention, "head_dim", None) or _head_dim(config)
    key = getattr(attention, "qk_head_dim", None) or value
    window = None if kinds.kinds[index] == FULL else kinds.window
    stored = 0
    if getattr(attention, "kv_lora_rank", None):
        stored = attention.kv_lora_rank + attention.qk_rope_head_dim
    elif kinds.sources[index] == index:
        stored = 2 * attention.k_proj.out_features
    return LayerShape(weights, config.num_attention_heads * (key + value), window, stored)
