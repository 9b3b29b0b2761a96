"""The retention for a budget: as large as it fits, and not a token larger."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from reference import decoder_of
from test_flops import SMALL
from zoo import ZOO, Text, Video

from st_simdiff import InputError, compress, make_method
from st_simdiff.models.costs import model_shape
from st_simdiff.models.flops import Speed
from st_simdiff.models.planner import retention_for_kv_bytes, retention_for_seconds
from st_simdiff.models.transformers_api import cache_in
from st_simdiff.selection.budget import target_count


@pytest.mark.parametrize("name", ["LLaVA-Video", "Qwen2.5-VL"])
@pytest.mark.parametrize(("method", "entering"), [("uniform_frames", 0.0), ("fastv", 1.0)])
def test_the_cache_holds_as_many_bytes_as_the_budget_and_no_token_more(name, method, entering):
    zoo = ZOO[name]
    shape, count = model_shape(decoder_of(zoo.model)), zoo.grid(Video(8)).count
    prompt, empty = zoo.prompt([Text(5), Video(8), Text(7, 1)]), zoo.prompt([Text(5), Text(7, 1)])
    token = shape.kv_bytes([1])
    start = 2 * count * token if entering else 0
    for budget in (start + 9 * token, start + 57 * token + token - 1, 4 * count * token):
        retention = retention_for_kv_bytes(shape, count, budget, entering=entering)
        with torch.no_grad(), compress(zoo.model, make_method(method, retention=retention)) as trace:
            cache = cache_in(zoo.model(**prompt.inputs))
        per_token = shape.kv_bytes([0, 0, 1, 1] if entering else [1] * 4)
        used = shape.kv_bytes(trace.last.tokens_per_layer)
        assert used <= budget
        assert used + per_token > budget or trace.last.kept == count
        text = prompt.inputs["attention_mask"].shape[1] - (1 if name == "LLaVA-Video" else count)
        held = sum(layer.keys.nbytes + layer.values.nbytes for layer in cache.layers)
        assert held == used + shape.kv_bytes([text] * 4)
    assert empty.inputs["input_ids"].shape[1] == 12


@given(count=st.integers(1, 300), bytes_=st.integers(1, 10**5), entering=st.sampled_from([0.0, 0.6, 1.0]))
def test_the_largest_retention_by_brute_force(count, bytes_, entering):
    shape = SMALL.decoder
    held = round(entering * count)
    fitting = [k for k in range(1, count + 1) if shape.kv_bytes([max(k, held)] * 2 + [k] * 2) <= bytes_]
    if not fitting:
        with pytest.raises(InputError, match=f"one of the video's {count} tokens fits into {bytes_} bytes"):
            retention_for_kv_bytes(shape, count, bytes_, entering=entering)
        return
    found = retention_for_kv_bytes(shape, count, bytes_, entering=entering)
    assert target_count(found, count) == max(fitting)


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"tokens": 92.5}, "tokens is the number of the video's visual tokens"),
        ({"tokens": 0}, "tokens is the number of the video's visual tokens"),
        ({"kv_bytes": "200MB"}, "kv_bytes is the bytes of keys and values"),
        ({"entering": 2}, "entering is the share of the tokens"),
        ({"full_layers": 0.5}, "full_layers is the number of the first layers"),
    ],
)
def test_budgets_out_of_range_are_one_sentence(wrong, sentence):
    with pytest.raises(InputError, match=sentence):
        retention_for_kv_bytes(SMALL.decoder, **{"tokens": 92, "kv_bytes": 10**6, **wrong})


def test_the_seconds_are_met_and_one_token_more_would_not():
    speed = Speed(1e6, floor_seconds=1e-3, fixed_seconds=2e-3, token_seconds=1e-6)
    frames, tokens = 40, SMALL.tokens(40)

    def seconds(kept):
        return speed.seconds(SMALL.compressed(frames, kept / tokens, kept / tokens)) + speed.overhead(tokens)

    budget = (seconds(60) + seconds(61)) / 2
    assert target_count(retention_for_seconds(SMALL, speed, frames, budget), tokens) == 60
    with pytest.raises(InputError, match="Not even one"):
        retention_for_seconds(SMALL, speed, frames, seconds(1) / 2)
