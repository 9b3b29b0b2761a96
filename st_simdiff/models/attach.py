"""Compression on any supported transformers model, by torch hooks: no forward is replaced, subclassed or copied.

Only the method that encodes videos, where a family has one, is wrapped on the model object to note the videos' grids.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import replace
from types import MappingProxyType
from typing import Any

from torch import nn

from st_simdiff.errors import InputError
from st_simdiff.methods.base import Method
from st_simdiff.methods.registry import check_method
from st_simdiff.models.families import family_of, find_family, unwrapped
from st_simdiff.models.families.base import Compression, ImagesAsFrames
from st_simdiff.models.hooks import ModelHooks
from st_simdiff.models.trace import Trace

_LOCK = threading.RLock()
_OWN: Any = object()
"""Stands for the method of the attachment: None is no method."""
_BLOCKS: ContextVar[Mapping[ModelHooks, Compression]] = ContextVar("st_simdiff_blocks", default=MappingProxyType({}))
"""The innermost open block of this context for each model."""


@contextmanager
def compress(
    model: nn.Module, method: Method, *, images_as_frames: ImagesAsFrames = False, share_prefix: bool = False
) -> Iterator[Trace]:
    """Compresses the videos of every prompt that `model` sees inside the block. Leaving it restores the model exactly.

    The block holds for the thread (the context, see `contextvars`) that entered it, as `torch.no_grad` does; calls of
    other threads pass as if it were not there. Inside it may stand in for the method of an attached model.
    Yields the trace of the last prompt. Every video has its own N and budget; images and text pass. A
    second turn on the returned cache keeps the first turn's pruning; continue it inside a block, which supplies the
    masks that a pruned cache needs. The query that ranks tokens is the prompt's last one: to score an answer, give
    `labels`, prefill the prompt alone and continue on its cache, or ask for the answer's logits only
    (`logits_to_keep`, the answer's length plus one, as assisted generation does for its drafts).
    images_as_frames: for InternVL, which sees a video as single images: True if all images of a row are the frames of
    one video, or the sizes of groups of consecutive images (a group of one is an image). For LLaVA-Video and NVILA:
    True if all videos of a row are parts of one, with text between them.
    share_prefix: for several questions about one video: crop the returned cache back to what their prompts share (its
    positions are those of the uncompressed prompt; docs/caching.md has programs), and the next prompt on it chooses
    tokens anew, as if asked alone, while what does not depend on its question is not computed again. The cache then
    also keeps the hidden states of one layer. One prompt at a time, without beams.
    Raises `InputError` for an unsupported model, or one that is compressed already in this context.
    """
    model, method = unwrapped(model), check_method(method)
    family = family_of(model, images_as_frames)
    found = hooks_on(model)
    if found is not None and found in _BLOCKS.get() and _BLOCKS.get()[found].open:
        raise InputError("The model is compressed already: leave the first compress(...) block before the next.")
    hooks = _join(model, method, share_prefix)
    try:
        with _block(hooks, Compression(method, family, share_prefix=share_prefix)) as trace:
            yield trace
    finally:
        _quit(hooks)


def attach(
    model: nn.Module, method: Method, *, images_as_frames: ImagesAsFrames = False, share_prefix: bool = False
) -> Attachment:
    """Compresses the videos of every prompt of every thread until `Attachment.detach`: for a process that serves.

    model, method, images_as_frames, share_prefix: as for `compress`. Forgetting the attachment leaves the model
    compressed.
    Raises `InputError` for an unsupported model, or one that has an attachment already.
    """
    return Attachment(model, method, images_as_frames, share_prefix)


class Attachment:
    """A method that stays on a model. Assign `method` to switch for every thread, `using` switches for one call."""

    def __init__(
        self,
        model: nn.Module,
        method: Method,
        images_as_frames: ImagesAsFrames = False,
        share_prefix: bool = False,
    ) -> None:
        model = unwrapped(model)
        family = family_of(model, images_as_frames)
        check_method(method)
        with _LOCK:
            found = hooks_on(model)
            if found is not None and found.attached is not None:
                raise InputError("The model has an attachment already: switch its method, or detach it first.")
            self._hooks = _join(model, method, share_prefix)
            self._hooks.attached = Compression(method, family, share_prefix=share_prefix)

    def __repr__(self) -> str:
        attached = self._hooks.attached
        state = "detached" if attached is None else f"method={attached.method!r}"
        return f"Attachment({type(self._hooks.model).__name__}, {state})"

    @property
    def method(self) -> Method:
        """What prompts of any thread are compressed by. A prompt that is under way keeps the method it began with."""
        return self._compression().method

    @method.setter
    def method(self, method: Method) -> None:
        check_method(method)
        with _LOCK:
            self._hooks.serve(method)
            self._hooks.attached = replace(self._compression(), method=method)

    @property
    def trace(self) -> Trace:
        """The trace of this thread's last prompt outside of `using`. Raises `InputError` once detached."""
        self._compression()
        return self._hooks.own_trace()

    @contextmanager
    def using(self, method: Method = _OWN, *, images_as_frames: ImagesAsFrames | None = None) -> Iterator[Trace]:
        """Another method for the calls of this context inside the block, and a trace of their own.

        method: by default that of the attachment; `make_method("full")` compresses nothing. images_as_frames: None for
        those of the attachment. Raises `InputError` for what is no method.
        """
        now = self._compression()
        family = now.family if images_as_frames is None else family_of(self._hooks.model, images_as_frames)
        if method is None:
            raise InputError("using() takes a method, got None: make_method('full') compresses nothing.")
        if method is _OWN:
            method = now.method
        else:
            with _LOCK:
                self._hooks.serve(check_method(method))
        used = Compression(method, family, share_prefix=now.share_prefix)
        with _block(self._hooks, used) as trace:
            yield trace

    def detach(self) -> None:
        """Restores the model exactly, unless a `compress` block is open on it. Again: does nothing."""
        with _LOCK:
            if self._hooks.attached is not None:
                self._hooks.attached = None
                _quit(self._hooks)

    def _compression(self) -> Compression:
        attached = self._hooks.attached
        if attached is None:
            raise InputError("The attachment is detached.")
        return attached


def hooks_on(model: nn.Module) -> ModelHooks | None:
    """The hooks that are on `model`, or None."""
    for hook in find_family(model).text_model(model)._forward_pre_hooks.values():
        owner = getattr(hook, "__self__", None)
        if isinstance(owner, ModelHooks):
            return owner
    return None


def _join(model: nn.Module, method: Method, share_prefix: bool) -> ModelHooks:
    """The model's hooks, made if there are none, with what `method` needs; one user more."""
    with _LOCK:
        hooks = hooks_on(model) or ModelHooks(model, find_family(model), _BLOCKS)
        try:
            hooks.check_sharing(share_prefix)
            hooks.serve(method)
        except BaseException:
            if not hooks.users:
                hooks.remove()
            raise
        hooks.users += 1
        return hooks


def _quit(hooks: ModelHooks) -> None:
    with _LOCK:
        hooks.users -= 1
        if not hooks.users:
            hooks.remove()


@contextmanager
def _block(hooks: ModelHooks, compression: Compression) -> Iterator[Trace]:
    """`compression` holds for this context inside the block."""
    outer = _BLOCKS.get().get(hooks)
    _BLOCKS.set(MappingProxyType({**_BLOCKS.get(), hooks: compression}))
    try:
        yield compression.trace
    finally:
        # also for another context that has a copy and is still inside
        compression.open = False
        blocks = {**_BLOCKS.get()}
        if blocks.get(hooks) is compression:
            blocks.pop(hooks)
            _BLOCKS.set(MappingProxyType(blocks if outer is None else {**blocks, hooks: outer}))
