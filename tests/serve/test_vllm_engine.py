"""The plugin in vLLM's engine on a CPU, on tiny random checkpoints: bash run_tests.sh --vllm."""

from __future__ import annotations

from importlib import import_module

import pytest

pytest.importorskip("vllm", reason="needs vLLM: bash run_tests.sh --vllm")

import torch
from engine_prompts import LONG, PROMPTS, draw_video, frame_rate, prompt_text, video_metadata
from engines import EMBEDDED, MROPE, RETENTION, Engines
from transformers import AutoModelForImageTextToText, AutoProcessor
from transformers_answers import transformers_answers
from vllm.model_executor.models.registry import _ModelInfo

from st_simdiff import make_method
from st_simdiff.selection.budget import target_count
from st_simdiff.serve.vllm import MODELS

FAMILIES = ["qwen2_5_vl", "qwen3_vl", "llava_onevision", pytest.param("qwen3_vl_moe", marks=pytest.mark.slow)]
WITHOUT_COMPRESS = [*FAMILIES, *(pytest.param(name, marks=pytest.mark.slow) for name in ("qwen3_5", "qwen3_5_moe"))]


@pytest.fixture(scope="session")
def engines(tmp_path_factory):
    return Engines(tmp_path_factory.mktemp("engines"))


def assert_equal_answers(mine, other, tolerance=1e-4):
    """The same tokens, and logprobs that differ by at most `tolerance`; 0: the same to the bit."""
    assert mine.keys() <= other.keys()
    for name, answer in mine.items():
        assert answer["tokens"] == other[name]["tokens"], name
        for ours, theirs in zip(answer["logprobs"], other[name]["logprobs"], strict=True):
            both = ours.keys() & theirs.keys()
            assert both, name
            assert max(abs(ours[token] - theirs[token]) for token in both) <= tolerance, name


@pytest.mark.parametrize("family", FAMILIES)
def test_answers_and_kept_sets_are_those_of_transformers_with_compress(engines, family):
    got = engines.pruned(family)
    method = make_method("st_simdiff_input", retention=RETENTION)
    answers, kept = transformers_answers(family, engines.checkpoint(family), method)
    assert_equal_answers(got["rounds"][0], answers)
    seeds = [seed for _, videos, _ in PROMPTS.values() for seed in videos]
    firsts = [kept[place] for place, seed in enumerate(seeds) if seed not in seeds[:place]]
    assert [one["kept"] for one in got["reductions"][: len(firsts)]] == firsts


@pytest.mark.parametrize("family", WITHOUT_COMPRESS)
def test_kept_sets_are_the_librarys_on_the_same_features(engines, family):
    got = engines.pruned(family)["reductions"]
    assert all(one["same"] for one in got)
    retentions = [RETENTION] * 5 + [1.0] * 5 + [0.5] * 2
    first = got[: len(retentions)]
    want = [target_count(retention, one["count"]) for retention, one in zip(retentions, first, strict=True)]
    assert [len(one["kept"]) for one in first] == want


@pytest.mark.parametrize("family", WITHOUT_COMPRESS)
def test_a_request_at_retention_1_is_vllm_without_pruning_to_the_bit(engines, family):
    assert_equal_answers(engines.pruned(family)["rounds"][1], engines.stock(family)["rounds"][0], tolerance=0)


@pytest.mark.parametrize("architecture", MODELS)
def test_what_vllm_knows_of_a_class_is_what_it_knows_of_its_own(architecture):
    """By its name too, which decides how speculative decoding embeds images."""
    own = getattr(import_module(f"st_simdiff.serve.vllm.{MODELS[architecture]}"), architecture)
    stock = next(base for base in own.__mro__ if base.__module__.startswith("vllm.") and base.__name__ == architecture)
    assert _ModelInfo.from_model_cls(own) == _ModelInfo.from_model_cls(stock)
    assert own.__name__ == architecture


def test_vllm_with_the_plugin_installed_and_not_asked_for_is_vllm(engines):
    mine, other = engines.stock("qwen2_5_vl"), engines.without_plugin("qwen2_5_vl")
    assert mine["rounds"] == other["rounds"]


@pytest.mark.parametrize("family", MROPE)
def test_chunks_of_48_tokens_and_a_warm_prefix_cache_change_nothing(engines, family):
    whole = engines.pruned(family)["rounds"][0]
    (cold, warm), starts = engines.in_chunks(family)
    assert max(starts) > 48
    assert not any(engines.pruned(family)["starts"][0])
    assert_equal_answers(cold, whole)
    assert_equal_answers(warm, whole)
    assert max(answer["cached"] for answer in warm.values()) > max(answer["cached"] for answer in cold.values())


@pytest.mark.parametrize("family", MROPE)
def test_videos_that_come_as_embeddings_are_pruned_as_those_of_frames(engines, family):
    whole = engines.pruned(family)["rounds"][0]
    assert_equal_answers(engines.embedded(family), whole)
    assert all(engines.embedded(family)[name]["prompt"] == whole[name]["prompt"] for name in EMBEDDED)


def test_two_ranks_of_tensor_parallelism_answer_as_one(engines):
    assert_equal_answers(engines.on_two_ranks("qwen2_5_vl")["rounds"][0], engines.pruned("qwen2_5_vl")["rounds"][0])


@pytest.mark.parametrize("family", MROPE)
def test_positions_in_bfloat16_are_exact_at_64_frames(engines, family):
    """Those of transformers for the whole prompt, at the tokens that are left. Behind a video of Qwen2.5-VL vLLM counts
    text in a way of its own."""
    got = engines.in_bfloat16(family)
    text, (seed,), _ = LONG["long video"]
    checkpoint = engines.checkpoint(family)
    processor = AutoProcessor.from_pretrained(checkpoint)
    clip = draw_video(family, seed)
    inputs = processor(
        text=[prompt_text(family, text)],
        videos=[clip],
        video_metadata=[video_metadata(len(clip), frame_rate(family, "long video"))],
        do_sample_frames=False,
        return_tensors="pt",
    )
    assert int(inputs["video_grid_thw"][0, 0]) == 64
    model = AutoModelForImageTextToText.from_pretrained(checkpoint).model
    more = {"second_per_grid_ts": inputs["second_per_grid_ts"]} if family == "qwen2_5_vl" else {}
    positions, _ = model.get_rope_index(
        inputs["input_ids"], inputs["mm_token_type_ids"], video_grid_thw=inputs["video_grid_thw"], **more
    )
    stays = inputs["input_ids"][0] != model.config.video_token_id
    visual = (~stays).nonzero().flatten()
    (reduction,) = got["reductions"]
    stays[visual[torch.tensor(reduction["kept"])]] = True
    end = int(stays[: visual[-1] + 1].sum()) if family == "qwen2_5_vl" else int(stays.sum())
    want = positions[:, 0, stays][:, :end]
    assert int(want.max()) > 256
    assert torch.equal(torch.tensor(got["positions"])[:, :end], want)
