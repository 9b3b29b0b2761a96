"""A model that serves: what is compressed belongs to a call, not to the model."""

import asyncio
import contextvars
import copy
import gc
import logging
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
import transformers
from helpers import generate, hooks_of
from reference import decoder_of
from zoo import ZOO, Image, Text, Video, words

from st_simdiff import InputError, STSimDiff, attach, compress, make_method
from st_simdiff.models.memory import resident_bytes
from st_simdiff.models.transformers_api import cache_in

METHOD = STSimDiff(retention=0.3)
ROW = [Text(5), Video(5), Text(7, 1)]
FAMILIES = ["LLaVA-Video", "LLaVA-OneVision", "Qwen2.5-VL", "Qwen3-VL"]
METHODS = {
    "full": None,
    "st_simdiff": METHOD,
    "fastv": make_method("fastv", retention=0.5),
    "uniform": make_method("uniform_frames", retention=0.4),
    "framefusion": make_method("framefusion", retention=0.5),
    "merging": make_method("sttm", retention=0.5),
}
ROWS = [
    [ROW],
    [[Text(9, 4), Video(3, 1), Text(2, 2)]],
    [[Text(3), Video(7, 3), Video(7, 2), Text(6, 5)]],
    [[Text(9, 4), Video(5, 1), Text(2, 2)], ROW],
    [[Text(12, 6)]],
]


def test_what_is_printed_is_short():
    zoo = ZOO["Qwen2-VL"]
    attachment = attach(zoo.model, METHOD)
    assert repr(attachment) == f"Attachment({type(zoo.model).__name__}, method={METHOD!r})"
    with attachment.using() as trace:
        answer(zoo, [ROW])
    attachment.detach()
    assert repr(attachment) == f"Attachment({type(zoo.model).__name__}, detached)"
    shown = repr(trace.last.stages)
    assert shown.startswith("[StageRecord(layer=")
    assert "tensor" not in shown + repr([stage.reduction for stage in trace.last.stages])


def answer(zoo, rows, steps=3, **options):
    return generate(zoo, zoo.prompt(*rows).inputs, steps=steps, **options).sequences.tolist()


def in_thread(function):
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(function).result()


# --- threads ---


