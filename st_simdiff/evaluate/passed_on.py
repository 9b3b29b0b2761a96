"""What `st-simdiff eval` passes on to lmms-eval: options that have an effect there, checked before a model is loaded.

lmms-eval's own parser takes abbreviations, so that `--lim 1` would go over `--limit`, and looks at few values.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from st_simdiff.checks import MOST_REPEATS
from st_simdiff.errors import InputError, unknown
from st_simdiff.parsing import Parser, whole

OWN_OPTIONS = ("model", "model_args", "tasks", "limit", "output_path")
VERBOSITY = ("TRACE", "DEBUG", "INFO", "SUCCESS", "WARNING", "ERROR", "CRITICAL")
NOT_TAKEN = (
    *("config", "wandb_args", "swanlab_args", "hf_hub_log_args", "wandb_log_samples", "swanlab_log_samples", "tui"),
    *("power-analysis", "effect-size", "alpha", "power", "correlation", "std-a", "std-b", "show_config"),
    *("log_samples_suffix", "trust_remote_code"),
)
"""Options of lmms-eval's command line that its evaluator does not have."""


def check_passed_on(extra: Sequence[str]) -> Path | None:
    """The folder of the user's own tasks, `--include_path`, if there is one.

    Raises `InputError` for an argument of lmms-eval that would not do what it says, and for a wrong value.
    """
    for argument in extra:
        name = argument.partition("=")[0].removeprefix("--")
        if not argument.startswith("--"):
            continue
        if name in OWN_OPTIONS:
            raise InputError(f"{argument} comes before the lone --, where st-simdiff can see it.")
        if name in NOT_TAKEN:
            raise InputError(f"{argument} works with lmms-eval's own command line only, `python -m lmms_eval`.")
    return _parser().parse_args(list(extra)).include_path


def option_names() -> frozenset[str]:
    """The options that can be passed on."""
    return frozenset(_parser()._option_string_actions)


def _parser() -> Parser:
    parser = Parser(prog="lmms-eval", add_help=False)
    add = parser.add_argument
    add("--include_path", type=_folder)
    add("--gen_kwargs", type=_pairs)
    add("--num_fewshot", type=_from(0))
    add("--batch_size", "-b", type=_batch_size)
    add("--max_batch_size", type=_from(1))
    add("--offset", type=_from(0))
    add("--repeats", "--num_samples", "-n", type=_from(1, MOST_REPEATS))
    add("--max_tokens", type=_from(1))
    add("--process_docs_parallel", "--process-docs-parallel", type=_from(1, 1024))
    add("--seed", type=_seeds)
    add("--verbosity", type=_one_of("verbosity", VERBOSITY))
    add("--timezone", type=_timezone)
    add("--cache_requests", type=_one_of("cache_requests", ("true", "refresh", "delete")))
    add("--agentic_trace_mode", type=_one_of("agentic_trace_mode", ("basic", "full")))
    add("--reasoning_tags", type=_tags)
    for name in ("device", "use_cache", "system_instruction", "launcher_args", "baseline"):
        add(f"--{name}", *{"use_cache": ["-c"]}.get(name, []))
    flags = ("check_integrity", "apply_chat_template", "fewshot_as_multiturn", "force_simple", "process_with_media")
    for name in (*flags, "log_samples"):
        add(f"--{name}", action="store_true")
    add("--write_out", "-w", action="store_true")
    add("--predict_only", "-x", action="store_true")
    return parser


def _from(least: int, most: int = 10**9) -> Callable[[str], int]:
    def read(text: str) -> int:
        value = whole(text)
        if not least <= value <= most:
            raise argparse.ArgumentTypeError(f"a whole number from {least} to {most:,} is needed, got {text}")
        return value

    return read


def _one_of(name: str, valid: Sequence[str]) -> Callable[[str], str]:
    def read(text: str) -> str:
        if text not in valid:
            raise argparse.ArgumentTypeError(str(unknown(name, text, valid)).removesuffix("."))
        return text

    return read


def _folder(text: str) -> Path:
    if not text or not Path(text).is_dir():
        raise argparse.ArgumentTypeError(f"there is no folder {text!r}")
    return Path(text)


def _batch_size(text: str) -> str:
    number = text.removeprefix("auto:")
    if text != "auto" and not (number.isascii() and number.isdigit() and 1 <= len(number) <= 6 and int(number)):
        raise argparse.ArgumentTypeError(f"a number from 1 on, auto or auto:<number> is needed, got {text!r}")
    return text


def _pairs(text: str) -> str:
    if not all(part.partition("=")[0].strip() and "=" in part for part in text.split(",")) and "{" not in text:
        raise argparse.ArgumentTypeError(f"key=value pairs separated by commas are needed, got {text!r}")
    return text


def _seeds(text: str) -> str:
    parts = [part.strip() for part in text.split(",")]
    if len(parts) not in (1, 3, 4):
        raise argparse.ArgumentTypeError(f"one, three or four seeds are needed, got {text!r}")
    for part in parts:
        if part.lower() != "none" and not 0 <= whole(part) < 2**32:
            raise argparse.ArgumentTypeError(f"a seed is None or a whole number below 2^32, got {part}")
    return text


def _timezone(text: str) -> str:
    try:
        ZoneInfo(text)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise argparse.ArgumentTypeError(f"there is no time zone {text!r}; one is Europe/Paris") from None
    return text


def _tags(text: str) -> str:
    try:
        pairs = json.loads(text)
    except (ValueError, RecursionError):
        pairs = None
    if not isinstance(pairs, list) or not all(map(_is_pair, pairs)):
        raise argparse.ArgumentTypeError(f"a JSON list of [start, end] pairs is needed, got {text!r}")
    return text


def _is_pair(value: object) -> bool:
    return isinstance(value, list) and len(value) == 2 and all(isinstance(tag, str) for tag in value)
