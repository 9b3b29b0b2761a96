"""Compiled modules beside hooks: torch.compile does not look whether a module has got a hook since."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import Any

from torch import nn

from st_simdiff.errors import InputError
from st_simdiff.models.transformers_api import TransformersModule

logger = logging.getLogger(__name__)

_CALL, _FORWARD, _ORIGINAL = "_compiled_call_impl", "forward", "_torchdynamo_orig_callable"


def check_not_replaced(text_model: TransformersModule) -> None:
    """Raises `InputError` for a decoder that has been replaced by torch.compile of it, or has such a layer."""
    layers = list(text_model.layers)
    for part in (text_model, *layers, *(getattr(layer, "self_attn", None) for layer in layers)):
        if type(part).__name__ == "OptimizedModule":
            raise InputError("torch.compile(part) in the place of a part runs past hooks: use part.compile().")


class Uncompiled:
    """Until `remove`, what is compiled and has one of the `hooked` modules in it runs as it is written.

    That is `module.compile()` and `module.forward = torch.compile(module.forward)`. Code that was compiled around the
    model, `torch.compile(model)` or a function of one's own, is compiled again: every hooked module gets its forward as
    an attribute, which compiled code does look at.
    """

    def __init__(self, model: nn.Module, hooked: Iterable[nn.Module]) -> None:
        self._changed: list[tuple[dict[str, Any], str, Any]] = []
        hooked = set(hooked)
        aside = False
        for module in model.modules():
            own, is_hooked = vars(module), module in hooked
            compiled = own.get(_CALL), getattr(own.get(_FORWARD), _ORIGINAL, None)
            if any(compiled) and (is_hooked or hooked.intersection(module.modules())):
                aside = True
                self._set(own, _CALL, None)
                if compiled[1] is not None:
                    self._set(own, _FORWARD, compiled[1])
            if is_hooked and _FORWARD not in own:
                self._set(own, _FORWARD, module.forward)
        if aside:
            logger.warning("The compiled decoder runs uncompiled while the model is compressed.")

    def remove(self) -> None:
        """Restores what was there. What somebody else has put in its place since is left."""
        while self._changed:
            own, name, (before, now) = self._changed.pop()
            if own.get(name) is not now:
                continue
            if before is None:
                own.pop(name, None)
            else:
                own[name] = before

    def _set(self, own: dict[str, Any], name: str, value: Any) -> None:
        self._changed.append((own, name, (own.get(name), value)))
        own[name] = value
