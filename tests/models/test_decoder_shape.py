"""The sizes of decoders of every kind: FLOPs against torch's counter, and keys and values against the cache."""

import pytest
import torch
from reference import decoder_of, kinds_of
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode
from zoo import ZOO, Text, Video
from zoo_more import MORE

from st_simdiff import InputError
from st_simdiff.models.clock import stage_modules
from st_simdiff.models.costs import model_cost
from st_simdiff.models.decoder_shape import model_shape
from st_simdiff.models.transformers_api import cache_in

FAST = {"Qwen3.5", "Gemma 4 26B-A4B", "Kimi"}
STEPS = 4
families = pytest.mark.parametrize(
    "zoo",
    [pytest.param(zoo, id=name, marks=[] if name in FAST else [pytest.mark.slow]) for name, zoo in MORE.items()],
)


def measured(zoo):
    """FLOPs of every module, the length of the prompt, and the cache, of a plain prefill."""
    inputs = zoo.prompt([Text(6), Video(STEPS), Text(6)]).inputs
    mode = FlopCounterMode(display=False)
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), mode:
        output = zoo.model(**inputs)
    flops = {name: sum(counts.values()) for name, counts in mode.get_flop_counts().items()}
    names = {module: f"{type(zoo.model).__name__}.{name}" for name, module in zoo.model.named_modules()}
    return {module: flops.get(name, 0) for module, name in names.items()}, inputs["input_ids"].shape[1], output


def experts_of(layer):
    """Matrices of the two chosen experts, by their sizes: torch's counter does not see grouped products."""
    stacked = [p for name, p in layer.named_parameters() if "experts" in name and p.dim() == 3]
    return sum(2 * p.shape[1] * p.shape[2] for p in stacked)


@families
def test_the_layers_cost_what_torch_counts(zoo):
    decoder = decoder_of(zoo.model)
    flops, length, _ = measured(zoo)
    shape = model_shape(decoder)
    for index, layer in enumerate(decoder.layers):
        own = shape.layer(index)
        if kinds_of(decoder)[index] == "linear_attention":
            attention = layer.linear_attn
            matrices = sum(p.weight.numel() for p in layer.modules() if isinstance(p, (nn.Linear, nn.Conv1d)))
            router = sum(p.numel() for name, p in layer.named_parameters() if name.endswith("mlp.gate.weight"))
            router -= sum(
                p.weight.numel() for name, p in layer.named_modules() if name == "mlp.gate" and isinstance(p, nn.Linear)
            )
            state = attention.num_v_heads * attention.head_k_dim * attention.head_v_dim
            assert own.weights == matrices + router + experts_of(layer) + 3 * state
            assert (own.pair, own.stored) == (0, 0)
            continue
        square = 2 * (length * own.weights + length * length * own.pair)  # the counter takes whole squares
        assert square - flops[layer] in (0, 2 * length * experts_of(layer))


@families
def test_the_cache_holds_what_is_counted(zoo):
    decoder = decoder_of(zoo.model)
    _, length, output = measured(zoo)
    shape = model_shape(decoder)
    layers = [layer for layer in cache_in(output).layers if getattr(layer, "keys", None) is not None]
    held = sum(part.numel() * part.element_size() for layer in layers for part in (layer.keys, layer.values))
    assert shape.kv_bytes([length] * shape.layers) == held


@families
def test_the_tower_costs_what_torch_counts_or_is_not_known(zoo):
    flops, _, _ = measured(zoo)
    modules = dict(stage_modules(zoo.model))
    known = hasattr(modules["vision"], "blocks") and zoo.name != "Kimi"
    if not known and zoo.name != "InternVL 3.5":
        with pytest.raises(InputError, match="The FLOPs of the vision tower of"):
            model_cost(zoo.model, patches=(6, 8))
        return
    vision = model_cost(zoo.model, patches=(6, 8)).vision
    pixels = STEPS * vision.frames
    tower = flops[modules["vision"]] + (0 if known else flops[modules["projector"]])
    assert tower == vision.tower_flops(pixels) + vision.projector_flops(pixels)


def test_a_plain_decoder_has_one_kind_of_layer():
    assert model_shape(decoder_of(ZOO["Qwen2.5-VL"].model)).each == ()


def test_a_window_by_hand():
    gemma = MORE.get("Gemma 4 26B-A4B")
    if gemma is None:
        pytest.skip("not in this version of transformers")
    layer = model_shape(decoder_of(gemma.model)).layer(0)
    pairs = sum(min(place + 1, 20) for place in range(50))
    assert layer.flops(50) == 2 * (50 * layer.weights + pairs * layer.pair)
    assert layer.kept(50) == layer.stored * 19
