"""The checkpoint that is shipped: in the official layout, small, and able to do what it was trained for."""

import json

import numpy as np
import pytest
import torch
from safetensors import safe_open

from st_simdiff.checkpoints.llava_video.loading import load_llava_video
from st_simdiff.checkpoints.llava_video.modeling import LlavaVideo
from st_simdiff.synth.dataset import draw_split
from st_simdiff.synth.embedded import CHECKPOINT
from st_simdiff.synth.questions import Question
from st_simdiff.synth.vocabulary import words
from studies.synthevents.evaluate import Accuracy, Answered, Examinee, summarize

TOWER = "model.vision_tower.vision_tower.vision_model."


@pytest.fixture(scope="module")
def weights():
    with safe_open(CHECKPOINT / "model.safetensors", "pt") as opened:
        return {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118


def test_the_weights_have_the_official_names(weights):
    layers = {name.split(".")[6] for name in weights if name.startswith(f"{TOWER}encoder.layers.")}
    config = json.loads((CHECKPOINT / "config.json").read_text())
    assert layers == set(map(str, range(config["vision_config"]["num_hidden_layers"] - 1)))
    others = {name for name in weights if not name.startswith((TOWER, "model.layers."))}
    assert others == {
        "lm_head.weight",
        "model.embed_tokens.weight",
        "model.image_newline",
        "model.norm.weight",
        *(f"model.mm_projector.{layer}.{part}" for layer in (0, 2) for part in ("weight", "bias")),
    }
    assert config["architectures"] == ["LlavaQwenForCausalLM"]


def test_the_weights_are_small_finite_and_float16(weights):
    assert {value.dtype for value in weights.values()} == {torch.float16}
    assert all(value.isfinite().all() for value in weights.values())
    assert sum(path.stat().st_size for path in CHECKPOINT.iterdir()) < 5_000_000


def test_the_checkpoint_is_loaded_with_its_own_words():
    loaded = load_llava_video(CHECKPOINT, dtype=torch.float32)
    assert isinstance(loaded.model, LlavaVideo)
    assert loaded.tokenizer.convert_ids_to_tokens(range(len(loaded.tokenizer))) == list(words())
    assert loaded.tokenizer.decode(loaded.tokenizer("red").input_ids) == "red"


@pytest.mark.parametrize("with_time", [False, True])
def test_the_model_answers_when_it_sees_and_guesses_when_it_does_not(with_time):
    examinee = Examinee(CHECKPOINT, with_time=with_time)
    clips = draw_split("plain", "test", 36, seed=7)
    shares = summarize(one for clip in clips for one in examinee.answer(clip))["all"]
    assert shares.questions == 36
    assert shares.generated >= 0.8
    assert shares.likeliest >= 0.8
    assert shares.blind <= 0.45


def test_shares_are_counted_by_kind_and_family():
    options = ("red", "green", "blue", "cyan")
    color, count = Question("color", "?", options, "red"), Question("count", "?", options, "red")
    shares = summarize(
        [Answered(color, True, True, False), Answered(color, False, True, False), Answered(count, False, False, True)]
    )
    assert shares["stable"] == shares["color"] == Accuracy(2, 0.5, 1.0, 0.0)
    assert shares["event"] == shares["count"] == Accuracy(1, 0.0, 0.0, 1.0)
    np.testing.assert_allclose((shares["all"].generated, shares["all"].likeliest), (1 / 3, 2 / 3))
