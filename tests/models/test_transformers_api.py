"""A version of transformers that does something in another way is told in a sentence; no answer is wrong."""

import functools
import inspect
import time

import pytest
import torch
import transformers
from helpers import generate
from reference import decoder_of
from toy_methods import EveryOther
from zoo import ZOO, Text, Video

from st_simdiff import InputError, STSimDiff, compress, make_method
from st_simdiff.models import transformers_api
from st_simdiff.models.transformers_api import cache_in, cache_of, check_decoder, with_cache

ROW = [Text(5), Video(5), Text(7, 1)]
METHOD = STSimDiff(retention=0.3)
SENTENCE = rf"transformers {transformers.__version__} runs this model \(tested: 5.17 to 5.24\): "
zoos = pytest.mark.parametrize("zoo", ZOO.values(), ids=list(ZOO))


def renamed(function, old, new):
    """`function`, which takes one keyword by another name now; `new` None hides it among **kwargs."""
    signature = inspect.signature(function)
    parameters = [
        parameter.replace(name=new) if parameter.name == old else parameter
        for parameter in signature.parameters.values()
        if new is not None or parameter.name != old
    ]

    @functools.wraps(function)
    def other(*args, **kwargs):
        if new is not None and new in kwargs:
            kwargs[old] = kwargs.pop(new)
        return function(*args, **kwargs)

    other.__signature__ = signature.replace(parameters=parameters)
    return other


def refused(zoo, match, method=METHOD):
    """The sentence comes when the model is compressed, or at the latest instead of the answer."""
    with pytest.raises(InputError, match=SENTENCE + match), compress(zoo.model, method, **zoo.options):
        generate(zoo, zoo.prompt(ROW).inputs, steps=2)


@zoos
@pytest.mark.parametrize("new", ["rotary", None], ids=["renamed", "hidden"])
@pytest.mark.parametrize("part", ["layer", "attention"])
def test_a_renamed_keyword_of_a_decoder_layer(zoo, part, new, monkeypatch):
    layer = decoder_of(zoo.model).layers[0]
    kind = type(layer if part == "layer" else layer.self_attn)
    monkeypatch.setattr(kind, "forward", renamed(kind.forward, "position_embeddings", new))
    refused(zoo, f"{kind.__name__}.forward does not take position_embeddings")


@zoos
@pytest.mark.parametrize("part", ["decoder", "layer", "attention"])
def test_a_hidden_mask_argument(zoo, part, monkeypatch):
    decoder = decoder_of(zoo.model)
    layer = decoder.layers[0]
    kind = type({"decoder": decoder, "layer": layer, "attention": layer.self_attn}[part])
    monkeypatch.setattr(kind, "forward", renamed(kind.forward, "attention_mask", None))
    refused(zoo, f"{kind.__name__}.forward does not take attention_mask")


def test_a_mask_function_without_a_layer(monkeypatch):
    function = transformers_api.create_causal_mask
    monkeypatch.setattr(transformers_api, "create_causal_mask", renamed(function, "layer_idx", "layer"))
    refused(ZOO["Qwen2-VL"], "create_causal_mask does not take layer_idx")


@zoos
def test_a_cache_by_an_unknown_name(zoo, monkeypatch):
    kind = type(decoder_of(zoo.model).layers[0])
    known = next(name for name in ("cache", "past_key_values") if name in inspect.signature(kind.forward).parameters)
    monkeypatch.setattr(kind, "forward", renamed(kind.forward, known, "memory"))
    refused(zoo, f"{kind.__name__}.forward does not take cache")


@zoos
@pytest.mark.parametrize("method", [METHOD, EveryOther()], ids=["with attention", "at the input"])
def test_a_layer_that_does_not_update_its_cache(zoo, method, monkeypatch):
    layer = decoder_of(zoo.model).layers[2].self_attn
    forward = layer.forward

    def forgetful(*args, **kwargs):
        return forward(*args, **with_cache(forward, kwargs, None))

    monkeypatch.setattr(layer, "forward", forgetful, raising=False)
    refused(zoo, "layer 2 of the cache holds 0 positions where", method)


