"""Checks of compression on any device, without a test runner: the tests and the script for GPUs call them."""

import torch
from helpers import STEPS, generate, hooks_of, logits_of
from reference import attention, entering, forced_logits
from torch.utils._python_dispatch import TorchDispatchMode
from toy_methods import EveryOther
from zoo import LAYERS, ZOO, Text, Video

from st_simdiff import STSimDiff, compress

METHOD = STSimDiff(retention=0.3, tau_sim=0.8, tau_diff=0.4)
ROW = [Text(5), Video(6), Text(7, 1)]
OTHER = [Text(9, 4), Video(6, 1), Text(2, 2)]


def placed(name, device):
    """A family's model of its own, in bfloat16 on a device, and a function that puts inputs there."""
    zoo = type(ZOO[name])()
    zoo.model.to(device, torch.bfloat16)

    def there(value):
        if isinstance(value, list):
            return [there(part) for part in value]
        return value.to(device, torch.bfloat16 if value.is_floating_point() and value.dim() > 1 else value.dtype)

    return zoo, lambda prompt: {key: there(value) for key, value in prompt.inputs.items()}


def traced_masks(length, videos, traces, device):
    """The masks of every layer, from what the trace says was kept."""
    masks = [torch.ones(length, dtype=torch.bool, device=device) for _ in range(LAYERS)]
    for video, trace in zip(videos, traces, strict=True):
        where = torch.tensor(video.positions, device=device)
        for layer, mask in enumerate(masks):
            mask[where] = False
            mask[where[trace.stages[0].reduction.kept if layer < 2 else trace.offsets]] = True
    return masks


def check_bfloat16(name, device, implementation):
    """A prefill in bfloat16, and the decoding behind it, equal masking what was dropped."""
    zoo, there = placed(name, device)
    prompt = zoo.prompt(ROW)
    sequence = entering(zoo.model, there(prompt))
    with attention(zoo.model, implementation):
        plain = generate(zoo, there(prompt))
        before = hooks_of(zoo.model)
        with compress(zoo.model, METHOD, **zoo.options) as trace:
            batch = generate(zoo, there(zoo.prompt(ROW, OTHER)))
            kept = [(video.kept, METHOD.target(video.grid.count)) for video in trace.videos]
            output = generate(zoo, there(prompt))
        assert hooks_of(zoo.model) == before
        with compress(zoo.model, STSimDiff(retention=1.0), **zoo.options):
            assert torch.equal(logits_of(generate(zoo, there(prompt))), logits_of(plain))
    masks = traced_masks(sequence.embeds.shape[1], prompt.videos[0], trace.videos, device)
    logits = forced_logits(zoo.model, sequence, masks, output.sequences[0, -STEPS:].tolist()).float()
    assert float((logits_of(output)[0] - logits).abs().max()) < 0.08 * float(logits.abs().max())
    assert len(kept) == 2
    assert all(count == target for count, target in kept)
    assert torch.isfinite(logits_of(batch)).all()


class Reads(TorchDispatchMode):
    """Counts the operations whose result the host has to wait for."""

    def __init__(self):
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        del types
        name = func.overloadpacket.__name__
        self.count += name in ("_local_scalar_dense", "nonzero", "_unique2", "masked_select")
        return func(*args, **kwargs or {})


def reads_of(zoo, frames):
    model, inputs = zoo.model, zoo.prompt([Text(5), Video(frames), Text(7, 1)]).inputs
    with torch.no_grad(), Reads() as reads:
        model(**inputs)
    return reads.count


def check_reads(name):
    """How often the host waits for the device does not grow with the video."""
    zoo, extra = ZOO[name], []
    for frames in (4, 40):
        plain = reads_of(zoo, frames)
        with compress(zoo.model, EveryOther(after=(0, 2)), **zoo.options):
            extra.append(reads_of(zoo, frames) - plain)
    assert extra[0] == extra[1]
    assert extra[0] < 12
