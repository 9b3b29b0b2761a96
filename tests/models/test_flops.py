"""The FLOP model against torch's own counter on every family, and what follows from it."""

import dataclasses

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from reference import decoder_of
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode
from toy_methods import EveryOther
from zoo import ZOO, Text, Video

from st_simdiff import InputError, compress
from st_simdiff.models.clock import stage_modules
from st_simdiff.models.costs import flop_counts, model_cost
from st_simdiff.models.families import find_family
from st_simdiff.models.flops import (
    ModelCost,
    Speed,
    VisionShape,
    break_even,
    break_even_retention,
    match_budget,
    pays,
)
from st_simdiff.selection.budget import ModelShape

families = pytest.mark.parametrize("zoo", ZOO.values(), ids=list(ZOO))
TEXT = 12
PATCHES = {"Qwen2-VL": (6, 8), "Qwen2.5-VL": (6, 8), "Qwen3-VL": (6, 8)}

SO400M = VisionShape(
    frames=1,
    patches=729,
    embedding_weights=588 * 1152,
    tokens=729,
    width=1152,
    layer_weights=(4 * 1152**2 + 2 * 1152 * 4304,) * 26,
    pairs=(729**2,) * 26,
    projected=729,
    projector_weights=1152 * 3584 + 3584**2,
)
LLAVA_VIDEO = ModelCost(SO400M, ModelShape(28, 3584, 18944, 28, 4, 128), 152064, step_tokens=210)


def cost_of(zoo):
    return model_cost(zoo.model, patches=PATCHES.get(zoo.name), text=TEXT)


