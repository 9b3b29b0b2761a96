"""What the vision tower is asked to record, against the tower's own eager attention weights."""

import math

import pytest
import torch
from helpers import close, generate
from toy_methods import TowerLover
from transformers.models.siglip.modeling_siglip import SiglipMultiheadAttentionPoolingHead
from zoo import ZOO, Image, Text, Video, frames_of

from st_simdiff import InputError, compress
from st_simdiff.methods.registry import make_method

ROW = [Text(3), Video(4, 1), Text(4, 2), Video(4, 2), Text(6, 3)]


def eager_record(tower, layer, pixels):
    """Attention that every patch receives (T, n) and its keys (T, n, d), both means over heads."""
    tower.config._attn_implementation = "eager"
    seen = {}

    def note(module, args, kwargs, output):
        hidden = args[0] if args else kwargs["hidden_states"]
        seen["keys"] = module.k_proj(hidden).view(*hidden.shape[:2], module.num_heads, -1).mean(2)
        seen["weights"] = output[1]

    handle = layer.self_attn.register_forward_hook(note, with_kwargs=True)
    try:
        tower(pixels)
    finally:
        handle.remove()
        tower.config._attn_implementation = "sdpa"
    return seen["weights"].mean((1, 2)), seen["keys"]


def pooled(values, side):
    """(T, n, d) -> (T * h * h, d): bilinear to half the side, rounded up, channel by channel."""
    planes = values.transpose(1, 2).unflatten(2, (side, side))
    half = math.ceil(side / 2)
    small = torch.nn.functional.interpolate(planes, size=(half, half), mode="bilinear")
    return small.flatten(2).transpose(1, 2).flatten(0, 1)


def tower_of(zoo):
    """The tower, its layer whose output is the features, the size of a frame, patches a side."""
    if zoo.name == "LLaVA-Video":
        return zoo.model.vision_tower, zoo.model.vision_layers[-1], 112, 8
    tower = zoo.model.model.vision_tower
    return tower, tower.encoder.layers[zoo.model.config.vision_feature_layer], 14, 7


@pytest.mark.parametrize("name", ["LLaVA-Video", "LLaVA-OneVision"])
def test_records_are_the_towers_attention_and_keys_pooled_like_the_tokens(name):
    zoo = ZOO[name]
    row = [Text(2), Image(1), *ROW] if zoo.takes_images else ROW
    with torch.no_grad(), compress(zoo.model, TowerLover()) as trace:
        generate(zoo, zoo.prompt(row).inputs, steps=2)
        generate(zoo, zoo.prompt(row).inputs, steps=2)
        tower, layer, size, side = tower_of(zoo)
        for video, seed in zip(trace.videos, (1, 2), strict=True):
            attention, keys = eager_record(tower, layer, frames_of(seed, 4, 3, size, size))
            record = video.stages[0].reduction.details
            close(record.attention, pooled(attention[..., None], side)[:, 0])
            close(record.keys, pooled(keys, side))
            assert float(record.attention.std()) > 0
    assert len(trace.videos) == 2


def test_the_second_layer_from_the_end_is_recorded_where_it_makes_the_features():
    zoo = type(ZOO["LLaVA-OneVision"])()
    zoo.model.config.vision_feature_layer = -2
    with torch.no_grad(), compress(zoo.model, TowerLover()) as trace:
        generate(zoo, zoo.prompt(ROW).inputs, steps=1)
        tower = zoo.model.model.vision_tower
        attention, _ = eager_record(tower, tower.encoder.layers[-2], frames_of(1, 4, 3, 14, 14))
    record = trace.videos[0].stages[0].reduction.details
    close(record.attention, pooled(attention[..., None], 7)[:, 0])


class WithHead(type(ZOO["LLaVA-OneVision"])):
    """LLaVA-OneVision with a tower that keeps SigLIP's pooling head."""

    def build(self):
        model = super().build()
        tower = model.model.vision_tower
        tower.head = SiglipMultiheadAttentionPoolingHead(tower.config).eval()
        tower.use_head = True
        return model


def test_the_pooling_heads_output_is_recorded_where_there_is_one():
    zoo = WithHead()
    for method in (TowerLover(), make_method("unicomp", retention=0.5), make_method("fastvid", retention=0.5)):
        with torch.no_grad(), compress(zoo.model, method) as trace:
            generate(zoo, zoo.prompt(ROW).inputs, steps=1)
            if isinstance(method, TowerLover):
                for video, seed in zip(trace.videos, (1, 2), strict=True):
                    expected = zoo.model.model.vision_tower(frames_of(seed, 4, 3, 14, 14)).pooler_output
                    close(video.stages[0].reduction.details.pooled, expected)
    assert len(trace.videos) == 2
    plain = ZOO["LLaVA-OneVision"]
    with torch.no_grad(), compress(plain.model, TowerLover()) as trace:
        generate(plain, plain.prompt(ROW).inputs, steps=1)
    assert trace.videos[0].stages[0].reduction.details.pooled is None


@pytest.mark.parametrize("name", ["Qwen2-VL", "Qwen2.5-VL", "Qwen3-VL", "InternVL"])
def test_towers_without_a_record_say_so(name):
    zoo = ZOO[name]
    with (
        pytest.raises(InputError, match=f"attention and keys.*{name}"),
        compress(zoo.model, TowerLover(), **zoo.options),
    ):
        pass
