"""`st-simdiff bench`: measures a model with random weights on this machine."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path

from st_simdiff.errors import InputError, unknown
from st_simdiff.parsing import decimal_comma

MODELS = ("scaled", "7b", "smallest")
CLOCKS = ("wall", "cpu")
MOST_VALUES = 100
"""Of one option."""
MOST_BATCH = 10_000


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `bench`."""
    parser.description = (
        "Runs a LLaVA-Video model with random weights on videos with planted features, full and compressed in turn, "
        "from pixels to the first token. No checkpoint is needed. Progress goes to stderr, tables to stdout. A row is "
        "noisy where its rounds differ by more than a quarter, or its speed-up exceeds the limit by FLOPs by more than "
        "a quarter. It is marked and not compared with the limit, and what is estimated from it says so: on a "
        "machine with other work take more --repeats, or --clock cpu."
    )
    add = parser.add_argument
    add("--model", default="auto", help=f"{', '.join(MODELS)}; default: 7b on a GPU, scaled on a CPU")
    add("--frames", default="64", help="comma-separated numbers of frames; default: 64")
    add("--methods", default="st_simdiff", help="comma-separated methods, or all; default: st_simdiff")
    add("--retention", default="0.3", help="comma-separated shares of tokens to keep; default: 0.3")
    add("--batch", default="1", help="comma-separated batch sizes; default: 1")
    add("--repeats", default="3", help="timed rounds, after one to warm up; of one no spread is known; default: 3")
    add("--candidates", default="0.6", help="share of the tokens that enter the decoder at 30 %%; default: 0.6")
    add("--device", default="auto", help="auto, cpu or cuda; default: auto")
    add("--dtype", default="auto", help="float32, float16 or bfloat16; default: bfloat16 on CUDA, float32 on a CPU")
    add("--clock", default="wall", help="wall, or cpu for the process's own time on a busy machine; default: wall")
    add("--frames_per_chunk", default="16", help="frames that go through the vision tower at once; default: 16")
    add(
        "--json",
        type=path,
        help="results file, made with its folder if need be; rows of the same model and conditions stay in it",
    )
    add("--figure", type=path, help="draw the cost figure of the results file to this .png, .svg or .pdf")
    add(
        "--match_budget",
        action="store_true",
        help="measure nothing: print how many frames, compressed, cost what the full model costs at --frames",
    )


MEASURING = ("batch", "repeats", "dtype", "clock", "frames_per_chunk", "json", "figure")
"""Options that have no effect where nothing is measured."""


def changed(options: argparse.Namespace, names: Sequence[str]) -> list[str]:
    """Those of the options `names` that are not at their defaults, as they are written."""
    parser = argparse.ArgumentParser(add_help=False)
    add_arguments(parser)
    return [f"--{name}" for name in names if getattr(options, name) != parser.get_default(name)]


def numbers(text: str, name: str, most: int) -> list[int]:
    """A comma-separated list of whole numbers from 1 to `most`, each once. Raises `InputError`."""
    return _values(text, name, int, most, f"whole numbers from 1 to {most:,}")


def shares(text: str, name: str) -> list[float]:
    """A comma-separated list of shares of the tokens in (0, 1], each once. Raises `InputError`."""
    return _values(text, name, float, 1, "shares of the tokens, above 0 and at most 1")


def _values(text: str, name: str, kind: type, most: float, what: str) -> list:
    given = text if len(text) < 100 else f"{text[:100]}..."
    try:
        values = [kind(part) for part in text.split(",")]
    except ValueError:
        values = []
    if not values or not all(0 < value <= most for value in values):
        raise InputError(f"--{name} takes comma-separated {what}, got {given!r}{decimal_comma(text)}.")
    values = list(dict.fromkeys(values))
    if len(values) > MOST_VALUES:
        raise InputError(f"--{name} takes at most {MOST_VALUES} values, got {len(values):,}.")
    return values


def path(text: str) -> Path:
    """A type of options: the path of a file."""
    if not text:
        raise argparse.ArgumentTypeError("the path of a file is needed, got ''")
    return Path(text)


def number(text: str, name: str, most: int) -> int:
    """One whole number from 1 to `most`. Raises `InputError`."""
    try:
        value = int(text)
    except ValueError:
        value = 0
    if not 1 <= value <= most:
        raise InputError(f"--{name} takes one whole number from 1 to {most:,}, got {text[:100]!r}.")
    return value


def share(text: str, name: str, least: float) -> float:
    """One number in [least, 1]. Raises `InputError`."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not least <= value <= 1:
        raise InputError(
            f"--{name} is one share of the tokens, in [{least:g}, 1], got {text[:100]!r}{decimal_comma(text)}."
        )
    return value


def choice(text: str, name: str, valid: tuple[str, ...], synonyms: Mapping[str, str] | None = None) -> str:
    """One of the words `valid`. synonyms: others, and the valid one that is meant. Raises `InputError`."""
    if text not in valid:
        meant = {**{word: word for word in valid}, **(synonyms or {})}
        raise unknown(name, text, valid, meant=meant.get(text.lower()))
    return text
