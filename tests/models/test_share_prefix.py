"""Several questions on one cache: what does not depend on them is computed once."""

import copy
from dataclasses import dataclass
from typing import ClassVar

import pytest
import torch
from helpers import close, generate, logits_of
from shared_questions import METHOD, PREFIX, QUESTIONS, follow_up, shared_length, together_and_alone
from toy_methods import Stepwise
from zoo import LAYERS, ZOO, Text, Video

from st_simdiff import InputError, STSimDiff, attach, compress, make_method


@dataclass(frozen=True, kw_only=True)
class RenumberedSteps(Stepwise):
    """Asks the question after two layers, and gives what is left contiguous positions."""

    name: ClassVar[str] = "renumbered_steps"
    renumbers_positions: ClassVar[bool] = True


@pytest.mark.parametrize("name", ZOO)
@pytest.mark.parametrize("method", [METHOD, Stepwise(), STSimDiff(retention=0.4, prune_layer=0)], ids=lambda m: m.name)
def test_questions_on_one_cache_are_answered_as_alone(name, method):
    zoo = ZOO[name]
    together, alone, kept, lengths = together_and_alone(zoo, method)
    assert kept[0] == kept[1]
    assert kept[0][0] != kept[0][1]
    for shared, single in zip(together, alone, strict=True):
        close(logits_of(shared), logits_of(single))
    assert lengths[4] == QUESTIONS[1].length


def test_methods_that_renumber_and_prompts_with_two_videos():
    zoo = ZOO["LLaVA-OneVision"]
    for method, prefix in [(RenumberedSteps(), PREFIX), (METHOD, [Video(5), Text(3), Video(5, 4), Text(2)])]:
        together, alone, kept, _ = together_and_alone(zoo, method, prefix)
        assert kept[0] == kept[1]
        for shared, single in zip(together, alone, strict=True):
            close(logits_of(shared), logits_of(single))


def test_a_cache_can_be_copied_for_every_question_and_a_turn_goes_on_from_it():
    """A further turn, which cuts nothing off, keeps the tokens that its conversation began with."""
    zoo = ZOO["Qwen2.5-VL"]
    attachment = attach(zoo.model, METHOD, share_prefix=True)
    try:
        first = generate(zoo, zoo.prompt([*PREFIX, QUESTIONS[0]]).inputs, steps=4)
        kept = attachment.trace.last.offsets
        turn = torch.cat([first.sequences, torch.tensor([[11, 12, 13]])], dim=1)
        inputs = {"input_ids": turn, "attention_mask": torch.ones_like(turn)}
        generate(zoo, inputs, steps=2, past_key_values=copy.deepcopy(first.past_key_values))
        assert torch.equal(attachment.trace.last.offsets, kept)
        expected = logits_of(follow_up(zoo, QUESTIONS[1], copy.deepcopy(first.past_key_values)))
        assert not torch.equal(attachment.trace.last.offsets, kept)
        close(logits_of(follow_up(zoo, QUESTIONS[1], first.past_key_values)), expected)
    finally:
        attachment.detach()


def test_nothing_more_is_kept_without_the_flag_or_without_a_need():
    zoo = ZOO["LLaVA-OneVision"]
    prompt = zoo.prompt([*PREFIX, QUESTIONS[0]]).inputs
    with compress(zoo.model, METHOD):
        plain = generate(zoo, prompt, steps=2).past_key_values
    with compress(zoo.model, METHOD, share_prefix=True):
        kept = generate(zoo, prompt, steps=2).past_key_values
    assert plain.layers[0].shared is None
    assert kept.layers[0].shared.hidden.shape[1] == kept.layers[0].held - 1
    assert [layer.held for layer in kept.layers] == [layer.held for layer in plain.layers]
    assert len(kept.layers) == LAYERS


def test_a_loss_is_that_of_the_new_positions():
    zoo = ZOO["LLaVA-OneVision"]
    whole = zoo.prompt([*PREFIX, QUESTIONS[1]]).inputs["input_ids"]
    new = whole[:, shared_length(zoo) :]
    with torch.no_grad(), compress(zoo.model, METHOD, share_prefix=True):
        cache = generate(zoo, zoo.prompt([*PREFIX, QUESTIONS[0]]).inputs, steps=2).past_key_values
        cache.crop(shared_length(zoo) - cache.get_seq_length())
        output = zoo.model(input_ids=new, attention_mask=torch.ones_like(whole), past_key_values=cache)
    with torch.no_grad(), compress(zoo.model, METHOD):
        alone = zoo.model(**zoo.prompt([*PREFIX, QUESTIONS[1]]).inputs)
    assert output.logits.shape[1] == new.shape[1]
    close(output.logits, alone.logits[:, -new.shape[1] :])


def test_several_rows_are_refused_in_a_sentence():
    zoo = ZOO["LLaVA-OneVision"]
    rows = [[*PREFIX, QUESTIONS[0]]] * 2
    with (
        compress(zoo.model, METHOD, share_prefix=True),
        pytest.raises(InputError, match="one prompt at a time, without padding or beams; got 2 rows"),
    ):
        generate(zoo, zoo.prompt(*rows).inputs, steps=2)


AGNOSTIC = make_method("st_simdiff_input", retention=0.4)
"""Chooses before the decoder, which has not seen the question yet."""


def first_question(zoo):
    return generate(zoo, zoo.prompt([*PREFIX, QUESTIONS[0]]).inputs, steps=2).past_key_values


