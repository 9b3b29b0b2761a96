"""What a results file says was run: method, retention, settings and protocol."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from st_simdiff.checks import is_number
from st_simdiff.errors import InputError
from st_simdiff.model_args import read_value
from st_simdiff.report.names import display_name, model_name
from st_simdiff.report.published import SIMILARITY, SPATIAL, TEMPORAL
from st_simdiff.vocabulary import (
    ALIASES,
    DEFAULT_MODEL,
    FULL,
    LLAVA_VIDEO_DEFAULTS,
    MERGE_TYPES,
    OURS,
    PRUNE_LAYER,
    PUBLISHED_FLAGS,
    RELEASE,
    TAU_DIFF,
    TAU_SIM,
    WITHOUT_EFFECT,
    WRAPPER,
    current_name,
)

Setting = str | float | bool | None

PAPER_DEFAULTS: Mapping[str, Setting] = {
    "tau_sim": TAU_SIM,
    "tau_diff": TAU_DIFF,
    "prune_layer": PRUNE_LAYER,
    **PUBLISHED_FLAGS,
}
"""What `st_simdiff` and `st_simdiff_release` do when nothing else is asked for."""

COMMON_DEFAULTS: Mapping[str, Setting] = {"budget": "tokens"}
"""Defaults that every method shares."""

FRAME_KEYS = ("max_frames_num", "max_num_frames", "num_frames", "nframes")
PROTOCOL_KEYS = frozenset(
    {
        *FRAME_KEYS,
        *("fps", "force_sample", "add_time_instruction", "conv_template", "mm_spatial_pool_mode"),
        *("mm_newline_position", "dtype", "attn_implementation", "max_pixels", "min_pixels", "system_prompt"),
        *("video", "use_custom_video_loader", "max_image_size", "interleave_visuals", "reasoning_prompt"),
        *("total_pixels", "enable_thinking", "revision", "chat_template", "share_prefix"),
        *("video_decode_backend", "frame_choice", "damaged_share", "max_frame_pixels", "shrink_frames"),
        *("model_base", "load_4bit", "load_8bit", "subtitle_frames"),
    }
)
"""Settings of an evaluation that change what every method sees or how it computes; model_args, but for the last one."""

NAMES_THE_MODEL = frozenset({"model_name", "model"})
"""model_args that say which model it is."""

TOLD_ELSEWHERE = frozenset({"task", "coverage", "source"})
"""Entries of a written protocol that every run tells of itself: questions that both were asked can be compared, and so
can copies of one checkpoint wherever they came from.
"""

HARNESS_MODELS = frozenset({DEFAULT_MODEL, "nvila"})
"""These, and those that begin with `WRAPPER`, run ST-SimDiff when their model_args name no method."""


@dataclass(frozen=True)
class Condition:
    """What was run. settings: only those that differ from the defaults known here. unchanged: the method's other ones,
    as far as the results tell them. protocol: as text.
    """

    model: str
    method: str
    retention: float
    frames: int | None
    settings: Mapping[str, Setting]
    protocol: Mapping[str, str]
    unchanged: Mapping[str, Setting] = field(default_factory=dict)

    @property
    def variant(self) -> str:
        """`st_simdiff`, one of the paper's ablations such as `st_simdiff/spatial`, or any other registry name."""
        if self.method != OURS:
            return self.method
        return _ABLATIONS.get(frozenset(self.settings.items()), self.method)

    @property
    def other_settings(self) -> str:
        """Settings that neither the variant nor the retention says: `tau_sim=0.9`; empty if there are none."""
        return "" if self.variant != self.method else self.settings_text

    @property
    def settings_text(self) -> str:
        """All settings that differ from the defaults known here."""
        return _listed(self.settings)

    @property
    def label(self) -> str:
        """The method as a table prints it."""
        name = display_name(self.variant)
        return f"{name} ({self.other_settings})" if self.other_settings else name

    def label_among(self, others: Iterable[Condition]) -> str:
        """`label`, with the value also of a setting that is at its default here and not in one of the others."""
        if self.variant != self.method:
            return self.label
        told = _listed({**self._varied(others), **self.settings})
        return f"{display_name(self.method)} ({told})" if told else self.label

    def settings_among(self, others: Iterable[Condition]) -> str:
        """`settings_text`, with what differs in one of the others: settings of the method, and of the model."""
        others = list(others)
        beside = [other for other in others if other.model == self.model]
        of_model = {
            key: self.protocol[key]
            for key in PROTOCOL_KEYS & self.protocol.keys()
            if any(other.protocol.get(key, self.protocol[key]) != self.protocol[key] for other in beside)
        }
        return _listed({**of_model, **self._varied(others), **self.settings})

    def _varied(self, others: Iterable[Condition]) -> dict[str, Setting]:
        """Settings at their default here and not in another run of the method; the paper's ablations have names."""
        changed = {
            key
            for other in others
            if other.method == self.method and other.variant == other.method
            for key in other.settings
        }
        return {key: value for key, value in self.unchanged.items() if key in changed}


_ABLATIONS = {
    frozenset({("tau_diff", -1.0)}): SIMILARITY,
    frozenset({("tau_diff", -1.0), ("temporal", False)}): SPATIAL,
    frozenset({("tau_diff", -1.0), ("spatial", False)}): TEMPORAL,
}


ADAPTIVE, CANDIDATES = "st_simdiff_adaptive", "candidates"
"""Results of this method that do not tell this setting are older than it, and of the only choice there was."""


