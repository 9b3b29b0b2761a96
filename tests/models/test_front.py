"""What compression cannot serve is refused before the vision tower runs; what has no video passes."""

import pytest
import torch
import transformers
from helpers import generate
from reference import decoder_of
from zoo import ZOO, Text, Video, words

from st_simdiff import InputError, STSimDiff, attach, compress
from st_simdiff.models.clock import stage_modules

METHOD = STSimDiff(retention=0.3)
ROW = [Text(5), Video(5), Text(7, 1)]
QWEN = ZOO["Qwen2.5-VL"]
zoos = pytest.mark.parametrize("zoo", ZOO.values(), ids=list(ZOO))


def offloaded():
    cache = transformers.DynamicCache()
    cache.offloading = True
    return cache


def with_answers_of_two_lengths(inputs):
    inputs = {name: torch.cat([value] * 2) for name, value in inputs.items()}
    labels = torch.full_like(inputs["input_ids"], -100)
    labels[0, -2:] = labels[1, -4:] = 7
    return inputs | {"labels": labels}


GENERATE = {
    "a static cache": ({"cache_implementation": "static"}, "DynamicCache.*cache_implementation='static'"),
    "a quantised cache": ({"cache_implementation": "quantized"}, "DynamicCache.*cache_implementation='quantized'"),
    "an offloaded cache": ({"cache_implementation": "offloaded"}, "DynamicCache.*cache_implementation='offloaded'"),
    "by a config": ({"generation_config": transformers.GenerationConfig(cache_implementation="static")}, "'static'"),
    "a paged cache": ({"cache_implementation": "paged"}, "Continuous batching takes token ids alone"),
    "a static cache object": (lambda zoo: {"past_key_values": static(zoo)}, "DynamicCache.*got StaticCache"),
    "an offloaded cache object": ({"past_key_values": offloaded()}, "one that is offloaded"),
    "chunks": ({"prefill_chunk_size": 16}, "whole prompt at once, got prefill_chunk_size=16"),
    "contrastive search": (
        {"penalty_alpha": 0.6, "top_k": 4},
        "Contrastive search .* penalty_alpha, got 0.6",
    ),
}
FORWARD = {
    "a prepared mask": (
        lambda inputs: {"attention_mask": torch.zeros(1, 1, *inputs["input_ids"].shape)},
        "2-D attention",
    ),
    "masks by layer": (lambda _: {"attention_mask": {"full_attention": None}}, "2-D attention mask .* got dict"),
    "a static cache": (lambda _: {"past_key_values": static(QWEN)}, "DynamicCache.*got StaticCache"),
    "right padding": (lambda inputs: {"attention_mask": right_padded(inputs)}, "left padding"),
    "embeddings": (lambda inputs: {"input_ids": None, "inputs_embeds": embeds_of(inputs)}, "pass input_ids"),
    "answers of two lengths": (with_answers_of_two_lengths, "begin 2, 4 positions before the end"),
    "labels and few logits": (
        lambda inputs: {"labels": inputs["input_ids"], "logits_to_keep": 2},
        "leave out logits_to_keep",
    ),
}


def static(zoo):
    return transformers.StaticCache(config=decoder_of(zoo.model).config, max_cache_len=200)


def right_padded(inputs):
    mask = torch.ones_like(inputs["input_ids"])
    mask[0, -2:] = 0
    return mask


def embeds_of(inputs):
    return QWEN.model.get_input_embeddings()(inputs["input_ids"])


@pytest.fixture
def tower_runs(request):
    """Counts the calls of the vision tower of the test's `zoo`."""
    zoo, runs = request.node.callspec.params.get("zoo", QWEN), []
    handle = dict(stage_modules(zoo.model))["vision"].register_forward_pre_hook(lambda *_: runs.append(1))
    yield runs
    handle.remove()


@zoos
@pytest.mark.parametrize("given", GENERATE)
def test_generate_is_refused_before_the_vision_tower_runs(zoo, given, tower_runs):
    options, match = GENERATE[given]
    inputs = zoo.prompt(ROW).inputs
    with compress(zoo.model, METHOD, **zoo.options), pytest.raises(InputError, match=match):
        generate(zoo, inputs, **(options(zoo) if callable(options) else options))
    assert tower_runs == []


