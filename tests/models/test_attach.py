"""What happens around a compressed model: turns, beams, samples, assistants, scores, offloading, failures."""

import inspect

import accelerate
import pytest
import torch
import transformers
from helpers import STEPS, close, generate, hooks_of, logits_of
from reference import (
    decoder_of,
    entering,
    extended,
    forced_logits,
    last_query_scores,
    masked_greedy,
    masked_logits,
    st_simdiff_masks,
)
from toy_methods import Averaged, EveryOther, Renumbered, Stepwise
from zoo import LAYERS, TEXT, ZOO, Text, Video, words

from st_simdiff import InputError, STSimDiff, compress

METHOD = STSimDiff(retention=0.3, tau_sim=0.8, tau_diff=0.4)
ROW = [Text(5), Video(5), Text(7, 1)]
encodes_ahead = pytest.mark.skipif(
    "mm_encoder_outputs" not in inspect.signature(transformers.Qwen2VLForConditionalGeneration.forward).parameters,
    reason="generate() of this transformers version does not encode videos before the first forward",
)
three_kinds = pytest.mark.parametrize("name", ["LLaVA-Video", "LLaVA-OneVision", "Qwen2.5-VL"])
both_positions = pytest.mark.parametrize(
    "zoo", [ZOO["LLaVA-OneVision"], ZOO["Qwen2.5-VL"]], ids=["one position", "three positions"]
)


def expected(zoo, row=ROW, method=METHOD):
    """The prompt, and what enters its decoder with the masks of every layer."""
    prompt = zoo.prompt(row)
    sequence = entering(zoo.model, prompt.inputs)
    masks, _ = st_simdiff_masks(zoo.model, sequence, prompt.videos[0], method)
    return prompt, sequence, masks


def every_other(prompt, length, times=1):
    alive = torch.ones(length, dtype=torch.bool)
    where = torch.tensor(prompt.videos[0][0].positions)
    alive[where] = False
    alive[where[:: 2**times]] = True
    return alive


# --- decoding ---


@both_positions
def test_a_second_turn_keeps_the_first_turns_pruning(zoo):
    prompt, sequence, masks = expected(zoo)
    question = words(Text(6, 8))
    with compress(zoo.model, METHOD):
        first = generate(zoo, prompt.inputs, steps=5)
        ids = torch.cat([first.sequences, torch.tensor([question])], dim=1)
        second = generate(
            zoo,
            {"input_ids": ids, "attention_mask": torch.ones_like(ids)},
            steps=5,
            past_key_values=first.past_key_values,
        )
    sequence, masks = extended(zoo.model, sequence, masks, first.sequences[0, -5:].tolist() + question)
    tokens, logits = masked_greedy(zoo.model, sequence, masks, 5)
    assert second.sequences[0, -5:].tolist() == tokens
    close(logits_of(second)[0], logits)