def read_condition(results: Mapping[str, Any], task: str) -> Condition:
    """The condition under which `task` of a results file of lmms-eval was run.

    The method is what `st-simdiff eval` wrote down as `method` and `changed_settings`; where a results file has none,
    as of lmms-eval's own command line, it is read from the text of model_args. Raises `InputError` (a clause, for the
    file's name to go before it) when its retention is no number.
    """
    config = results.get("config") or {}
    model = str(config.get("model"))
    given = dict(LLAVA_VIDEO_DEFAULTS) if model == DEFAULT_MODEL else {}
    given |= {ALIASES.get(key, key): value for key, value in split_model_args(config.get("model_args")).items()}
    method, retention, settings = _written_method(results, given) or _asked_method(model, given)
    if not is_number(retention):
        raise InputError(f"its model_args have a retention that is no number: {retention!r}")
    name = str(results.get("model_name") or given.get("pretrained") or config.get("model") or "")
    written = results.get("protocol") or {}
    stated = [each.get(key) for each in (given, written) for key in FRAME_KEYS]
    frames = next((int(number) for number in stated if isinstance(number, (int, float))), None)
    return Condition(
        model=model_name(name),
        method=method,
        retention=float(retention),
        frames=frames,
        settings=settings,
        protocol=_protocol(results, task, {key: given[key] for key in given if key in PROTOCOL_KEYS}),
        unchanged=_unchanged(results, settings),
    )


def _written_method(
    results: Mapping[str, Any], given: Mapping[str, Setting]
) -> tuple[str, Any, dict[str, Setting]] | None:
    """Name, retention and changed settings that the results have as data; None where they have none.

    given: model_args. Earlier results tell all settings, and only these which of them were asked for.
    """
    written = results.get("method")
    if not isinstance(written, Mapping):
        return None
    method = current_name(str(written["name"]))
    changed = results.get("changed_settings")
    if changed is None:
        changed = _without_defaults(method, {key: written[key] for key in given if key in written})
    settings = {key: changed[key] for key in changed if key != "retention"}
    if method == ADAPTIVE and CANDIDATES not in written:
        settings[CANDIDATES] = "communities"
    return method, written.get("retention", 1.0), settings


def _unchanged(results: Mapping[str, Any], changed: Mapping[str, Setting]) -> dict[str, Setting]:
    written = results.get("method")
    told = written if isinstance(written, Mapping) else {}
    return {key: value for key, value in told.items() if key not in ("name", "retention", "package", *changed)}


def _asked_method(model: str, given: Mapping[str, Setting]) -> tuple[str, Any, dict[str, Setting]]:
    """The same from the text of model_args."""
    ours = model in HARNESS_MODELS or model.startswith(WRAPPER)
    merge_type = str(given.get("merge_type", ""))
    named = str(given.get("method", "") or MERGE_TYPES.get(merge_type, merge_type) or (OURS if ours else FULL))
    method = current_name(named)
    not_of_it = PROTOCOL_KEYS | WITHOUT_EFFECT | NAMES_THE_MODEL | {"merge_type", "method", "retention"}
    settings = {key: given[key] for key in given if key not in not_of_it}
    return method, given.get("retention", 1.0), _without_defaults(method, settings)


def split_model_args(given: str | Mapping[str, Any] | None) -> dict[str, Setting]:
    """`"a=1,b=x"` (or a mapping) with its values typed; a part that is no pair has an empty text for a value."""
    if isinstance(given, Mapping):
        return {key: read_value(value) for key, value in given.items()}
    pairs = (part.strip().partition("=")[::2] for part in (given or "").split(",") if part.strip())
    return {key: read_value(value) for key, value in pairs}


def _listed(settings: Mapping[str, Setting]) -> str:
    return ", ".join(f"{key}={_text(value)}" for key, value in sorted(settings.items()))


def _text(value: Setting) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _without_defaults(method: str, settings: Mapping[str, Setting]) -> dict[str, Setting]:
    defaults = {**COMMON_DEFAULTS, **(PAPER_DEFAULTS if method in (OURS, RELEASE) else {})}
    return {key: value for key, value in settings.items() if key not in defaults or defaults[key] != value}


def _protocol(results: Mapping[str, Any], task: str, given: Mapping[str, Setting]) -> dict[str, str]:
    """What must agree before two scores may be compared; a `protocol` that the harness wrote has the last word."""
    config = results.get("config") or {}
    task_config = (results.get("configs") or {}).get(task) or {}
    protocol: dict[str, Any] = {key: _text(value) for key, value in given.items()}
    protocol["generation"] = task_config.get("generation_kwargs")
    protocol["prompt"] = task_config.get("lmms_eval_specific_kwargs")
    protocol["task version"] = (results.get("versions") or {}).get(task)
    protocol["limit"] = config.get("limit")
    protocol["offset"] = config.get("offset") or None
    protocol["gen_kwargs"] = config.get("gen_kwargs") or None
    written = results.get("protocol") or config.get("protocol") or {}
    protocol |= _flat({key: value for key, value in written.items() if key not in TOLD_ELSEWHERE})
    return {
        key: value if isinstance(value, str) else json.dumps(value, sort_keys=True)
        for key, value in protocol.items()
        if value is not None
    }


def _flat(nested: Mapping[str, Any], before: str = "") -> dict[str, Any]:
    """`{"software": {"torch": "2.9"}}` as `{"software.torch": "2.9"}`, so that a difference is named by itself."""
    flat: dict[str, Any] = {}
    for key, value in nested.items():
        flat |= _flat(value, f"{before}{key}.") if isinstance(value, Mapping) else {before + key: value}
    return flat