@pytest.mark.parametrize("method", [METHOD, AGNOSTIC], ids=["asks", "agnostic"])
@pytest.mark.parametrize("name", ["Qwen2.5-VL", "LLaVA-Video"])
def test_refused_questions_leave_the_cache_as_it_was(name, method):
    zoo, asks = ZOO[name], method is METHOD
    question = zoo.prompt([*PREFIX, QUESTIONS[1]]).inputs
    with compress(zoo.model, method):
        alone = generate(zoo, question, steps=4)
    with compress(zoo.model, method, share_prefix=True):
        cache = first_question(zoo)
        cache.crop(shared_length(zoo) - cache.get_seq_length())
        with pytest.raises(InputError, match="all that comes before the question in the first prompt; the cache held"):
            generate(zoo, question, steps=4, past_key_values=cache)
        with pytest.raises(InputError, match="one prompt at a time.*got 2 rows" if asks else "of 1 row, but 2 reach"):
            follow_up(zoo, QUESTIONS[1], cache, num_beams=2)
        if asks:
            with pytest.raises(InputError, match="whole prompt at once, got prefill_chunk_size=2"):
                follow_up(zoo, QUESTIONS[1], cache, prefill_chunk_size=2)
        with pytest.raises(InputError, match="leave out prompt_lookup_num_tokens behind a cache"):
            follow_up(zoo, QUESTIONS[1], cache, prompt_lookup_num_tokens=2)
        assert cache.get_seq_length() == shared_length(zoo)
        close(logits_of(follow_up(zoo, QUESTIONS[1], cache)), logits_of(alone))


def test_a_padded_question_is_refused_before_the_cache_changes():
    zoo = ZOO["Qwen2.5-VL"]
    with compress(zoo.model, METHOD, share_prefix=True):
        cache = first_question(zoo)
        cache.crop(shared_length(zoo) - cache.get_seq_length())
        ids = zoo.prompt([*PREFIX, QUESTIONS[1]]).inputs["input_ids"]
        mask = torch.ones_like(ids)
        mask[:, shared_length(zoo)] = 0
        held = [layer.held for layer in cache.layers]
        with pytest.raises(InputError, match="one prompt at a time, without padding or beams; got padding"):
            generate(zoo, {"input_ids": ids, "attention_mask": mask}, past_key_values=cache)
        assert [layer.held for layer in cache.layers] == held


def test_a_repeated_cache_answers_only_what_does_not_depend_on_the_question():
    zoo = ZOO["LLaVA-OneVision"]
    ids = zoo.prompt([*PREFIX, QUESTIONS[1]]).inputs["input_ids"].repeat(2, 1)
    rows = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    for method in (METHOD, AGNOSTIC):
        with compress(zoo.model, method):
            alone = generate(zoo, zoo.prompt([*PREFIX, QUESTIONS[1]]).inputs, steps=4)
        with compress(zoo.model, method, share_prefix=True):
            cache = first_question(zoo)
            cache.crop(shared_length(zoo) - cache.get_seq_length())
            cache.batch_repeat_interleave(2)
            if method is METHOD:
                with pytest.raises(InputError, match="one prompt at a time, without padding or beams; got 2 rows"):
                    generate(zoo, rows, steps=4, past_key_values=cache)
            else:
                answers = logits_of(generate(zoo, rows, steps=4, past_key_values=cache))
                close(answers, logits_of(alone).expand_as(answers))


@pytest.mark.parametrize("called_first", [False, True], ids=["after generate", "before generate"])
def test_a_call_and_generate_may_follow_each_other_on_one_cache(called_first):
    zoo = ZOO["Qwen2.5-VL"]
    whole = zoo.prompt([*PREFIX, QUESTIONS[1]]).inputs
    with torch.no_grad(), compress(zoo.model, METHOD):
        alone = generate(zoo, whole, steps=1)
    with torch.no_grad(), compress(zoo.model, METHOD, share_prefix=True):
        if called_first:
            cache = zoo.model(**zoo.prompt([*PREFIX, QUESTIONS[0]]).inputs).past_key_values
            answer = follow_up(zoo, QUESTIONS[1], cache, max_new_tokens=1).logits[0]
        else:
            cache = first_question(zoo)
            cache.crop(shared_length(zoo) - cache.get_seq_length())
            new = whole["input_ids"][:, shared_length(zoo) :]
            answer = zoo.model(input_ids=new, past_key_values=cache).logits[:, -1]
    close(answer, alone.logits[0])


def test_ids_without_the_video_and_a_positive_crop_are_refused_in_a_sentence():
    zoo = ZOO["Qwen2.5-VL"]
    with compress(zoo.model, METHOD, share_prefix=True):
        cache = first_question(zoo)
        with pytest.raises(InputError, match=f"crop takes a negative number.*got {shared_length(zoo)}"):
            cache.crop(shared_length(zoo))
        cache.crop(shared_length(zoo) - cache.get_seq_length())
        with pytest.raises(InputError, match=f"holds {shared_length(zoo)} positions, .* whole prompt .* got 3"):
            generate(zoo, {"input_ids": torch.tensor([[11, 12, 13]])}, steps=2, past_key_values=cache)


def test_another_method_does_not_answer_from_what_the_first_one_kept():
    zoo = ZOO["LLaVA-OneVision"]
    with compress(zoo.model, METHOD, share_prefix=True):
        cache = first_question(zoo)
    with (
        compress(zoo.model, make_method("fastv", retention=0.3), share_prefix=True),
        pytest.raises(InputError, match="that st_simdiff compressed: ask fastv with the whole prompt"),
    ):
        follow_up(zoo, QUESTIONS[1], cache)


def test_assisted_generation_behind_a_cache_is_refused_without_compression_too():
    zoo = ZOO["LLaVA-Video"]
    with pytest.raises(InputError, match="leave out prompt_lookup_num_tokens behind a cache"):
        follow_up(zoo, QUESTIONS[1], first_question(zoo), prompt_lookup_num_tokens=2)
