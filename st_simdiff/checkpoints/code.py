"""Code that a checkpoint's configs name. It never runs unless the user says so: loaders get a folder without it."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from st_simdiff.checkpoints.files import read_json

logger = logging.getLogger(__name__)

ALLOW = "trust_remote_code"
_KEYS = frozenset({"auto_map", "custom_pipelines", "custom_generate"})
_ATTENTION = frozenset({"attn_implementation", "_attn_implementation", "_attn_implementation_internal"})
"""Entries whose value may be the name of a repository with an implementation."""


def named_code(folder: Path) -> dict[str, list[str]]:
    """The entries that name code, by the config file of `folder` that has them."""
    found = {}
    for file in _configs(folder):
        keys = sorted(set(_naming(read_json(file, "a checkpoint"))))
        if keys:
            found[file.name] = keys
    return found


def report_code(folder: Path) -> None:
    """Says in the log which code of its own a checkpoint names, for a loader with classes of its own."""
    for file, keys in named_code(folder).items():
        logger.warning(
            "%s names code (%s), which is not run: this loader has its own classes.", folder / file, ", ".join(keys)
        )


@contextmanager
def without_code(folder: Path) -> Iterator[Path]:
    """`folder`, or while the block lasts a view of it whose configs name no code and which has no Python files."""
    named = named_code(folder)
    if not named:
        yield folder
        return
    listed = "; ".join(f"{file}: {', '.join(keys)}" for file, keys in named.items())
    logger.warning(
        "%s names code of its own (%s). It is not run, transformers' own classes load the checkpoint; %s=True in "
        "model_args would run it.",
        *(folder, listed, ALLOW),
    )
    with TemporaryDirectory(prefix="st_simdiff_") as scratch:
        # Below its own path: wrappers read more than one thing from a checkpoint's name.
        view = Path(scratch).joinpath(*folder.resolve().parts[1:])
        view.mkdir(parents=True)
        for path in folder.iterdir():
            if path.name in named:
                entries = _without(read_json(path, "a checkpoint"))
                (view / path.name).write_text(json.dumps(entries), encoding="utf-8")
            elif path.suffix != ".py" and path.name not in _KEYS:
                (view / path.name).symlink_to(path.resolve())
        yield view


def _configs(folder: Path) -> Iterator[Path]:
    """config.json, tokenizer_config.json and the like: the files in which transformers looks for code."""
    for path in sorted(folder.glob("*config.json")):
        if path.is_file():
            yield path


def _names_code(key: str, value: Any) -> bool:
    return key in _KEYS or (key in _ATTENTION and "/" in str(value))


def _naming(entries: Any) -> Iterator[str]:
    if isinstance(entries, dict):
        for key, value in entries.items():
            if _names_code(key, value):
                yield key
            yield from _naming(value)
    elif isinstance(entries, list):
        for value in entries:
            yield from _naming(value)


def _without(entries: Any) -> Any:
    if isinstance(entries, dict):
        return {key: _without(value) for key, value in entries.items() if not _names_code(key, value)}
    return [_without(value) for value in entries] if isinstance(entries, list) else entries