@pytest.mark.parametrize("given", FORWARD)
@pytest.mark.parametrize("zoo", [QWEN], ids=[QWEN.name])
def test_a_forward_is_refused_before_the_vision_tower_runs(zoo, given, tower_runs):
    options, match = FORWARD[given]
    inputs = zoo.prompt(ROW).inputs
    with compress(zoo.model, METHOD), pytest.raises(InputError, match=match):
        zoo.model(**inputs | options(inputs))
    assert tower_runs == []
    with torch.no_grad(), compress(zoo.model, METHOD):
        zoo.model(**inputs)
    assert len(tower_runs) == 1


@pytest.mark.parametrize("zoo", [ZOO["LLaVA-Video"]], ids=["LLaVA-Video"])
def test_a_loss_is_refused_before_the_embedder_runs(zoo, tower_runs):
    """Padding on the right does not count."""
    inputs = zoo.prompt([*ROW, Text(4)], [*ROW, Text(4)]).inputs
    inputs = {name: torch.nn.functional.pad(inputs[name], (0, 2)) for name in ("input_ids", "attention_mask")} | {
        "images": inputs["images"]
    }
    labels = inputs["input_ids"].masked_fill(inputs["attention_mask"] == 0, -100)
    labels[:, :-6] = -100
    with torch.no_grad(), compress(zoo.model, METHOD):
        assert zoo.model(**inputs, labels=labels).loss.isfinite()
        del tower_runs[:]
        labels[0, -4] = -100
        labels[0, :-4] = -100
        with pytest.raises(InputError, match="begin 1, 4 positions before the end"):
            zoo.model(**inputs, labels=labels)
        with pytest.raises(InputError, match="leave out logits_to_keep"):
            zoo.model(**inputs, labels=labels, logits_to_keep=3)
    assert tower_runs == []


@pytest.mark.parametrize("zoo", [ZOO["InternVL"]], ids=["InternVL"])
def test_groups_that_do_not_add_up_are_refused_before_the_vision_tower_runs(zoo, tower_runs):
    with compress(zoo.model, METHOD, images_as_frames=[3]), pytest.raises(InputError, match=r"3 images.*has 5"):
        generate(zoo, zoo.prompt(ROW).inputs)
    assert tower_runs == []


@pytest.mark.parametrize("name", ["LLaVA-Video", "NVILA"])
def test_embedders_that_pad_on_the_left_take_right_padding(name):
    zoo = ZOO[name]
    inputs = zoo.prompt(ROW).inputs
    padded = inputs | {
        name: torch.nn.functional.pad(inputs[name], (0, 3), value=0) for name in ("input_ids", "attention_mask")
    }
    with compress(zoo.model, METHOD):
        assert torch.equal(generate(zoo, padded, 4).sequences, generate(zoo, inputs, 4).sequences)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("Qwen2.5-VL", {"cache_implementation": "static"}),
        ("LLaVA-Video", {"cache_implementation": "static"}),
        ("LLaVA-OneVision", {"prefill_chunk_size": 4}),
    ],
)
def test_a_prompt_without_a_video_passes_as_it_is(name, options):
    zoo = ZOO[name]
    inputs = zoo.prompt([Text(9)]).inputs
    plain = generate(zoo, inputs, 4, **options).sequences
    with compress(zoo.model, METHOD):
        assert torch.equal(generate(zoo, inputs, 4, **options).sequences, plain)


def test_continuous_batching_serves_text_as_without_compression():
    config = getattr(transformers, "ContinuousBatchingConfig", None)
    if config is None:
        pytest.skip("this version of transformers has no settings by which continuous batching fits a test")
    ids = [words(Text(9, seed)) for seed in range(3)]
    settings = {
        "generation_config": transformers.GenerationConfig(max_new_tokens=4, eos_token_id=-1, pad_token_id=0),
        "continuous_batching_config": config(num_blocks=8, max_batch_tokens=64),
    }

    def answers():
        results = QWEN.model.generate_batch(ids, **settings)
        return [results[name].generated_tokens for name in sorted(results)]

    plain = answers()
    attachment = attach(QWEN.model, METHOD)
    try:
        assert answers() == plain
    finally:
        attachment.detach()
        QWEN.model.set_attn_implementation("sdpa")
    assert min(map(len, plain)) == 4
