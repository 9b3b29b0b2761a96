"""Scores, turns, beams and audio where layers are linear or have windows."""

import pytest
import torch
import transformers
from helpers import close, generate, logits_of
from reference import (
    entering,
    extended,
    forced_logits,
    last_query_scores,
    masked_greedy,
    pruning_layer,
    st_simdiff_masks,
)
from test_families import ONE_VIDEO, method_of
from zoo import Text, words
from zoo_more import MORE

from st_simdiff import InputError, compress

HYBRID = [name for name in ("Qwen3.5", "Gemma 4 E", "Gemma 4 26B-A4B", "EXAONE 4.5", "Kimi") if name in MORE]
hybrids = pytest.mark.parametrize(
    "zoo",
    [
        pytest.param(MORE[name], id=name, marks=[pytest.mark.slow] if name[:3] in ("EXA", "Kim") else [])
        for name in HYBRID
    ],
)


def expected(zoo):
    prompt = zoo.prompt(ONE_VIDEO)
    sequence = entering(zoo.model, prompt.inputs)
    masks, _ = st_simdiff_masks(zoo.model, sequence, prompt.videos[0], method_of(zoo))
    return prompt, sequence, masks


@hybrids
def test_the_scores_are_those_of_eager_attention(zoo):
    prompt, sequence, masks = expected(zoo)
    layer = pruning_layer(zoo.model, method_of(zoo))
    with compress(zoo.model, method_of(zoo)) as trace:
        generate(zoo, prompt.inputs, steps=1)
    entered, pruned = trace.last.stages
    assert pruned.layer == layer
    where = torch.tensor(prompt.videos[0][0].positions)[entered.reduction.kept]
    scores = last_query_scores(zoo.model, sequence, [masks[0]] * len(masks), layer)[where]
    torch.testing.assert_close(pruned.reduction.details, scores, rtol=1e-3, atol=1e-6)


@hybrids
def test_a_second_turn_keeps_the_first_turns_pruning(zoo):
    prompt, sequence, masks = expected(zoo)
    question = words(Text(6, 8))
    with compress(zoo.model, method_of(zoo)):
        first = generate(zoo, prompt.inputs, steps=5)
        ids = torch.cat([first.sequences, torch.tensor([question])], dim=1)
        inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
        if zoo.has_types:
            inputs["mm_token_type_ids"] = torch.zeros_like(ids)
        second = generate(zoo, inputs, steps=5, past_key_values=first.past_key_values)
    sequence, masks = extended(zoo.model, sequence, masks, first.sequences[0, -5:].tolist() + question)
    tokens, logits = masked_greedy(zoo.model, sequence, masks, 5)
    assert second.sequences[0, -5:].tolist() == tokens
    close(logits_of(second)[0], logits)


@hybrids
def test_beams_and_answers_without_a_cache_have_their_own_logits(zoo):
    if zoo.name in ("EXAONE 4.5", "Kimi") and transformers.__version__ < "5.23":
        pytest.skip("this transformers repeats their videos for beams wrongly, also without compression")
    prompt, sequence, masks = expected(zoo)
    options = {"steps": 4, "num_beams": 3, "num_return_sequences": 3, "output_scores": True, "length_penalty": 0.0}
    with torch.no_grad(), compress(zoo.model, method_of(zoo)):
        output = generate(zoo, prompt.inputs, **options)
        uncached = zoo.model(**prompt.inputs, use_cache=False).logits[0, -1]
    for tokens, score in zip(output.sequences[:, -4:].tolist(), output.sequences_scores, strict=True):
        own = forced_logits(zoo.model, sequence, masks, tokens).log_softmax(-1)[torch.arange(4), tokens].sum()
        assert float(own) == pytest.approx(float(score), rel=1e-3)
    close(uncached, forced_logits(zoo.model, sequence, masks, [0])[0])


@pytest.mark.parametrize("zoo", [MORE["Qwen3.5"]], ids=["Qwen3.5"])
def test_what_a_state_or_a_window_cannot_do_is_refused(zoo):
    with pytest.raises(InputError, match="share_prefix=True needs full attention in every decoder layer"):  # noqa: SIM117
        with compress(zoo.model, method_of(zoo), share_prefix=True):
            pass


def test_flash_attention_is_refused_in_windows():
    from st_simdiff.models.transformers_api import mask_for

    config = type("Config", (), {"_attn_implementation": "flash_attention_2"})()
    with pytest.raises(
        InputError, match="Sliding windows under compression need attn_implementation 'sdpa' or 'eager'"
    ):
        mask_for(config, torch.ones(1, 1, 2, 2, dtype=torch.bool), torch.zeros(1, 2, 4))


@pytest.mark.parametrize("name", ["Qwen2.5-Omni", "Qwen3-Omni"])
@pytest.mark.slow
def test_something_between_the_tokens_of_a_video_passes(name, monkeypatch):
    """As the audio's tokens are, which use_audio_in_video puts there; here text, in whose place they would be."""
    zoo = MORE[name]
    plain = type(zoo).add_video

    def divided(self, row, video):
        plain(self, row, video)
        place = row.videos[-1]
        middle = place.positions[len(place.positions) // 2]
        row.ids[middle:middle] = [11, 12, 13]
        row.types[middle:middle] = [0, 0, 0]
        place.positions[:] = [p if p < middle else p + 3 for p in place.positions]

    monkeypatch.setattr(type(zoo), "add_video", divided)
    prompt = zoo.prompt(ONE_VIDEO)
    sequence = entering(zoo.model, prompt.inputs)
    masks, kept = st_simdiff_masks(zoo.model, sequence, prompt.videos[0], method_of(zoo))
    tokens, logits = masked_greedy(zoo.model, sequence, masks, 8)
    with compress(zoo.model, method_of(zoo)) as trace:
        output = generate(zoo, prompt.inputs, steps=8)
    assert [video.offsets.tolist() for video in trace.videos] == kept
    assert output.sequences[0, -8:].tolist() == tokens
    close(logits_of(output)[0], logits)
