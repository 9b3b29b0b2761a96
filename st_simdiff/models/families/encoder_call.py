"""Noting what a model's visual encoder is given: generate() takes it away before any module sees it."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any

from torch import nn

from st_simdiff.errors import InputError
from st_simdiff.models.transformers_api import unknown_version


class EncoderCall:
    """Wraps a method of one model object, such as `get_video_features`, until `remove`.

    enter: called with the arguments by name, before the method. The wrapper is an attribute of the object, so its class
    and every other object of it stay as they are. It keeps the signature, which generate() inspects.
    """

    def __init__(self, owner: nn.Module, name: str, enter: Callable[[dict[str, Any]], None]) -> None:
        self.owner, self.name = owner, name
        original = getattr(owner, name, None)
        if original is None:
            raise unknown_version(f"{type(owner).__name__} has no {name}")
        signature = inspect.signature(original)

        @functools.wraps(original)
        def noted(*args: Any, **kwargs: Any) -> Any:
            try:
                given = signature.bind(*args, **kwargs)
            except TypeError as error:
                raise InputError(
                    f"{type(owner).__name__}.{name} was called with other arguments than it takes ({error}); "
                    f"it takes {', '.join(signature.parameters)}."
                ) from None
            enter(given.arguments)
            return original(*args, **kwargs)

        self._before = vars(owner).get(name)
        vars(owner)[name] = noted

    def remove(self) -> None:
        """Restores what was there: somebody else's function on the object, or the class's."""
        vars(self.owner).pop(self.name, None)
        if self._before is not None:
            vars(self.owner)[self.name] = self._before
