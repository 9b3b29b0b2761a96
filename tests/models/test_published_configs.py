"""Every family with the config of a published model: as it is where no weights are needed, and divided, to run."""

import pytest
import test_families
import torch
import transformers
from divided import published_zoo
from helpers import generate, hooks_of, logits_of
from published import PUBLISHED
from reference import decoder_of
from zoo import ZOO
from zoo_more import MORE

from st_simdiff import STSimDiff, compress
from st_simdiff.models.families import check_served, find_family
from st_simdiff.models.layer_kinds import FULL, decoder_kinds
from st_simdiff.selection.budget import target_count

FAMILIES_HERE = ZOO | MORE
FAST = {"Qwen3-VL", "Qwen3.5", "EXAONE 4.5"}
"""Deepstack and M-RoPE; linear layers; windows and a scaled rope."""
ROW = test_families.ONE_VIDEO
families = pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=[] if name in FAST else [pytest.mark.slow], id=name) for name in FAMILIES_HERE],
)


def first_full(name):
    """The layer after which the paper's pruning acts: the first full one from the second layer on."""
    return PUBLISHED[name].layer_types.index(FULL, 1)


@families
def test_a_published_config_is_served(name):
    """At full size, without weights: the layers are read as published, and pruning acts where the table says."""
    facts, tiny = PUBLISHED[name], FAMILIES_HERE[name].model
    assert facts.layer_types.index(FULL) + 1 in find_family(tiny).full_every
    method = STSimDiff(retention=0.3)
    if name in ("LLaVA-Video", "NVILA"):
        decoder = transformers.Qwen2Config(**facts.text)
    else:
        text = facts.text | {"model_type": tiny.config.text_config.model_type}
        config = type(tiny.config)(text_config=text, vision_config=facts.vision, **facts.top)
        check_served(config, method)
        decoder = config.text_config
    rope = facts.text["rope_parameters"]
    if "mrope_section" in rope:
        rotated = (
            facts.text.get("head_dim") or facts.text["hidden_size"] // facts.text["num_attention_heads"]
        ) * rope.get("partial_rotary_factor", 1.0)
        assert 2 * sum(rope["mrope_section"]) == rotated
    layers = decoder_kinds(decoder)
    assert list(layers.kinds) == facts.layer_types
    assert layers.stages(method) == (first_full(name),)


@families
def test_a_published_config_divided_is_compressed(name):
    facts = PUBLISHED[name]
    zoo = published_zoo(FAMILIES_HERE[name], facts)
    prompt = zoo.prompt(ROW)
    grid = prompt.videos[0][0].grid
    plain = generate(zoo, prompt.inputs, steps=4)
    before = hooks_of(zoo.model)
    assert logits_of(plain).isfinite().all()
    with compress(zoo.model, STSimDiff(retention=1.0), **zoo.options) as trace:
        whole = generate(zoo, prompt.inputs, steps=4)
    assert torch.equal(plain.sequences, whole.sequences)
    assert torch.equal(logits_of(plain), logits_of(whole))
    assert [video.kept for video in trace.videos] == [grid.count]
    with compress(zoo.model, test_families.method_of(zoo), **zoo.options) as trace:
        pruned = generate(zoo, prompt.inputs, steps=4)
    assert not torch.equal(logits_of(plain), logits_of(pruned))
    kinds = decoder_kinds(decoder_of(zoo.model).config).kinds
    assert list(kinds) == facts.layer_types[: len(kinds)]
    (video,) = trace.videos
    assert (video.kept, video.shape.layers) == (target_count(0.3, grid.count), len(kinds))
    assert [stage.layer for stage in video.stages] == [-1, first_full(name)]
    assert hooks_of(zoo.model) == before
    assert torch.equal(logits_of(generate(zoo, prompt.inputs, steps=4)), logits_of(plain))


@families
def test_a_published_config_divided_equals_masking_by_brute_force(name):
    zoo = published_zoo(FAMILIES_HERE[name], PUBLISHED[name])
    test_families.test_pruned_generation_equals_masking_by_brute_force(zoo, ROW, "sdpa")
