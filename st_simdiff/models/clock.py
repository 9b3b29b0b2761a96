"""Where the time of one question goes: a clock with a stage for every part of the work, and peak memory.

    with StageClock(model) as clock:
        with clock.stage("decode"):
            frames = ...
        with clock.stage("preprocess"):
            pixels = ...
        with compress(model, method):
            model.generate(...)
    clock.counts()  # {"decode_ms": ..., "vision_ms": ..., "total_ms": ..., "peak_memory_bytes": ..., ...}

Every moment belongs to exactly one stage, the innermost one that is open, so the times add up to the total.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from types import TracebackType
from typing import Any

import torch
from torch import nn

from st_simdiff.errors import unknown
from st_simdiff.models.families import find_family
from st_simdiff.models.memory import PeakMemory, cuda_devices
from st_simdiff.models.transformers_api import TransformersModule, begins, cache_of

STAGES = ("decode", "preprocess", "vision", "projector", "selection", "prefill", "scoring", "decoding", "other")
"""In the order in which they happen.

decode: reading frames, or waiting for them; preprocess: frames to pixel values on the model's device (these two are
opened by the caller). vision: the vision tower, with what a method has it record. projector: projector, pooling,
newlines and text embedding, without the tower. selection: what a method does at the decoder's input, the gathering of
the kept tokens included. prefill: the decoder and its logits for the prompt, without selection and scoring. scoring:
what a method does after decoder layers: the last query's attention, ranking, gathering. decoding: what comes after the
prefill, sampling included. other: what is none of these.
"""

_BEFORE_PREFILL = ("decode", "preprocess", "vision", "projector")


class StageClock:
    """Times the block it opens; `model` is one of the supported families, under `compress` or not.

    The vision tower, projector, prefill and decoding are recognised by hooks on the model, which leave with the block;
    `compress` itself opens selection and scoring. The caller opens "decode" and "preprocess" with `stage`, and may open
    any other stage around work that no module of the model does (features or keys and values that come from a cache,
    say): what is nested in it is taken off. The decoder's first forward, in the block or after one of the stages up to
    projector, is a prefill, and so is one on an empty cache or none; others are decoding, unless a stage is open. CUDA
    devices are synchronised where a stage begins or ends, but not between the steps of the decoding: about ten times a
    question, and a few times a chunk of frames.

    warm_up: marks the counts of a process's first question, whose time includes what happens once; leave it out of
    means. now: gives the time in seconds. synchronize: waits for the devices; by default for the model's CUDA devices.
    Raises `InputError` for an unsupported model.
    """

    def __init__(
        self,
        model: TransformersModule,
        *,
        warm_up: bool = False,
        now: Callable[[], float] = time.perf_counter,
        synchronize: Callable[[], None] | None = None,
    ) -> None:
        self.model, self.warm_up = model, warm_up
        self.head = find_family(model).head(model)
        self.devices = cuda_devices([model])
        self.memory: PeakMemory | None = None
        self.seconds = dict.fromkeys(STAGES, 0.0)
        self._now, self._synchronize = now, synchronize or self._wait
        self._open: list[str] = []
        self._forwards: list[bool] = []
        self._between = "other"
        self._prefilled = False
        self._last: float | None = None
        self._thread: int | None = None
        self._handles: list[Any] = []

    def __enter__(self) -> StageClock:
        self._hook(self.head, self._enter_head, self._leave_head)
        for stage, module in stage_modules(self.model):
            self._hook(module, lambda *_, stage=stage: self._begin(stage), lambda *_: self._end())
        self.memory = PeakMemory(self.devices)
        self._thread = threading.get_ident()
        self._synchronize()
        self._last = self._now()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        while self._handles:
            self._handles.pop().remove()
        if kind is None:
            self._mark()
        self._last = None

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Time inside goes to the stage `name`, but for stages that open in it. Raises `InputError` for another name.

        Outside the clock's block nothing is timed.
        """
        if name not in STAGES:
            raise unknown("stage", name, STAGES)
        self._begin(name)
        try:
            yield
        finally:
            self._end()

    def counts(self) -> dict[str, float]:
        """Flat, for a samples file: `<stage>_ms` of every stage, `total_ms` (their sum), and peak memory.

        peak_memory_bytes: of the CUDA devices, weights included; absent without one. host_peak_bytes: resident memory
        of this process, libraries and weights on the host included; absent where the system does not tell. warm_up: 1,
        only if this was the warm-up. Inside the block: what is known so far.
        """
        if self._last is not None:
            self._mark()
        counts = {f"{stage}_ms": round(1e3 * seconds, 3) for stage, seconds in self.seconds.items()}
        counts["total_ms"] = round(1e3 * sum(self.seconds.values()), 3)
        if self.memory is not None:
            peaks = {"peak_memory_bytes": self.memory.device_bytes(), "host_peak_bytes": self.memory.host_bytes()}
            counts |= {name: peak for name, peak in peaks.items() if peak is not None}
        return counts | ({"warm_up": 1} if self.warm_up else {})

    def _hook(self, module: TransformersModule, before: Callable[..., None], after: Callable[..., None]) -> None:
        self._handles += [
            module.register_forward_pre_hook(before, with_kwargs=True, prepend=True),
            module.register_forward_hook(after, always_call=True),
        ]

    @property
    def watches_this_thread(self) -> bool:
        """Other threads may use the model meanwhile; only the one that opened the block is timed."""
        return self._thread == threading.get_ident()

    def _enter_head(self, _module: TransformersModule, _args: tuple, kwargs: dict[str, Any]) -> None:
        if not self.watches_this_thread:
            return
        is_prefill = not self._prefilled or begins(cache_of(kwargs))
        self._forwards.append(is_prefill)
        if is_prefill:
            self._begin("prefill")

    def _leave_head(self, *_: Any) -> None:
        if self.watches_this_thread and self._forwards and self._forwards.pop():
            self._end()
            self._prefilled, self._between = True, "decoding"

    def _begin(self, stage: str) -> None:
        if self._thread is not None and not self.watches_this_thread:
            return
        self._mark()
        self._open.append(stage)
        self._between = "other"
        self._prefilled &= stage not in _BEFORE_PREFILL

    def _end(self) -> None:
        if self._thread is not None and not self.watches_this_thread:
            return
        self._mark()
        if self._open:
            self._open.pop()

    def _mark(self) -> None:
        """Books the time since the last mark on the stage that is open."""
        if self._last is None:
            return
        self._synchronize()
        now = self._now()
        self.seconds[self._open[-1] if self._open else self._between] += now - self._last
        self._last = now

    def _wait(self) -> None:
        for device in self.devices:
            torch.cuda.synchronize(device)


def stage_of(head: TransformersModule, stage: str) -> AbstractContextManager[None]:
    """`stage` on this thread's clock at the decoder's head, or a block that does nothing where there is none."""
    for hook in head._forward_pre_hooks.values():
        clock = getattr(hook, "__self__", None)
        if isinstance(clock, StageClock) and clock.watches_this_thread:
            return clock.stage(stage)
    return nullcontext()


def stage_modules(model: TransformersModule) -> list[tuple[str, nn.Module]]:
    """The modules whose forwards are stages of their own, outermost first; one inside another is taken off it."""
    embedder = getattr(model, "embedder", None)
    if embedder is not None:
        return [("projector", embedder), ("projector", embedder.projector), ("vision", embedder.vision_tower)]
    base = model if hasattr(model, "visual") else model.base_model
    tower = _first(base, "visual", "vision_tower", "vision_model")
    projector = _first(
        base, "multi_modal_projector", "projector", "mm_projector", "connector", "embed_vision", "merger"
    )
    return [("vision", tower), ("projector", projector or tower.merger)]


def _first(module: TransformersModule, *names: str) -> TransformersModule:
    """The first of the attributes that `module` has and that is not None, or None."""
    return next((found for name in names if (found := getattr(module, name, None)) is not None), None)
