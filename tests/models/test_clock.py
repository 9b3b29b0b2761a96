"""The clock of the stages, on a time that only the test moves on."""

import gc
import threading
from collections import Counter
from dataclasses import dataclass
from typing import ClassVar

import pytest
import torch
from helpers import generate, hooks_of
from reference import decoder_of
from toy_methods import EveryOther
from zoo import ZOO, Text, Video

from st_simdiff import InputError, attach, compress
from st_simdiff.methods.base import Method
from st_simdiff.models.clock import STAGES, StageClock, stage_modules
from st_simdiff.models.memory import PeakMemory

PROMPT = [Text(5), Video(4), Text(7, 1)]
LAYERS = 4
families = pytest.mark.parametrize("zoo", ZOO.values(), ids=list(ZOO))


class Time:
    """Seconds that pass when told to, and how often the clock has waited for the devices."""

    def __init__(self):
        self.seconds = 0.0
        self.waits = 0

    def __call__(self):
        return self.seconds

    def wait(self):
        self.waits += 1


@dataclass(frozen=True, kw_only=True)
class Slow(Method):
    """Takes 7 seconds at the input and 11 after a layer."""

    name: ClassVar[str] = "slow"
    time: Time

    def layers(self, num_layers):
        del num_layers
        return (1,)

    def reduce_input(self, tokens):
        self.time.seconds += 7
        return EveryOther().choose(tokens)

    def reduce_after_layer(self, layer, tokens):
        del layer
        self.time.seconds += 11
        return EveryOther().choose(tokens)


def passing(module, time, seconds):
    """A hook by which every call of `module` takes so long."""

    def hook(*_):
        time.seconds += seconds

    return module.register_forward_hook(hook)


def clock_on(zoo, time, **options):
    return StageClock(zoo.model, now=time, synchronize=time.wait, **options)


@families
def test_every_second_belongs_to_the_stage_in_which_it_passed(zoo):
    time, steps = Time(), 3
    modules = dict(stage_modules(zoo.model))
    handles = [passing(modules["vision"], time, 100), passing(modules["projector"], time, 1000)]
    handles += [passing(layer, time, 1) for layer in decoder_of(zoo.model).layers]
    inputs = zoo.prompt(PROMPT).inputs
    calls = Counter()
    for name in ("vision", "projector"):
        handles.append(modules[name].register_forward_hook(lambda *_, name=name: calls.update([name])))
    with clock_on(zoo, time) as clock:
        time.seconds += 3
        with clock.stage("decode"):
            time.seconds += 20
        with clock.stage("preprocess"):
            time.seconds += 30
        with compress(zoo.model, Slow(time=time), **zoo.options):
            generate(zoo, inputs, steps)
        time.seconds += 5
    for handle in handles:
        handle.remove()
    counts = clock.counts()
    expected = {
        "decode": 20,
        "preprocess": 30,
        "vision": 100 * calls["vision"],
        "projector": 1000 * calls["projector"],
        "selection": 7,
        "prefill": LAYERS,
        "scoring": 11,
        "decoding": (steps - 1) * LAYERS + 5,
        "other": 3,
    }
    assert calls["vision"] >= 1
    assert calls["projector"] >= 1
    assert {stage: counts[f"{stage}_ms"] for stage in STAGES} == {stage: 1e3 * s for stage, s in expected.items()}
    assert counts["total_ms"] == 1e3 * time.seconds


def test_the_steps_of_the_decoding_do_not_wait_for_the_device():
    zoo = ZOO["LLaVA-Video"]
    inputs = zoo.prompt(PROMPT).inputs
    waits = []
    for steps in (2, 12):
        time = Time()
        with clock_on(zoo, time):
            generate(zoo, inputs, steps)
        waits.append(time.waits)
    assert waits[0] == waits[1] < 20


def test_the_clock_changes_no_answer_and_leaves_no_hook():
    zoo = ZOO["LLaVA-Video"]
    inputs = zoo.prompt(PROMPT).inputs
    before = hooks_of(zoo.model)
    with compress(zoo.model, EveryOther()):
        plain = generate(zoo, inputs)
    with StageClock(zoo.model) as clock, compress(zoo.model, EveryOther()):
        timed = generate(zoo, inputs)
    assert torch.equal(plain.sequences, timed.sequences)
    assert hooks_of(zoo.model) == before
    counts = clock.counts()
    assert counts["total_ms"] == pytest.approx(sum(counts[f"{stage}_ms"] for stage in STAGES), abs=0.01)
    assert all(counts[f"{stage}_ms"] > 0 for stage in ("vision", "projector", "selection", "prefill", "decoding"))
    assert all(isinstance(count, (int, float)) for count in counts.values())