def test_a_scored_layer_that_does_not_update_its_cache(monkeypatch):
    zoo = ZOO["Qwen2-VL"]
    layer = decoder_of(zoo.model).layers[1].self_attn
    forward = layer.forward
    monkeypatch.setattr(
        layer, "forward", lambda *args, **kwargs: forward(*args, **with_cache(forward, kwargs, None)), raising=False
    )
    refused(zoo, "Qwen2VLAttention did not pass its keys to the cache", make_method("fastv", retention=0.3))


@zoos
@pytest.mark.parametrize("method", [METHOD, EveryOther(), make_method("fastv", retention=0.3)])
def test_layers_that_are_called_past_their_hooks(zoo, method, monkeypatch):
    for layer in decoder_of(zoo.model).layers:
        monkeypatch.setattr(type(layer), "__call__", type(layer).forward)
    refused(zoo, r"its decoder layers \[0, 1, 2, 3\] ran without their hooks", method)


def test_a_decoder_that_returns_another_cache(monkeypatch):
    zoo = ZOO["Qwen2-VL"]
    kind = type(decoder_of(zoo.model))
    forward = kind.forward

    @functools.wraps(forward)
    def other(*args, **kwargs):
        output = forward(*args, **kwargs)
        name = next(name for name, value in output.items() if value is cache_in(output))
        output[name] = transformers.DynamicCache()
        return output

    monkeypatch.setattr(kind, "forward", other)
    refused(zoo, "the decoder returned a cache that its layers were not given")


def test_features_that_come_by_an_unknown_way(monkeypatch):
    """Without the check nothing would be compressed, and nobody would be told."""
    zoo = ZOO["Qwen2-VL"]
    base = zoo.model.model
    encode = type(base).get_video_features
    monkeypatch.setattr(type(base), "encode_videos", encode, raising=False)
    with compress(zoo.model, METHOD):
        # what a version does that calls its encoder by another name
        vars(base)["get_video_features"] = functools.wraps(encode)(lambda *args, **kw: base.encode_videos(*args, **kw))
        with pytest.raises(InputError, match=SENTENCE + "the prompt has placeholders of a video"):
            zoo.model(**zoo.prompt(ROW).inputs)


def test_an_encoder_by_another_name(monkeypatch):
    zoo = ZOO["Qwen2-VL"]
    monkeypatch.delattr(type(zoo.model.model), "get_video_features")
    refused(zoo, "Qwen2VLModel has no get_video_features")


def test_something_for_every_token_that_hooks_do_not_know():
    zoo = ZOO["Qwen2-VL"]
    inputs = zoo.prompt(ROW).inputs
    extra = torch.zeros(inputs["input_ids"].shape)
    with pytest.raises(InputError, match=SENTENCE + "the decoder is given router_types"), compress(zoo.model, METHOD):
        zoo.model(**inputs, router_types=extra)


@zoos
def test_the_check_at_attaching_is_quick_and_made_once(zoo):
    decoder = decoder_of(zoo.model)
    transformers_api._parameters_of.cache_clear()
    times = []
    for _ in range(2):
        start = time.process_time()
        check_decoder(decoder)
        times.append(time.process_time() - start)
    assert times[0] < 0.05
    assert transformers_api._parameters_of.cache_info().misses <= 4
    assert times[1] < 0.005


def test_the_cache_is_found_by_both_names():
    def new(hidden_states, cache=None):
        del hidden_states, cache

    def old(hidden_states, past_key_values=None):
        del hidden_states, past_key_values

    cache = transformers.DynamicCache()
    assert cache_of({"past_key_values": cache}) is cache_of({"cache": cache}) is cache
    assert cache_of({"past_key_values": None, "cache": None}) is None
    assert with_cache(new, {"hidden_states": 1, "past_key_values": None}, cache) == {"hidden_states": 1, "cache": cache}
    assert with_cache(old, {"cache": 3}, cache) == {"past_key_values": cache}
    with pytest.raises(InputError, match="takes no cache or past_key_values"):
        with_cache(lambda hidden_states: hidden_states, {}, cache)
