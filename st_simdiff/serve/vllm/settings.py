"""What a server and a request ask of the plugin. No vLLM here."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from st_simdiff import __version__
from st_simdiff.checks import check_retention
from st_simdiff.errors import InputError, unknown
from st_simdiff.methods.base import Method
from st_simdiff.methods.registry import make_method
from st_simdiff.methods.settings import describe_method
from st_simdiff.serve.vllm.reduction import check_servable

OVERRIDE = "st_simdiff"
"""The key in vLLM's `--hf-overrides`: a dictionary with `method`, `retention` and the method's settings."""
REQUEST_KEY = "st_simdiff_retention"
"""The key in a request's `mm_processor_kwargs`: the retention of this request's videos."""
SERVED_METHOD = "st_simdiff_input"
"""The method of a server that names none."""


@dataclass(frozen=True)
class ServerSettings:
    """A server's method, at the retention of requests that name none. num_layers: decoder layers of the model."""

    method: Method
    num_layers: int

    def method_at(self, retention: float) -> Method:
        """The method at another retention. Raises `InputError` if there is no such."""
        check_retention(retention)
        return dataclasses.replace(self.method, retention=float(retention))

    def requested_retention(self, processor_kwargs: Mapping[str, Any]) -> float:
        """The retention for a request with these `mm_processor_kwargs`. Raises `InputError` for a wrong one.

        And for other keys that begin like it: vLLM would ignore them.
        """
        for key in processor_kwargs:
            if str(key).startswith(OVERRIDE) and key != REQUEST_KEY:
                raise unknown("setting of a request", key, [REQUEST_KEY])
        if REQUEST_KEY not in processor_kwargs:
            return self.method.retention
        try:
            return self.method_at(processor_kwargs[REQUEST_KEY]).retention
        except InputError as error:
            raise InputError(f"{REQUEST_KEY}: {error}") from error

    def identity(self, retention: float) -> str:
        """Text that differs where kept tokens may differ: method, settings, retention and versions."""
        return repr((__version__, sorted(describe_method(self.method_at(retention)).items())))


def read_settings(given: Any, pruning_rate: float | None, num_layers: int) -> ServerSettings | None:
    """The settings of a server whose `--hf-overrides` have `given` under `OVERRIDE`; None where that is None.

    pruning_rate: vLLM's `--video-pruning-rate`, its switch for everything that pruning needs; 1 - retention where
        `given` has no retention.
    Raises `InputError` for settings that no server can have, and for methods that vLLM cannot run.
    """
    if given is None:
        return None
    if not isinstance(given, Mapping):
        raise InputError(
            f"{OVERRIDE} in --hf-overrides is a dictionary such as {{'method': '{SERVED_METHOD}'}}, got {given!r}."
        )
    if not pruning_rate:
        raise InputError(
            f"{OVERRIDE} in --hf-overrides needs --video-pruning-rate, 1 - retention: 0.7 keeps 30 % of a video."
        )
    settings = dict(given)
    name = settings.pop("method", SERVED_METHOD)
    retention = settings.pop("retention", float(1 - Decimal(str(pruning_rate))))
    method = make_method(name, retention=retention, **settings)
    check_servable(method, num_layers)
    return ServerSettings(method, num_layers)