def test_an_answer_that_continues_on_the_cache_is_decoding():
    zoo = ZOO["LLaVA-Video"]
    inputs, time = zoo.prompt(PROMPT).inputs, Time()
    handle = passing(zoo.model.language_model, time, 1)
    with clock_on(zoo, time) as clock:
        for _ in range(2):
            prefill = zoo.model(**inputs, use_cache=True, logits_to_keep=1)
            zoo.model(input_ids=torch.tensor([[11, 12, 13]]), past_key_values=prefill.past_key_values)
        with clock.stage("prefill"):
            zoo.model(input_ids=torch.tensor([[14, 15]]), past_key_values=prefill.past_key_values)
    handle.remove()
    counts = clock.counts()
    assert (counts["prefill_ms"], counts["decoding_ms"]) == (3000, 2000)


def test_a_failure_inside_leaves_no_hook_and_no_open_stage():
    zoo, time = ZOO["LLaVA-Video"], Time()
    before = hooks_of(zoo.model)
    clock = clock_on(zoo, time)

    def fail(*_):
        raise RuntimeError("stop")

    handle = decoder_of(zoo.model).layers[2].register_forward_hook(fail)
    with clock:
        with pytest.raises(RuntimeError, match="stop"):
            zoo.model(**zoo.prompt(PROMPT).inputs)
        handle.remove()
        with clock.stage("decode"):
            time.seconds += 4
        time.seconds += 2
    assert hooks_of(zoo.model) == before
    assert clock.counts()["decode_ms"] == 4000
    assert clock.counts()["other_ms"] == 2000


def test_a_stage_that_does_not_exist_is_named():
    with pytest.raises(InputError, match=r"decod.*decode"), StageClock(ZOO["LLaVA-Video"].model).stage("decod"):
        pass


def test_the_first_question_is_marked():
    zoo, time = ZOO["LLaVA-Video"], Time()
    with clock_on(zoo, time) as later, clock_on(zoo, time, warm_up=True) as first:
        pass
    assert first.counts()["warm_up"] == 1
    assert "warm_up" not in later.counts()


def test_the_peak_of_the_host_is_of_the_block_alone():
    """Sizes far above what other tests may leave to be freed in the meantime."""
    gc.collect()
    big = torch.ones(256 << 20, dtype=torch.uint8)
    del big
    quiet = PeakMemory()
    if quiet.host_bytes() is None:
        pytest.skip("this system does not tell the peak")
    busy = PeakMemory()
    held = torch.ones(256 << 20, dtype=torch.uint8)
    assert quiet.device_bytes() is None
    assert busy.host_bytes() - busy.host_start >= 200 << 20
    del held
    after = PeakMemory()
    assert after.host_bytes() - after.host_start < 100 << 20


def test_the_peak_of_the_devices_is_their_sum(monkeypatch):
    """Of a machine with two GPUs, as torch would tell it."""
    devices = [torch.device("cuda", 0), torch.device("cuda", 1), torch.device("cpu")]
    reset, allocated, peak = [], {0: 5, 1: 7}, {0: 11, 1: 13}
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", lambda device: reset.append(device.index))
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda device: allocated[device.index])
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda device: peak[device.index])
    memory = PeakMemory(devices)
    assert reset == [0, 1]
    assert (memory.device_start, memory.device_bytes()) == (12, 24)


def test_the_clock_waits_for_every_device_of_the_model(monkeypatch):
    zoo, waited = ZOO["LLaVA-Video"], []
    monkeypatch.setattr(torch.cuda, "synchronize", lambda device: waited.append(device.index))
    clock = StageClock(zoo.model, now=Time())
    clock.devices = (torch.device("cuda", 0), torch.device("cuda", 1))
    monkeypatch.setattr("st_simdiff.models.clock.PeakMemory", lambda _: None)
    with clock, clock.stage("decode"):
        pass
    assert waited == [0, 1] * 4


def test_calls_of_other_threads_are_not_timed():
    zoo, time = ZOO["Qwen2-VL"], Time()
    inputs = zoo.prompt(PROMPT).inputs
    handle = passing(decoder_of(zoo.model), time, 5)
    attachment = attach(zoo.model, Slow(time=time))
    try:
        with clock_on(zoo, time) as clock:
            other = threading.Thread(target=generate, args=(zoo, inputs), kwargs={"steps": 1})
            other.start()
            other.join()
            alone = dict(clock.seconds)
            generate(zoo, inputs, steps=1)
    finally:
        handle.remove()
        attachment.detach()
    assert {stage: seconds for stage, seconds in alone.items() if seconds} == {}
    counts = clock.counts()
    assert (counts["selection_ms"], counts["scoring_ms"], counts["prefill_ms"]) == (7e3, 11e3, 5e3)