def upper_triangle(shape: ModelShape, lengths):
    """FLOPs that a counter of whole squares adds: pairs above the diagonal of every layer's attention."""
    return sum(4 * shape.heads * shape.head_dim * (n * n - n * (n + 1) // 2) for n in lengths)


def counted(zoo, frames, **method):
    """By torch's counter: the tower, the rest of the encoding, and the decoder; and the length of the sequence.

    Without the angles of the rotary embedding, which transformers 5.17 multiplies as matrices. Attention is computed as
    plain products: the counter of torch 2.14 sees nothing in the fused kernel for CPUs.
    """
    model = zoo.model
    modules = dict(stage_modules(model)) | {"decoder": decoder_of(model)}
    flops = {}
    modes = {name: FlopCounterMode(display=False) for name in modules}
    handles, lengths = [], []
    for name, module in modules.items():
        handles.append(module.register_forward_pre_hook(lambda *_, name=name: modes[name].__enter__() and None))
        handles.append(module.register_forward_hook(lambda *_, name=name: modes[name].__exit__(None, None, None)))
    angles, angle_flops = FlopCounterMode(display=False), []
    rotary = modules["decoder"].rotary_emb
    handles.append(rotary.register_forward_pre_hook(lambda *_: angles.__enter__() and None))
    handles.append(rotary.register_forward_hook(lambda *_: angles.__exit__(None, None, None)))
    handles.append(rotary.register_forward_hook(lambda *_: angle_flops.append(angles.get_total_flops())))
    for layer in modules["decoder"].layers:
        handles.append(layer.register_forward_pre_hook(lambda _module, args: lengths.append(args[0].shape[1])))
    inputs = zoo.prompt([Text(TEXT // 2), Video(frames), Text(TEXT // 2)]).inputs
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH):
        if method:
            with compress(model, **method, **zoo.options):
                model(**inputs)
        else:
            model(**inputs)
    for handle in handles:
        handle.remove()
    flops = {name: mode.get_total_flops() for name, mode in modes.items()}
    flops["decoder"] -= sum(angle_flops)
    return flops, lengths


@families
@pytest.mark.parametrize("frames", [2, 4])
def test_the_model_counts_what_torch_counts(zoo, frames):
    flops, lengths = counted(zoo, frames)
    cost = cost_of(zoo)
    # the zoo's Qwen prompts give the number of steps of the tower, each of two frames
    pixels = frames * cost.vision.frames
    inside = "merger" in dict(dict(stage_modules(zoo.model))["vision"].named_children())
    tower = cost.vision.tower_flops(pixels) + (cost.vision.projector_flops(pixels) if inside else 0)
    assert flops["vision"] == tower
    if zoo.name != "Qwen3-VL":  # its deepstack mergers are modules of their own
        assert flops["projector"] == cost.vision.projector_flops(pixels)
    text = lengths[0] - zoo.grid(Video(frames)).count
    layers = dataclasses.replace(cost, text=text).prefill([zoo.grid(Video(frames)).count] * len(lengths))
    layers -= 2 * cost.decoder.hidden * cost.vocabulary
    assert flops["decoder"] == layers + upper_triangle(cost.decoder, lengths)


@families
def test_the_model_counts_the_tokens_of_a_video(zoo):
    cost = cost_of(zoo)
    grids = [zoo.grid(Video(steps)).count for steps in (1, 2)]
    assert cost.step_tokens == grids[1] - grids[0]
    assert cost.tokens(3 * cost.step_frames) == 3 * cost.step_tokens


def test_the_model_counts_what_compression_leaves():
    zoo = ZOO["LLaVA-Video"]
    frames = 6
    cost, count = cost_of(zoo), zoo.grid(Video(frames)).count
    _, lengths = counted(zoo, frames, method=EveryOther(after=(1,)))
    text = lengths[0] - count
    cost = dataclasses.replace(cost, text=text)
    assert [n - text for n in lengths] == cost.layer_tokens(frames, 0.5, 1.0)
    assert cost.compressed(frames, 0.5, 1.0) == cost.encoding(frames) + cost.prefill([n - text for n in lengths])


def test_the_counts_of_a_question_are_those_of_its_layers():
    zoo = ZOO["LLaVA-Video"]
    inputs = zoo.prompt([Text(4), Video(6), Text(5)]).inputs
    with torch.no_grad(), compress(zoo.model, EveryOther(after=(1,))) as trace:
        zoo.model(**inputs)
    cost = dataclasses.replace(cost_of(zoo), text=11)
    counts = flop_counts(cost_of(zoo), trace.last, 11)
    assert counts == {"flops": cost.compressed(6, 0.5, 1.0), "full_flops": cost.full(6)}


def test_a_qwen_model_asks_for_the_size_of_its_frames():
    with pytest.raises(InputError, match=r"rows and columns .* multiples of 2, got \(3, 4\)"):
        model_cost(ZOO["Qwen2-VL"].model, patches=(3, 4))
    assert find_family(ZOO["Qwen2-VL"].model).name == "Qwen2-VL"


@pytest.mark.parametrize(("frames", "limit"), [(32, 2.32), (64, 2.46), (128, 2.71), (256, 3.15)])
def test_the_limit_of_the_published_model(frames, limit):
    assert LLAVA_VIDEO.limit(frames, 0.3, 0.6) == pytest.approx(limit, abs=0.01)


def test_candidates_below_the_retention_are_refused():
    with pytest.raises(InputError, match=r"in \[retention, 1\], got 0.2 with retention 0.3"):
        LLAVA_VIDEO.compressed(64, 0.3, 0.2)


SMALL = ModelCost(
    VisionShape(1, 16, 100, 16, 8, (300, 300), (256, 256), 16, 64), ModelShape(4, 16, 32, 2, 1, 8), 50, step_tokens=5
)


@given(
    retention=st.sampled_from([0.05, 0.1, 0.3, 0.5, 0.9, 1.0]),
    extra=st.floats(0, 1),
    reference=st.integers(1, 40),
    step=st.sampled_from([1, 2, 8]),
)
def test_the_matching_number_of_frames_by_brute_force(retention, extra, reference, step):
    cost = dataclasses.replace(SMALL, step_frames=step, step_tokens=5 * step)
    candidates = round(retention + (1 - retention) * extra, 6)
    budget = cost.full(-(-reference // step) * step)
    affordable = [
        frames
        for frames in range(step, 60 * reference + 60 * step, step)
        if cost.compressed(frames, retention, candidates) <= budget
    ]
    found = match_budget(cost, retention, candidates, reference_frames=reference)
    assert found == max(affordable)


def test_matching_the_published_model_at_64_frames():
    assert match_budget(LLAVA_VIDEO, 0.3, 0.6) == 150
    assert match_budget(LLAVA_VIDEO, 1.0, 1.0) == 64


speeds = st.builds(
    Speed,
    flops_per_second=st.sampled_from([1e8, 1e9]),
    floor_seconds=st.sampled_from([0.0, 1e-5, 1e-3]),
    fixed_seconds=st.sampled_from([0.0, 1e-5, 1e-3, 1e-1]),
    token_seconds=st.sampled_from([0.0, 1e-7, 1e-6, 1e-5]),
)


@given(speed=speeds, retention=st.sampled_from([0.1, 0.3, 0.5]), batch=st.sampled_from([1, 4]))
def test_the_break_even_is_the_first_number_of_frames_that_pays(speed, retention, batch):
    most = 200
    paying = [n for n in range(1, most + 1) if pays(SMALL, speed, n, retention, 0.6, batch=batch)]
    found = break_even(SMALL, speed, retention, 0.6, batch=batch, most=most)
    assert found == (paying[0] if paying else None)
    assert paying == list(range(found, most + 1)) if paying else True


@given(speed=speeds, batch=st.sampled_from([1, 4]))
def test_what_moves_the_break_even(speed, batch):
    def first(speed=speed, retention=0.3, candidates=0.6, batch=batch):
        found = break_even(SMALL, speed, retention, candidates, batch=batch, most=500)
        return 501 if found is None else found

    assert first(retention=0.1) <= first() <= first(retention=0.5)
    assert first(candidates=0.4) <= first() <= first(candidates=1.0)
    assert first() <= first(speed=dataclasses.replace(speed, fixed_seconds=2 * speed.fixed_seconds + 1e-6))
    assert first() <= first(speed=dataclasses.replace(speed, token_seconds=2 * speed.token_seconds + 1e-6))
    assert first(batch=8 * batch) <= first()


def test_the_break_even_retention_by_brute_force():
    speed = Speed(1e9, fixed_seconds=1e-3)
    paying = [kept / 100 for kept in range(1, 100) if pays(SMALL, speed, 40, kept / 100, max(0.6, kept / 100))]
    assert break_even_retention(SMALL, speed, 40, 0.6) == max(paying) < 0.99
    assert break_even_retention(SMALL, Speed(1e9, fixed_seconds=1e3), 40, 0.6) is None
