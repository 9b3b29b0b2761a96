"""Counts the calls that would make the host wait for a GPU, on any device."""

from collections import Counter
from contextlib import contextmanager

import torch
from torch.overrides import TorchFunctionMode

READS = {
    torch.Tensor.__bool__,
    torch.Tensor.__float__,
    torch.Tensor.__index__,
    torch.Tensor.__int__,
    torch.Tensor.cpu,
    torch.Tensor.item,
    torch.Tensor.nonzero,
    torch.Tensor.numpy,
    torch.Tensor.tolist,
    torch.Tensor.unique,
    torch.bincount,
    torch.equal,
    torch.masked_select,
    torch.nonzero,
    torch.unique,
}
"""Calls whose result, or the size of it, the host has to know."""


class _CountReads(TorchFunctionMode):
    def __init__(self, reads: Counter):
        super().__init__()
        self.reads = reads

    def __torch_function__(self, function, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if function in READS:
            self.reads[function.__name__] += 1
        elif function in (torch.Tensor.__getitem__, torch.Tensor.__setitem__):
            index = args[1] if isinstance(args[1], tuple) else (args[1],)
            masks = [part for part in index if isinstance(part, torch.Tensor) and part.dtype == torch.bool]
            self.reads["boolean index"] += len(masks)
        elif function in (torch.repeat_interleave, torch.Tensor.repeat_interleave):
            self.reads["repeat_interleave"] += kwargs.get("output_size") is None
        return function(*args, **kwargs)


@contextmanager
def counted_reads():
    """Yields a Counter of the reads made inside the block, by name."""
    reads = Counter()
    with _CountReads(reads):
        yield reads
