"""What works without compression works with it, or is refused in a sentence."""

import pytest
import torch
from helpers import close, generate, hooks_of, logits_of
from reference import decoder_of, entering, masked_logits, output_embeddings, st_simdiff_masks
from zoo import ZOO, Text, Video, words

from st_simdiff import InputError, STSimDiff, attach, compress, make_method
from st_simdiff.models.compiled import Uncompiled
from st_simdiff.models.transformers_api import cache_in

METHOD = STSimDiff(retention=0.3, tau_sim=0.8, tau_diff=0.4)
ROW = [Text(5), Video(5), Text(7, 1)]
EMBEDS_FIRST = {"LLaVA-Video", "NVILA"}
zoos = pytest.mark.parametrize("zoo", ZOO.values(), ids=list(ZOO))
two_kinds = pytest.mark.parametrize("name", ["LLaVA-Video", "Qwen2.5-VL"])


# --- without a cache ---


@pytest.mark.parametrize("name", ZOO)
@pytest.mark.parametrize("options", [{}, {"num_beams": 3}], ids=["greedy", "beams"])
def test_generation_without_a_cache_gives_the_answer_with_one(name, options):
    zoo = ZOO[name]
    plain = [generate(zoo, zoo.prompt(ROW).inputs, 5, use_cache=cache, **options).sequences for cache in (True, False)]
    if not torch.equal(*plain):
        pytest.skip("this version of transformers gives the uncompressed model another answer without a cache")
    for method in (METHOD, make_method("fastv", retention=0.3)):
        with compress(zoo.model, method, **zoo.options) as trace:
            cached = generate(zoo, zoo.prompt(ROW).inputs, steps=5, **options)
            kept = trace.last.offsets
            uncached = generate(zoo, zoo.prompt(ROW).inputs, steps=5, use_cache=False, **options)
            again = generate(zoo, zoo.prompt(ROW).inputs, steps=5, use_cache=False, **options)
        assert torch.equal(cached.sequences, uncached.sequences)
        assert torch.equal(cached.sequences, again.sequences)
        assert torch.equal(trace.last.offsets, kept)
        close(logits_of(uncached), logits_of(cached))


def test_a_longer_prompt_without_a_cache_is_a_prompt_of_its_own():
    zoo = ZOO["Qwen2.5-VL"]
    method = make_method("fastv", retention=0.3)
    short, long = zoo.prompt(ROW), zoo.prompt([*ROW, Text(2, 8)])
    with torch.no_grad(), compress(zoo.model, method) as trace:
        expected = zoo.model(**long.inputs).logits[0, -1]
        zoo.model(**short.inputs, use_cache=False)
        got = zoo.model(**long.inputs, use_cache=False).logits[0, -1]
    assert trace.last.kept == 18
    close(got, expected)


# --- a loss ---


def expected_loss(zoo, row, answer):
    """By brute force: the loss of the answer behind a prompt whose dropped tokens are masked as keys."""
    prompt = zoo.prompt(row)
    sequence = entering(zoo.model, prompt.inputs)
    masks, _ = st_simdiff_masks(zoo.model, sequence, prompt.videos[0], METHOD)
    whole = entering(zoo.model, zoo.prompt([*row, answer]).inputs)
    masks = [torch.cat([mask, torch.ones(answer.length, dtype=torch.bool)]) for mask in masks]
    logits = masked_logits(zoo.model, whole, masks)[-answer.length - 1 : -1]
    return torch.nn.functional.cross_entropy(logits, torch.tensor(words(answer)))


def labelled(zoo, *rows, answer):
    inputs = zoo.prompt(*([*row, answer] for row in rows)).inputs
    labels = torch.full_like(inputs["input_ids"], -100)
    labels[:, -answer.length :] = inputs["input_ids"][:, -answer.length :]
    return inputs | {"labels": labels}


@zoos
def test_the_loss_of_an_answer_is_that_behind_the_compressed_prompt(zoo):
    answer = Text(5, 4)
    inputs = labelled(zoo, ROW, answer=answer)
    with compress(zoo.model, METHOD, **zoo.options):
        output = zoo.model(**inputs)
        as_tuple = zoo.model(**inputs, return_dict=False)
    close(output.loss.detach(), expected_loss(zoo, ROW, answer).detach())
    assert torch.equal(as_tuple[0], output.loss)
    output.loss.backward()
    assert float(output_embeddings(zoo.model).weight.grad.abs().sum()) > 0
    zoo.model.zero_grad()


