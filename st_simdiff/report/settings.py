"""What a results file says was run: from the text of `--model_args` to method, retention, settings and protocol."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from st_simdiff.errors import InputError
from st_simdiff.methods.former_names import current_name
from st_simdiff.report.names import RELEASE, display_name, model_name
from st_simdiff.report.published import FULL, OURS, SIMILARITY, SPATIAL, TEMPORAL

Setting = str | float | bool

ALIASES = {"cost": "retention", "similarity_lower_bound": "tau_sim", "event_upper_bound": "tau_diff"}
"""The published command line's names for settings that have a plainer name here."""

MERGE_TYPES = {"new_topk": RELEASE, "st_topk": f"{RELEASE}_ranked", "random": f"{RELEASE}_random"}
"""The published `merge_type` and the method that it means."""

PAPER_SETTINGS: dict[str, Setting] = {
    "tau_sim": 0.8,
    "tau_diff": 0.2,
    "spatial": True,
    "temporal": True,
    "right": True,
    "bottom": True,
    "strategy": 3.0,
    "prune_layer": 1.0,
}
"""What `st_simdiff` and `st_simdiff_release` do when nothing else is asked for."""

COMMON_SETTINGS: dict[str, Setting] = {"budget": "tokens"}
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
    }
)
"""model_args that change what every method sees or how it computes."""

WITHOUT_EFFECT = frozenset(
    {"pretrained", "model_name", "model", "device", "device_map", "journal", "batch_size", "max_batch_size"}
    | {"decode_ahead", "video_cache", "video_cache_gb", "video_time_limit"}
)
"""model_args that name the model, or that cannot change an answer."""

TOLD_ELSEWHERE = frozenset({"task", "coverage", "source"})
"""Entries of a written protocol that every run tells of itself: questions that both were asked can be compared, and so
can copies of one checkpoint wherever they came from.
"""

HARNESS_MODEL = "llava_video"
"""This project's lmms-eval model that has `HARNESS_DEFAULTS`."""

HARNESS_MODELS = frozenset({HARNESS_MODEL, "nvila"})
TWIN = "st_simdiff_"
"""How this project's compressed forms of lmms-eval's own models begin. They and `HARNESS_MODELS` run ST-SimDiff when
their model_args name no method."""

HARNESS_DEFAULTS: dict[str, Setting] = {
    "max_frames_num": 64.0,
    "fps": 1.0,
    "force_sample": False,
    "add_time_instruction": False,
    "conv_template": "qwen_1_5",
    "dtype": "auto",
    "attn_implementation": "sdpa",
    "share_prefix": True,
}
"""What its model_args are when they are not given."""


@dataclass(frozen=True)
class Condition:
    """What was run. settings: only those that differ from the defaults known here. protocol: as text."""

    model: str
    method: str
    retention: float
    frames: int | None
    settings: Mapping[str, Setting]
    protocol: Mapping[str, str]

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
        return ", ".join(f"{key}={_text(value)}" for key, value in sorted(self.settings.items()))

    @property
    def label(self) -> str:
        """The method as a table prints it."""
        name = display_name(self.variant)
        return f"{name} ({self.other_settings})" if self.other_settings else name


_ABLATIONS = {
    frozenset({("tau_diff", -1.0)}): SIMILARITY,
    frozenset({("tau_diff", -1.0), ("temporal", False)}): SPATIAL,
    frozenset({("tau_diff", -1.0), ("spatial", False)}): TEMPORAL,
}


def read_condition(results: Mapping[str, Any], task: str) -> Condition:
    """The condition under which `task` of a results file of lmms-eval was run.

    Raises `InputError` (a clause, for the file's name to go before it) when its retention is no number.
    """
    config = results.get("config") or {}
    model = str(config.get("model"))
    ours = model in HARNESS_MODELS or model.startswith(TWIN)
    given = dict(HARNESS_DEFAULTS) if model == HARNESS_MODEL else {}
    given |= {ALIASES.get(key, key): value for key, value in split_model_args(config.get("model_args")).items()}
    merge_type = str(given.pop("merge_type", ""))
    method = str(given.pop("method", "") or MERGE_TYPES.get(merge_type, merge_type) or (OURS if ours else FULL))
    method = current_name(method)
    retention = given.pop("retention", 1.0)
    if not isinstance(retention, float):
        raise InputError(f"its model_args have a retention that is no number: {retention!r}")
    name = str(results.get("model_name") or given.get("pretrained") or config.get("model") or "")
    settings = {key: given[key] for key in given if key not in PROTOCOL_KEYS and key not in WITHOUT_EFFECT}
    written = results.get("protocol") or {}
    stated = [each.get(key) for each in (given, written) for key in FRAME_KEYS]
    frames = next((int(number) for number in stated if isinstance(number, (int, float))), None)
    return Condition(
        model=model_name(name),
        method=method,
        retention=retention,
        frames=frames,
        settings=_without_defaults(method, settings),
        protocol=_protocol(results, task, {key: given[key] for key in given if key in PROTOCOL_KEYS}),
    )


def split_model_args(given: str | Mapping[str, Any] | None) -> dict[str, Setting]:
    """`"a=1,b=x"` (or a mapping) as typed values: numbers are floats, True and False are bools, the rest is text."""
    if isinstance(given, Mapping):
        pairs: Iterable[tuple[str, Any]] = given.items()
    else:
        pairs = (part.strip().partition("=")[::2] for part in (given or "").split(",") if part.strip())
    return {key: _typed(value) for key, value in pairs}


def _typed(value: Any) -> Setting:
    if isinstance(value, bool):
        return value
    if str(value) in ("True", "False"):
        return str(value) == "True"
    try:
        return float(value)
    except (TypeError, ValueError):
        return str(value)


def _text(value: Setting) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _without_defaults(method: str, settings: Mapping[str, Setting]) -> dict[str, Setting]:
    defaults = COMMON_SETTINGS | (PAPER_SETTINGS if method in (OURS, RELEASE) else {})
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