@pytest.mark.parametrize("requests", [20, pytest.param(100, marks=pytest.mark.slow)])
def test_eight_threads_get_the_answers_of_one(requests):
    """Methods, retentions, lengths, families and plain prompts mixed, by blocks and by attachments."""
    zoos = [ZOO[name] for name in FAMILIES]
    jobs = [(zoo, rows, name) for zoo in zoos for rows in range(len(ROWS)) for name in METHODS]

    def plain_or_compressed(zoo, rows, name):
        if METHODS[name] is None:
            return answer(zoo, ROWS[rows]), None
        with compress(zoo.model, METHODS[name]) as trace:
            return answer(zoo, ROWS[rows]), [video.offsets.tolist() for video in trace.videos]

    expected = {index: plain_or_compressed(*job) for index, job in enumerate(jobs)}
    before = [hooks_of(zoo.model) for zoo in zoos]
    attachments = {zoo.name: attach(zoo.model, METHOD) for zoo in zoos[:2]}
    wrong, start = [], threading.Barrier(8)

    def serve(number):
        start.wait()
        for request in range(requests):
            index = (number * 131 + request * 37) % len(jobs)
            zoo, rows, name = jobs[index]
            attachment = attachments.get(zoo.name)
            if attachment is None:
                got = plain_or_compressed(*jobs[index])
            elif name == "st_simdiff" and request % 2:
                got = answer(zoo, ROWS[rows]), [video.offsets.tolist() for video in attachment.trace.videos]
            else:
                with attachment.using(METHODS[name] or make_method("full")) as trace:
                    got = answer(zoo, ROWS[rows]), [video.offsets.tolist() for video in trace.videos]
            if got[0] != expected[index][0] or (METHODS[name] is not None and got[1] != expected[index][1]):
                wrong.append((number, request, zoo.name, rows, name))

    threads = [threading.Thread(target=serve, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for attachment in attachments.values():
        attachment.detach()
    assert wrong == []
    assert [hooks_of(zoo.model) for zoo in zoos] == before


def test_a_block_holds_for_the_thread_that_entered_it(caplog):
    zoo = ZOO["Qwen2.5-VL"]
    plain = answer(zoo, [ROW])
    with compress(zoo.model, METHOD) as trace, caplog.at_level(logging.WARNING, logger="st_simdiff"):
        own = answer(zoo, [ROW])
        trace.videos = []
        for _ in range(3):
            assert in_thread(lambda: answer(zoo, [ROW])) == plain
        assert trace.videos == []
        assert answer(zoo, [ROW]) == own != plain
    told = [record.message for record in caplog.records if "passes uncompressed" in record.message]
    assert len(told) == 1
    assert "attach(...)" in told[0]


def test_two_threads_have_a_block_each():
    zoo = ZOO["Qwen2-VL"]
    before, inside, done = hooks_of(zoo.model), threading.Event(), threading.Event()
    kept = {}

    def other():
        with compress(zoo.model, make_method("uniform_frames", retention=0.6)) as trace:
            inside.set()
            done.wait()
            answer(zoo, [ROW])
            kept["other"] = trace.last.kept

    thread = threading.Thread(target=other)
    with compress(zoo.model, METHOD) as trace:
        thread.start()
        inside.wait()
        answer(zoo, [ROW])
        kept["own"] = trace.last.kept
    done.set()  # the first block is left, the second still needs the hooks
    thread.join()
    assert kept == {"own": 18, "other": 36}
    assert hooks_of(zoo.model) == before


def test_a_context_that_a_block_started_is_compressed_until_the_block_is_left():
    zoo = ZOO["Qwen2-VL"]
    plain = answer(zoo, [ROW])

    async def ask():
        return await asyncio.to_thread(answer, zoo, [ROW])

    with attach(zoo.model, make_method("full")).using(METHOD) as trace:
        compressed = asyncio.run(ask())
        assert trace.last.kept == 18
        left = contextvars.copy_context()
    assert compressed != plain
    assert left.run(answer, zoo, [ROW]) == plain
    attach_again = pytest.raises(InputError, match="has an attachment already")
    with attach_again:
        attach(zoo.model, METHOD)
    hooks_of_owner(zoo).detach()


def hooks_of_owner(zoo):
    """An attachment that was forgotten, found again by its hooks."""
    from st_simdiff.models.attach import Attachment, hooks_on

    attachment = object.__new__(Attachment)
    attachment._hooks = hooks_on(zoo.model)
    return attachment


def test_blocks_of_two_models_may_be_left_in_any_order():
    first, second = ZOO["Qwen2-VL"], ZOO["Qwen2.5-VL"]
    one, two = compress(first.model, METHOD), compress(second.model, METHOD)
    one.__enter__()
    trace = two.__enter__()
    one.__exit__(None, None, None)
    answer(second, [ROW])
    assert trace.last.kept == 18
    two.__exit__(None, None, None)
    assert not decoder_of(second.model)._forward_pre_hooks


# --- attachments ---


def test_an_attachment_serves_every_thread_until_it_is_detached():
    zoo = ZOO["Qwen2.5-VL"]
    before, plain = hooks_of(zoo.model), answer(zoo, [ROW])
    with compress(zoo.model, METHOD):
        compressed = answer(zoo, [ROW])
    attachment = attach(zoo.model, METHOD)
    try:
        assert answer(zoo, [ROW]) == in_thread(lambda: answer(zoo, [ROW])) == compressed
        assert attachment.trace.last.kept == 18
        assert in_thread(lambda: attachment.trace).videos == []
        attachment.method = make_method("uniform_frames", retention=0.6)
        answer(zoo, [ROW])
        assert attachment.trace.last.kept == 36
        trace = attachment.trace
        with attachment.using(METHOD) as own:
            assert answer(zoo, [ROW]) == compressed
        assert (own.last.kept, trace.last.kept) == (18, 36)
        with attachment.using(make_method("full")):
            assert answer(zoo, [ROW]) == plain
        with compress(zoo.model, METHOD):
            assert answer(zoo, [ROW]) == compressed
    finally:
        attachment.detach()
        attachment.detach()
    assert hooks_of(zoo.model) == before
    assert answer(zoo, [ROW]) == plain
    for use in (lambda: attachment.trace, lambda: attachment.method, lambda: attachment.using().__enter__()):
        with pytest.raises(InputError, match="is detached"):
            use()


def test_a_forgotten_attachment_leaves_the_model_compressed():
    zoo = ZOO["Qwen2-VL"]
    plain = answer(zoo, [ROW])
    attach(zoo.model, METHOD)
    gc.collect()
    compressed = answer(zoo, [ROW])
    hooks_of_owner(zoo).detach()
    with compress(zoo.model, METHOD):
        assert answer(zoo, [ROW]) == compressed != plain


def test_a_prompt_keeps_the_method_that_it_began_with():
    """Switched between the vision tower and the decoder."""
    zoo = ZOO["Qwen2.5-VL"]
    attachment = attach(zoo.model, METHOD)

    def switch(_module, _args):
        attachment.method = make_method("uniform_frames", retention=0.6)

    handle = zoo.model.model.visual.register_forward_pre_hook(switch)
    try:
        answer(zoo, [ROW], steps=1)
        handle.remove()
        assert attachment.method.retention == 0.6
        answer(zoo, [ROW], steps=1)
        assert attachment.trace.last.kept == 36
    finally:
        attachment.detach()


def test_the_hooks_and_the_memory_do_not_grow():
    zoo = ZOO["LLaVA-OneVision"]
    attachment = attach(zoo.model, METHOD)
    methods = [METHOD, make_method("fastv", retention=0.5), make_method("fastervlm", retention=0.5)]
    try:
        for method in methods:
            with attachment.using(method):
                answer(zoo, [ROW], steps=1)
        hooks, objects = hooks_of(zoo.model), []
        for request in range(40):
            with attachment.using(methods[request % 3]):
                answer(zoo, [ROW], steps=1)
            if request % 10 == 9:
                gc.collect()
                objects.append(sum(isinstance(one, torch.Tensor) for one in gc.get_objects()))
        assert hooks_of(zoo.model) == hooks
        assert objects[1] == objects[2] == objects[3]
    finally:
        attachment.detach()


@pytest.mark.slow
def test_a_thousand_requests_take_no_more_memory():
    """Resident memory of the last quarter within 1 % of the second's."""
    zoo = ZOO["LLaVA-OneVision"]
    methods = [METHODS[name] or make_method("full") for name in METHODS]
    attachment = attach(zoo.model, METHOD)
    resident, hooks = [], []
    try:
        for request in range(1000):
            with attachment.using(methods[request % len(methods)]):
                answer(zoo, ROWS[request % len(ROWS)], steps=2)
            resident.append(resident_bytes("VmRSS"))
            if request % 100 == 99:
                hooks.append(hooks_of(zoo.model))
    finally:
        attachment.detach()
    second, last = (sum(resident[start : start + 250]) / 250 for start in (250, 750))
    assert abs(last / second - 1) < 0.01
    assert all(one == hooks[0] for one in hooks)


# --- several questions about one video ---


@pytest.mark.parametrize("name", ["Qwen2.5-VL", "LLaVA-OneVision"])
def test_questions_go_on_from_copies_of_one_prefill(name):
    """As docs/serving.md does it, with a method that does not ask for the question."""
    zoo, method = ZOO[name], make_method("st_simdiff_input", retention=0.3)
    beginning, questions = zoo.prompt([Text(5), Video(5)]), [Text(7, 1), Text(4, 2)]
    with torch.no_grad(), compress(zoo.model, method):
        alone = [answer(zoo, [[Text(5), Video(5), question]], steps=4) for question in questions]
        seen = cache_in(zoo.model(**beginning.inputs))
        for question, expected in zip(questions, alone, strict=True):
            ids = torch.cat([beginning.inputs["input_ids"], torch.tensor([words(question)])], dim=1)
            inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
            got = generate(zoo, inputs, steps=4, past_key_values=copy.deepcopy(seen))
            assert got.sequences.tolist() == expected


# --- the trace ---


def test_the_trace_is_that_of_the_last_prompt():
    zoo = ZOO["Qwen2.5-VL"]
    with compress(zoo.model, METHOD) as trace:
        with pytest.raises(InputError, match="no prompt was compressed yet, or the last one had no video"):
            _ = trace.last
        first = generate(zoo, zoo.prompt(ROW).inputs, steps=2)
        assert trace.last.kept == 18
        ids = torch.cat([first.sequences, torch.tensor([[11, 12]])], dim=1)
        generate(zoo, {"input_ids": ids, "attention_mask": torch.ones_like(ids)}, 2, past_key_values=first[-1])
        assert trace.last.kept == 18
        generate(zoo, zoo.prompt([Text(3), Image(), Text(4)]).inputs, steps=2)
        with pytest.raises(InputError, match="the last one had no video"):
            _ = trace.last


# --- what is given ---


@pytest.mark.parametrize(
    ("given", "match"),
    [
        ("st_simdiff", r"make_method\('st_simdiff', retention=0.3\), got 'st_simdiff'"),
        ("st_simdif", "Unknown method 'st_simdif'. Did you mean 'st_simdiff'"),
        (0.3, r"such as STSimDiff\(retention=0.3\).*got 0.3"),
        (STSimDiff, r"STSimDiff\(retention=0.3\), got the class"),
        (dict, "got <class 'dict'>"),
        (None, "got None"),
    ],
)
def test_what_is_no_method_is_told_in_a_sentence(given, match):
    model = ZOO["Qwen2-VL"].model
    with pytest.raises(InputError, match=match), compress(model, given):
        pass
    with pytest.raises(InputError, match=match):
        attach(model, given)
    attachment = attach(model, METHOD)
    try:
        with pytest.raises(InputError, match=match):
            attachment.method = given
        with pytest.raises(InputError, match=match), attachment.using(given):
            pass
    finally:
        attachment.detach()
    assert not decoder_of(model)._forward_pre_hooks


def test_a_method_that_the_family_cannot_serve_leaves_the_model_as_it_was():
    zoo = ZOO["Qwen2-VL"]
    before = hooks_of(zoo.model)
    for use in (attach, lambda *args: compress(*args).__enter__()):
        with pytest.raises(InputError, match="can be recorded in SigLIP towers"):
            use(zoo.model, make_method("fastervlm", retention=0.5))
    assert hooks_of(zoo.model) == before


def test_a_compressed_model_is_not_copied():
    zoo = ZOO["Qwen2-VL"]
    with compress(zoo.model, METHOD), pytest.raises(InputError, match="cannot be copied: copy it before"):
        copy.deepcopy(zoo.model)
    copy.deepcopy(zoo.model)


def test_an_adapter_and_a_wrapper_are_looked_into():
    peft = pytest.importorskip("peft")
    zoo = type(ZOO["Qwen2.5-VL"])()
    with compress(zoo.model, METHOD):
        expected = answer(zoo, [ROW])
    adapted = peft.get_peft_model(zoo.model, peft.LoraConfig(r=2, target_modules=["q_proj"]))
    inputs = zoo.prompt(ROW).inputs
    with compress(adapted, METHOD) as trace:
        tokens = adapted.generate(**inputs, max_new_tokens=3, do_sample=False)
    assert tokens.tolist() == expected
    assert trace.last.kept == 18
    parallel = torch.nn.DataParallel(zoo.model)
    with compress(parallel, METHOD) as trace:  # without a GPU, and with one, it calls the module itself
        parallel(**inputs)
    assert trace.last.kept == 18
    parallel.device_ids = [0, 1]
    with pytest.raises(InputError, match=r"compress the one inside \(.module\)"), compress(parallel, METHOD):
        pass
    shape = {"num_layers": 2, "num_attention_heads": 2, "token_dim": 8}
    prompted = peft.PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=2, **shape)
    adapted = peft.get_peft_model(adapted.unload(), prompted)
    with pytest.raises(InputError, match="of kind PROMPT_TUNING puts tokens"), compress(adapted, METHOD):
        pass


@pytest.mark.parametrize("name", ["Qwen2.5-VL", "LLaVA-OneVision"])
def test_a_model_in_8_bits_is_compressed(name, tmp_path):
    pytest.importorskip("bitsandbytes")
    zoo = ZOO[name]
    zoo.model.save_pretrained(tmp_path)
    settings = transformers.BitsAndBytesConfig(load_in_8bit=True)
    model = type(zoo.model).from_pretrained(tmp_path, quantization_config=settings, device_map="cpu").eval()
    with torch.no_grad(), compress(model, METHOD) as trace:
        logits = model(**zoo.prompt(ROW).inputs).logits
    assert logits.isfinite().all()
    assert trace.last.kept == -(-trace.last.grid.count * 3 // 10)


@pytest.mark.parametrize("zoo", ZOO.values(), ids=list(ZOO))
def test_the_trace_tells_frame_row_and_column(zoo):
    with compress(zoo.model, make_method("random", retention=0.4), **zoo.options) as trace:
        answer(zoo, [ROW], steps=1)
    grid, separators = trace.last.grid, set(trace.last.grid.separator_offsets().tolist())
    every = {}
    for (frame, row, column), offset in zip(
        ((t, y, x) for t in range(grid.frames) for y in range(grid.height) for x in range(grid.width)),
        grid.patches().flatten().tolist(),
        strict=True,
    ):
        every[offset] = [frame, row, column]
    assert len(trace.last.places) == trace.last.kept
    for offset, place in zip(trace.last.offsets.tolist(), trace.last.places.tolist(), strict=True):
        assert (place[1:] == [-1, -1]) if offset in separators else (place == every[offset])