@two_kinds
def test_the_loss_of_a_ragged_batch_is_the_mean_of_its_rows(name):
    zoo, answer = ZOO[name], Text(5, 4)
    rows = [[Text(9, 4), Video(5, 1), Text(2, 2)], ROW, [Text(3), Video(5, 3), Text(6, 5)]]
    with torch.no_grad(), compress(zoo.model, METHOD):
        together = zoo.model(**labelled(zoo, *rows, answer=answer)).loss
        alone = [zoo.model(**labelled(zoo, row, answer=answer)).loss for row in rows]
    close(together, torch.stack(alone).mean())


@two_kinds
def test_a_loss_without_anything_dropped_is_the_models_own(name):
    zoo = ZOO[name]
    inputs = labelled(zoo, ROW, answer=Text(5, 4))
    text = labelled(zoo, [Text(9)], answer=Text(5, 4))
    with torch.no_grad():
        plain = [zoo.model(**one).loss for one in (inputs, text)]
        with compress(zoo.model, STSimDiff(retention=1.0)):
            assert [zoo.model(**one).loss for one in (inputs, text)] == plain


def test_answers_of_several_lengths_are_refused_where_a_query_ranks():
    zoo = ZOO["Qwen2.5-VL"]
    inputs = labelled(zoo, ROW, ROW, answer=Text(5, 4))
    inputs["labels"][0, -3] = -100
    inputs["labels"][0, :-3] = -100
    with compress(zoo.model, METHOD), pytest.raises(InputError, match="begin 2, 5 positions before the end"):
        zoo.model(**inputs)
    with compress(zoo.model, make_method("uniform_frames", retention=0.4)):
        zoo.model(**inputs).loss.backward()
    zoo.model.zero_grad()
    with compress(zoo.model, METHOD), pytest.raises(InputError, match="leave out logits_to_keep"):
        zoo.model(**labelled(zoo, ROW, answer=Text(5, 4)), logits_to_keep=2)


# --- what can be looked at ---


@pytest.mark.parametrize("name", ZOO)
def test_hidden_states_and_attentions_have_the_lengths_of_their_layers(name):
    """What enters every layer and leaves the last one; the attention of every layer."""
    zoo = type(ZOO[name])()  # transformers leaves hooks of its own on a model that was looked at
    inputs = zoo.prompt(ROW).inputs
    (zoo.model.language_model if name in EMBEDS_FIRST else zoo.model).set_attn_implementation("eager")
    with torch.no_grad(), compress(zoo.model, METHOD, **zoo.options) as trace:
        output = zoo.model(**inputs, output_hidden_states=True, output_attentions=True)
    text = inputs["input_ids"].shape[1] - (1 if name in EMBEDS_FIRST else trace.last.grid.count)
    lengths = [text + count for count in trace.last.tokens_per_layer]
    assert [states.shape[1] for states in output.hidden_states] == [*lengths, lengths[-1]]
    assert [weights.shape[2:] for weights in output.attentions] == [(length, length) for length in lengths]
    for weights in output.attentions:
        close(weights.sum(-1), torch.ones(weights.shape[:-1]))


# --- caches ---


@two_kinds
def test_a_second_turn_outside_is_refused(name):
    zoo = ZOO[name]
    with torch.no_grad():
        with compress(zoo.model, METHOD):
            cache = cache_in(zoo.model(**zoo.prompt(ROW).inputs))
        held = [layer.held for layer in cache.layers]
        token = torch.tensor([[11]])
        with pytest.raises(InputError, match=r"go on from it inside compress\(...\), or with the model attached"):
            zoo.model(input_ids=token, past_key_values=cache)
        with pytest.raises(InputError, match="pruned by compression"):
            generate(zoo, {"input_ids": torch.ones(1, cache.get_seq_length() + 1).long()}, past_key_values=cache)
        assert [layer.held for layer in cache.layers] == held
        with compress(zoo.model, METHOD):
            inside = zoo.model(input_ids=token, past_key_values=cache).logits
        assert inside.isfinite().all()


def test_a_second_turn_goes_on_under_another_attachment():
    zoo = ZOO["LLaVA-OneVision"]
    with torch.no_grad():
        with compress(zoo.model, METHOD):
            caches = [cache_in(zoo.model(**zoo.prompt(ROW).inputs)) for _ in range(2)]
            expected = zoo.model(input_ids=torch.tensor([[11]]), past_key_values=caches[0]).logits
        attachment = attach(zoo.model, make_method("full"))
        try:
            got = zoo.model(input_ids=torch.tensor([[11]]), past_key_values=caches[1]).logits
        finally:
            attachment.detach()
    assert torch.equal(got, expected)