def test_a_second_turn_may_bring_a_second_video():
    zoo = ZOO["LLaVA-OneVision"]
    prompt, sequence, masks = expected(zoo)
    whole, new = zoo.prompt([*ROW, Video(5, 3), Text(4, 9)]), zoo.prompt([Video(5, 3), Text(4, 9)])
    with compress(zoo.model, METHOD) as trace:
        first = generate(zoo, prompt.inputs, steps=4)
        ids = torch.cat([first.sequences, new.inputs["input_ids"]], dim=1)
        inputs = new.inputs | {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
        second = generate(zoo, inputs, steps=4, past_key_values=first.past_key_values)
    start = sequence.embeds.shape[1]
    features = entering(zoo.model, whole.inputs).embeds[:, start:]
    sequence, masks = extended(zoo.model, sequence, masks, first.sequences[0, -4:].tolist() + [0] * features.shape[1])
    sequence.embeds[:, start + 4 :] = features
    where = torch.tensor(whole.videos[0][1].positions) + 4
    entered = where[trace.last.stages[0].reduction.kept]
    for mask in masks:
        mask[where] = False
        mask[entered] = True
    scores = last_query_scores(zoo.model, sequence, masks, 1)[entered]
    kept = entered[scores.argsort(descending=True)[: trace.last.kept]].sort().values
    for mask in masks[2:]:
        mask[entered] = False
        mask[kept] = True
    assert where[trace.last.offsets].tolist() == kept.tolist()
    tokens, logits = masked_greedy(zoo.model, sequence, masks, 4)
    assert second.sequences[0, -4:].tolist() == tokens
    close(logits_of(second)[0], logits)


@three_kinds
def test_beams_have_the_scores_of_their_own_tokens(name):
    zoo = ZOO[name]
    prompt, sequence, masks = expected(zoo)
    with compress(zoo.model, METHOD):
        output = generate(
            zoo, prompt.inputs, steps=8, num_beams=3, num_return_sequences=3, output_scores=True, length_penalty=0.0
        )
    for tokens, score in zip(output.sequences[:, -8:].tolist(), output.sequences_scores, strict=True):
        logits = forced_logits(zoo.model, sequence, masks, tokens)
        own = logits.log_softmax(-1)[torch.arange(8), tokens].sum()
        assert float(own) == pytest.approx(float(score), rel=1e-4)


@three_kinds
def test_beams_of_a_ragged_batch_are_those_of_its_rows(name):
    zoo = ZOO[name]
    rows = [[Text(9, 4), Video(5, 1), Text(2, 2)], ROW, [Text(3), Video(5, 3), Video(5, 2), Text(6, 5)]]
    options = {"steps": 6, "num_beams": 3, "length_penalty": 0.0, "output_scores": True}
    with compress(zoo.model, METHOD):
        together = generate(zoo, zoo.prompt(*rows).inputs, **options)
        for index, row in enumerate(rows):
            alone = generate(zoo, zoo.prompt(row).inputs, **options)
            assert together.sequences[index, -6:].tolist() == alone.sequences[0, -6:].tolist()
            close(together.sequences_scores[index : index + 1], alone.sequences_scores)


@three_kinds
def test_samples_are_drawn_from_their_own_logits(name):
    zoo = ZOO[name]
    prompt, sequence, masks = expected(zoo)
    with compress(zoo.model, METHOD):
        torch.manual_seed(3)
        output = generate(zoo, prompt.inputs, steps=8, do_sample=True, num_return_sequences=3)
    assert len({tuple(row) for row in output.sequences[:, -8:].tolist()}) > 1
    for row, tokens in enumerate(output.sequences[:, -8:].tolist()):
        close(logits_of(output)[row], forced_logits(zoo.model, sequence, masks, tokens))


@both_positions
def test_prompt_lookup_gives_the_greedy_tokens(zoo):
    prompt = zoo.prompt(ROW)
    with compress(zoo.model, METHOD):
        greedy = generate(zoo, prompt.inputs)
        looked_up = generate(zoo, prompt.inputs, prompt_lookup_num_tokens=3)
    assert torch.equal(looked_up.sequences, greedy.sequences)


@encodes_ahead
def test_an_assistant_model_gives_the_greedy_tokens():
    zoo = ZOO["LLaVA-OneVision"]
    prompt = zoo.prompt(ROW)
    torch.manual_seed(1)
    assistant = transformers.Qwen2ForCausalLM(transformers.Qwen2Config(**TEXT | {"num_hidden_layers": 1})).eval()
    with compress(zoo.model, METHOD):
        greedy = generate(zoo, prompt.inputs)
        assisted = generate(zoo, prompt.inputs, assistant_model=assistant)
    assert torch.equal(assisted.sequences, greedy.sequences)


@three_kinds
def test_an_answer_is_scored_on_the_cache_of_its_prompt(name):
    zoo = ZOO[name]
    prompt, sequence, masks = expected(zoo)
    answer = words(Text(5, 4))
    with torch.no_grad(), compress(zoo.model, METHOD):
        prefill = zoo.model(**prompt.inputs)
        rest = zoo.model(input_ids=torch.tensor([answer]), past_key_values=prefill.past_key_values)
    logits = torch.cat([prefill.logits[0, -1:], rest.logits[0, :-1]])
    close(logits, forced_logits(zoo.model, sequence, masks, answer))


@three_kinds
def test_an_answer_is_scored_in_one_forward_by_asking_for_its_logits(name):
    zoo = ZOO[name]
    row, answer = ROW, Text(5, 4)
    _, sequence, masks = expected(zoo)
    whole = zoo.prompt([*row, answer])
    with torch.no_grad(), compress(zoo.model, METHOD):
        output = zoo.model(**whole.inputs, logits_to_keep=6)
    close(output.logits[0, :-1], forced_logits(zoo.model, sequence, masks, words(answer)))


@three_kinds
def test_answers_of_a_ragged_batch_are_scored_as_those_of_its_rows(name):
    zoo, answer = ZOO[name], Text(5, 4)
    rows = [[Text(9, 4), Video(5, 1), Text(2, 2), answer], [*ROW, answer], [Text(3), Video(5, 3), Text(6, 5), answer]]
    with torch.no_grad(), compress(zoo.model, METHOD):
        together = zoo.model(**zoo.prompt(*rows).inputs, logits_to_keep=6).logits
        for index, row in enumerate(rows):
            close(together[index], zoo.model(**zoo.prompt(row).inputs, logits_to_keep=6).logits[0])


@three_kinds
def test_a_forward_without_cache_gives_the_same_logits(name):
    zoo = ZOO[name]
    prompt, sequence, masks = expected(zoo)
    with torch.no_grad(), compress(zoo.model, METHOD):
        output = zoo.model(**prompt.inputs, use_cache=False)
    assert output.past_key_values is None
    close(output.logits[0, -1], masked_logits(zoo.model, sequence, masks)[-1])


def test_the_cache_reports_the_whole_sequence_and_holds_what_was_kept():
    zoo = ZOO["Qwen2.5-VL"]
    prompt = zoo.prompt(ROW)
    with torch.no_grad(), compress(zoo.model, METHOD) as trace:
        cache = zoo.model(**prompt.inputs).past_key_values
    length, dropped = prompt.inputs["input_ids"].shape[1], trace.last.grid.count - trace.last.kept
    assert cache.get_seq_length() == length
    assert [layer.get_seq_length() for layer in cache.layers] == [length] * LAYERS
    assert [layer.keys.shape[-2] for layer in cache.layers[2:]] == [length - dropped] * 2
    assert cache.layers[0].keys.shape[-2] == length - trace.last.grid.count + trace.last.stages[0].after


# --- positions ---


def test_kept_tokens_and_new_ones_have_their_original_mrope_positions():
    zoo = ZOO["Qwen2.5-VL"]
    prompt, decoder = zoo.prompt(ROW), decoder_of(zoo.model)
    positions = []

    def note(_module, args, kwargs):
        positions.append(kwargs["position_ids"] if "position_ids" in kwargs else args[1])

    handle = decoder.rotary_emb.register_forward_pre_hook(note, with_kwargs=True)
    generate(zoo, prompt.inputs, steps=4)
    deltas, original = zoo.model.model.rope_deltas.clone(), list(positions)
    positions.clear()
    with compress(zoo.model, METHOD) as trace:
        generate(zoo, prompt.inputs, steps=4)
    handle.remove()
    assert torch.equal(zoo.model.model.rope_deltas, deltas)
    assert int(deltas) != 0
    video = prompt.videos[0][0].positions
    entered = [p for p in range(original[0].shape[-1]) if p not in set(video)]
    entered = sorted(entered + [video[i] for i in trace.last.stages[0].reduction.kept.tolist()])
    assert torch.equal(positions[0], original[0][..., entered])
    assert positions[0].unique().numel() < positions[0].numel()
    for new, old in zip(positions[1:], original[1:], strict=True):
        assert torch.equal(new, old)


@pytest.mark.parametrize("after", [(), (1,), (0, 2)], ids=["at the input", "after one layer", "after two layers"])
def test_renumbered_positions_are_contiguous_and_go_on_from_there(after):
    zoo = ZOO["LLaVA-OneVision"]
    prompt = zoo.prompt(ROW)
    sequence = entering(zoo.model, prompt.inputs)
    length = sequence.embeds.shape[1]
    masks = []
    for layer in range(LAYERS):
        times = sum(layer > stage for stage in after) if after else 1
        alive = every_other(prompt, length, times) if times else torch.ones(length, dtype=torch.bool)
        masks.append(alive)
        sequence.positions[layer] = (alive.cumsum(0) - 1)[None]
    tokens, logits = masked_greedy(zoo.model, sequence, masks, STEPS)
    with compress(zoo.model, Renumbered(after=after)):
        output = generate(zoo, prompt.inputs)
        first = generate(zoo, prompt.inputs, steps=5)
        question = words(Text(6, 8))
        ids = torch.cat([first.sequences, torch.tensor([question])], dim=1)
        inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
        second = generate(zoo, inputs, steps=5, past_key_values=first.past_key_values)
    assert output.sequences[0, -STEPS:].tolist() == tokens
    close(logits_of(output)[0], logits)
    sequence, masks = extended(zoo.model, sequence, masks, tokens[:5] + question)
    tokens, logits = masked_greedy(zoo.model, sequence, masks, 5)
    close(logits_of(second)[0], logits)


def test_renumbered_rows_of_a_batch_are_their_own_batches_of_one():
    zoo = ZOO["LLaVA-OneVision"]
    rows = [[Text(9, 4), Video(5, 1), Text(2, 2)], ROW, [Text(3), Video(5, 3), Video(5, 2), Text(6, 5)]]
    with compress(zoo.model, Renumbered(after=(1,))):
        together = generate(zoo, zoo.prompt(*rows).inputs)
        for index, row in enumerate(rows):
            alone = generate(zoo, zoo.prompt(row).inputs)
            close(logits_of(together)[index], logits_of(alone)[0])


# --- what a method may do ---


@pytest.mark.parametrize("name", ["LLaVA-OneVision", "Qwen2.5-VL", "Qwen3-VL"])
def test_a_method_may_act_after_several_layers(name):
    zoo = ZOO[name]
    prompt = zoo.prompt(ROW)
    sequence = entering(zoo.model, prompt.inputs)
    where = torch.tensor(prompt.videos[0][0].positions)
    masks = [torch.ones(sequence.embeds.shape[1], dtype=torch.bool)]
    for layer in range(LAYERS - 1):
        alive = masks[-1].clone()
        if layer in (0, 2):
            scores = last_query_scores(zoo.model, sequence, [*masks, alive], layer)[where]
            order = scores.masked_fill(~alive[where], -1).argsort(descending=True)
            best = where[order[: int(alive[where].sum()) // 2]]
            alive[where] = False
            alive[best] = True
        masks.append(alive)
    tokens, logits = masked_greedy(zoo.model, sequence, masks, STEPS)
    with compress(zoo.model, Stepwise()) as trace:
        output = generate(zoo, prompt.inputs)
    assert output.sequences[0, -STEPS:].tolist() == tokens
    close(logits_of(output)[0], logits)
    n = trace.last.grid.count
    assert trace.last.tokens_per_layer == [n, n // 2, n // 2, n // 4]


@both_positions
@pytest.mark.parametrize("after", [(), (1,)], ids=["at the input", "after a layer"])
def test_merged_values_take_the_place_of_the_kept_tokens(zoo, after):
    prompt = zoo.prompt(ROW)
    sequence = entering(zoo.model, prompt.inputs)
    where = torch.tensor(prompt.videos[0][0].positions)
    kept, following = where[: len(where) - 1 : 2], where[1::2]

    def average(hidden):
        hidden = hidden.clone()
        hidden[:, kept] = (hidden[:, kept] + hidden[:, following]) / 2
        return hidden

    length = sequence.embeds.shape[1]
    alive = torch.ones(length, dtype=torch.bool)
    alive[where] = False
    alive[kept] = True
    if after:
        sequence.edits[1] = average
    else:
        sequence.embeds[:] = average(sequence.embeds)
    masks = [torch.ones_like(alive)] * (len(after) * 2) + [alive] * (LAYERS - 2 * len(after))
    tokens, logits = masked_greedy(zoo.model, sequence, masks, STEPS)
    with compress(zoo.model, Averaged(after=after)):
        output = generate(zoo, prompt.inputs)
    assert output.sequences[0, -STEPS:].tolist() == tokens
    close(logits_of(output)[0], logits)


def test_deepstack_features_follow_their_tokens_through_every_stage():
    zoo = ZOO["Qwen3-VL"]
    prompt = zoo.prompt(ROW)
    sequence = entering(zoo.model, prompt.inputs)
    assert len(sequence.deepstack) == 3
    length = sequence.embeds.shape[1]
    masks = [every_other(prompt, length, times) for times in (0, 1, 2, 2)]
    tokens, logits = masked_greedy(zoo.model, sequence, masks, STEPS)
    with compress(zoo.model, EveryOther(after=(0, 1))):
        output = generate(zoo, prompt.inputs)
    assert output.sequences[0, -STEPS:].tolist() == tokens
    close(logits_of(output)[0], logits)
    without = masked_logits(zoo.model, type(sequence)(sequence.embeds, sequence.positions), masks)[-1]
    with pytest.raises(AssertionError):
        close(logits_of(output)[0, 0], without)


# --- the model around it ---


@pytest.mark.parametrize("name", ["Qwen2-VL", "Qwen3-VL"])
def test_weights_that_accelerate_offloads_give_the_same_answer(name):
    zoo = ZOO[name]
    prompt = zoo.prompt(ROW)
    with compress(zoo.model, METHOD):
        plain = generate(zoo, prompt.inputs)
    model = type(zoo)()
    accelerate.cpu_offload(model.model, execution_device=torch.device("cpu"))
    before = hooks_of(model.model)
    with compress(model.model, METHOD):
        offloaded = generate(model, prompt.inputs)
    assert {str(p.device) for p in decoder_of(model.model).parameters()} == {"meta"}
    assert torch.equal(logits_of(plain), logits_of(offloaded))
    generate(model, prompt.inputs, steps=2)
    assert hooks_of(model.model)[0] == before[0]


def test_a_compressed_model_is_saved_as_it_is(tmp_path):
    zoo = ZOO["Qwen2.5-VL"]
    prompt = zoo.prompt(ROW)
    with compress(zoo.model, METHOD):
        zoo.model.save_pretrained(tmp_path)
    loaded = type(zoo.model).from_pretrained(tmp_path).eval()
    assert loaded.state_dict().keys() == zoo.model.state_dict().keys()
    with torch.no_grad():
        assert torch.equal(loaded(**prompt.inputs).logits, zoo.model(**prompt.inputs).logits)


def test_the_model_survives_a_failure_inside_a_layer_and_inside_the_block():
    zoo = ZOO["Qwen3-VL"]
    prompt = zoo.prompt(ROW)
    before = hooks_of(zoo.model)
    plain = generate(zoo, prompt.inputs)

    def fail(_module, _args):
        raise RuntimeError("out of memory")

    with pytest.raises(KeyboardInterrupt), compress(zoo.model, METHOD):  # noqa: PT012
        good = generate(zoo, prompt.inputs)
        handle = decoder_of(zoo.model).layers[2].register_forward_pre_hook(fail)
        with pytest.raises(RuntimeError, match="out of memory"):
            generate(zoo, prompt.inputs)
        handle.remove()
        assert torch.equal(generate(zoo, prompt.inputs).sequences, good.sequences)
        raise KeyboardInterrupt
    assert hooks_of(zoo.model) == before
    assert torch.equal(logits_of(generate(zoo, prompt.inputs)), logits_of(plain))


def test_a_model_is_compressed_once_at_a_time():
    zoo = ZOO["Qwen2-VL"]
    before = hooks_of(zoo.model)
    with compress(zoo.model, METHOD):
        inside = hooks_of(zoo.model)
        with pytest.raises(InputError, match="compressed already"), compress(zoo.model, METHOD):
            pass
        assert hooks_of(zoo.model) == inside
    assert hooks_of(zoo.model) == before
    with compress(zoo.model, METHOD) as trace:
        generate(zoo, zoo.prompt(ROW).inputs, steps=1)
    assert trace.last.kept == 18


def test_gradients_flow_through_a_compressed_forward():
    zoo = ZOO["Qwen2.5-VL"]
    with compress(zoo.model, METHOD):
        zoo.model(**zoo.prompt(ROW).inputs).logits[0, -1].sum().backward()
    gradient = zoo.model.model.visual.patch_embed.proj.weight.grad
    assert gradient is not None
    assert float(gradient.abs().sum()) > 0
    zoo.model.zero_grad()


# --- what cannot be served ---


def test_positional_decoder_arguments_are_refused():
    zoo = ZOO["Qwen2-VL"]
    with torch.no_grad(), compress(zoo.model, METHOD):
        cache = zoo.model(**zoo.prompt(ROW).inputs).past_key_values
        with pytest.raises(InputError, match="keyword arguments only"):
            decoder_of(zoo.model)(torch.tensor([[9]]), past_key_values=cache)


def test_layers_of_an_unknown_kind_are_refused():
    zoo = ZOO["Qwen2.5-VL"]
    config = decoder_of(zoo.model).config
    before = config.layer_types
    try:
        config.layer_types = ["full_attention"] * 3 + ["indexed_attention"]
        with (
            pytest.raises(InputError, match="linear_attention; this model has indexed_attention"),
            compress(zoo.model, METHOD),
        ):
            pass
    finally:
        config.layer_types = before


def test_placeholders_must_match_the_video():
    zoo = ZOO["Qwen2.5-VL"]
    inputs = zoo.prompt(ROW, [Text(40)]).inputs
    video = inputs["input_ids"][0] == 6
    inputs["input_ids"][1, -5:] = 6
    inputs["input_ids"][0, video.nonzero()[:5, 0]] = 9
    with torch.no_grad(), compress(zoo.model, METHOD), pytest.raises(InputError, match="do not match the sizes"):
        zoo.model(**inputs)


@encodes_ahead
def test_features_encoded_outside_the_block_are_refused():
    zoo = ZOO["Qwen2.5-VL"]
    inputs = zoo.prompt(ROW).inputs
    features = zoo.model.model.get_video_features(
        inputs.pop("pixel_values_videos"), inputs["video_grid_thw"], return_dict=True
    )
    with torch.no_grad(), compress(zoo.model, METHOD), pytest.raises(InputError, match="outside the compress"):
        zoo.model(**inputs, mm_encoder_outputs={"video": features})


@pytest.mark.parametrize("engine", ["vllm.entrypoints.llm", "sglang.srt.entrypoints.engine"])
def test_an_engine_is_refused_with_the_supported_families(engine):
    served = type("LLM", (), {"__module__": engine})()
    with (
        pytest.raises(InputError, match=r"cannot reach.*LLaVA-Video, NVILA, LLaVA-OneVision"),
        compress(served, METHOD),
    ):
        pass


def test_an_unsupported_model_is_refused_with_the_supported_families():
    model = transformers.Qwen2ForCausalLM(transformers.Qwen2Config(**TEXT))
    told = r"Qwen2ForCausalLM is not supported. It is the whole model .*InternVL"
    with pytest.raises(InputError, match=told), compress(model, METHOD):
        pass


def test_internvl_has_to_be_told_and_the_others_must_not():
    with pytest.raises(InputError, match="images_as_frames=True"), compress(ZOO["InternVL"].model, METHOD):
        pass
    model = ZOO["Qwen2-VL"].model
    with pytest.raises(InputError, match="is told its videos"), compress(model, METHOD, images_as_frames=True):
        pass
    with pytest.raises(InputError, match="at least 1"), compress(ZOO["InternVL"].model, METHOD, images_as_frames=[0]):
        pass


def test_an_empty_trace_says_so():
    zoo = ZOO["Qwen2-VL"]
    with compress(zoo.model, METHOD) as trace:
        generate(zoo, zoo.prompt([Text(4)]).inputs, steps=1)
    with pytest.raises(InputError, match="trace is empty"):
        _ = trace.last