# --- compiled ---


def compile_layers(model, backend):
    for layer in decoder_of(model).layers:
        layer.compile(backend=backend)
    return model


def compile_decoder(model, backend):
    decoder_of(model).compile(backend=backend)
    return model


def compile_model(model, backend):
    model.compile(backend=backend)
    return model


def compile_forward(model, backend):
    model.forward = torch.compile(model.forward, backend=backend)
    return model


def compile_around(model, backend):
    return torch.compile(model, backend=backend)


slow = pytest.mark.slow


@pytest.mark.parametrize(
    ("compiled", "backend"),
    [
        (compile_layers, "eager"),
        pytest.param(compile_around, "eager", marks=slow),
        pytest.param(compile_decoder, "eager", marks=slow),
        pytest.param(compile_model, "eager", marks=slow),
        pytest.param(compile_forward, "eager", marks=slow),
        pytest.param(compile_layers, "inductor", marks=slow),
        pytest.param(compile_model, "inductor", marks=slow),
    ],
)
@pytest.mark.parametrize("name", ["Qwen2.5-VL", pytest.param("LLaVA-OneVision", marks=slow)])
@pytest.mark.parametrize("used", [True, pytest.param(False, marks=slow)], ids=["used before", "not used"])
def test_a_compiled_model_is_compressed(name, compiled, backend, used):
    torch._dynamo.reset()
    zoo = type(ZOO[name])()
    prompts = [zoo.prompt([Text(5), Video(frames), Text(7, 1)]).inputs for frames in (4, 5, 6)]
    with torch.no_grad():
        plain = [zoo.model(**inputs).logits for inputs in prompts]
        with compress(zoo.model, METHOD):
            expected = [zoo.model(**inputs).logits for inputs in prompts]
        model = compiled(zoo.model, backend)
        before = hooks_of(zoo.model)
        if used:
            for inputs, logits in zip(prompts[:2], plain, strict=False):
                close(model(**inputs).logits, logits)
        with compress(model, METHOD) as trace:
            for inputs, logits in zip(prompts, expected, strict=True):
                close(model(**inputs).logits[:, -1], logits[:, -1])
                assert trace.last.kept < trace.last.grid.count
        close(model(**prompts[0]).logits, plain[0])
    assert hooks_of(zoo.model) == before
    torch._dynamo.reset()


class Doubling(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = torch.nn.Identity()

    def forward(self, values):
        return 2 * self.inner(values)


@pytest.mark.parametrize("compiled", [compile_model, compile_forward, compile_around])
def test_compiled_code_runs_hooks_that_come_after_it(compiled):
    torch._dynamo.reset()
    module, values, calls = Doubling(), torch.ones(2), []
    model = compiled(module, "eager")
    model(values)
    before = dict(vars(module)), dict(vars(module.inner))

    @torch.compiler.disable
    def hook(_module, args):
        calls.append(args)

    uncompiled = Uncompiled(module, [module.inner])
    handle = module.inner.register_forward_pre_hook(hook)
    assert torch.equal(model(values), 2 * values)
    assert len(calls) == 1
    handle.remove()
    uncompiled.remove()
    assert (dict(vars(module)), dict(vars(module.inner))) == before
    torch._dynamo.reset()


def test_a_layer_replaced_by_a_compiled_one_is_refused():
    zoo = type(ZOO["Qwen2.5-VL"])()
    decoder = decoder_of(zoo.model)
    decoder.layers[1] = torch.compile(decoder.layers[1], backend="eager")
    with pytest.raises(InputError, match=r"use part.compile\(\)"), compress(zoo.model, METHOD):
        pass


def test_a_compiled_decoder_generates_what_it_generates_uncompiled():
    torch._dynamo.reset()
    zoo = type(ZOO["Qwen2.5-VL"])()
    with compress(zoo.model, METHOD):
        expected = [generate(zoo, zoo.prompt([Text(5), Video(n), Text(7, 1)]).inputs, 4).sequences for n in (4, 5, 6)]
    compile_decoder(zoo.model, "eager")
    with compress(zoo.model, METHOD):
        got = [generate(zoo, zoo.prompt([Text(5), Video(n), Text(7, 1)]).inputs, 4).sequences for n in (4, 5, 6)]
    assert all(map(torch.equal, got, expected))
    torch._dynamo.reset()
