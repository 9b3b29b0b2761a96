"""What `st-simdiff eval` is asked for: flags over a config file over defaults; as grids and checkpoints."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from st_simdiff.answering.checkpoints import checkpoint_name
from st_simdiff.checks import is_number
from st_simdiff.errors import InputError, unknown
from st_simdiff.evaluate import embedded
from st_simdiff.evaluate.config_file import ConfigFile, find_config, join, read_config_file
from st_simdiff.evaluate.grid import Grid
from st_simdiff.lmms.models import find_model
from st_simdiff.methods.settings import method_keys, resolve_names
from st_simdiff.model_args import read_value, split_model_args
from st_simdiff.parsing import decimal_comma
from st_simdiff.vocabulary import DEFAULT_MODEL, FULL

DEFAULT_TASKS = ("videomme_local",)
MOST_QUESTIONS = 10**9
EMBEDDED = "embedded"
"""The folder of the embedded checkpoints' results."""

Block = Mapping[str, Any]


@dataclass(frozen=True)
class Checkpoint:
    """path: a folder, or a name on the hub, `owner/name` or `owner/name@revision`. name: of the results folder."""

    path: str
    name: str


@dataclass(frozen=True)
class Request:
    """grids: the runs. checkpoints: by model; empty where the runs of a config file are only to be listed. limit: of
    the questions of a task.

    meaningful: whether the scores say anything about a model. stand_in: whether the embedded model answers in place of
    the models that a config file names.
    """

    grids: tuple[Grid, ...]
    checkpoints: Mapping[str, Checkpoint]
    limit: str | None
    meaningful: bool = True
    stand_in: bool = False


def read_request(options: argparse.Namespace, environment: Mapping[str, str], included: Sequence[Path] = ()) -> Request:
    """Writes the random embedded checkpoint where it is needed. included: folders of the user's own tasks.

    Raises `InputError` for what contradicts itself.
    """
    config = read_config_file(find_config(options.config)) if options.config else ConfigFile()
    flags = read_flags(options)
    limit = _limit(config.limit if options.limit is None else options.limit)
    models = _models(config.blocks, flags)
    paths = _paths(options.model_path, config, flags, models, environment)
    if not paths and options.config and options.dry_run:
        return Request(tuple(_grid(join(block, flags)) for block in config.blocks), {}, limit)
    if not paths:
        return _embedded_request(options, config, flags, models, limit, included)
    for model in models:
        if model not in paths:
            raise InputError(f"No checkpoint is given for {model}: add --model_path {model}=<folder or owner/name>.")
    checkpoints = {model: Checkpoint(path, checkpoint_name(path)) for model, path in paths.items()}
    return Request(tuple(_grid(join(block, flags)) for block in config.blocks), checkpoints, limit)


def _limit(given: str | None) -> str | None:
    if given is None:
        return None
    value = read_value(given)
    if is_number(value) and (0 < value < 1 or (1 <= value < MOST_QUESTIONS and value == int(value))):
        return given
    raise InputError(f"--limit is a number of questions, or a share of them below 1, got {given!r}.")


def _embedded_request(
    options: argparse.Namespace,
    config: ConfigFile,
    flags: Block,
    models: Sequence[str],
    limit: str | None,
    included: Sequence[Path],
) -> Request:
    if not options.config and models != (DEFAULT_MODEL,):
        raise InputError(
            f"Only {DEFAULT_MODEL} has an embedded checkpoint: give the one for {models[0]} with --model_path."
        )
    known = embedded.embedded_evaluation(options.tasks, included=included)
    flags = {key: value for key, value in flags.items() if key not in ("model", "tasks")}
    if not options.config:
        flags = _comparison(flags)
    grids = tuple(_grid(join(_on_embedded(block, known, flags.get("sweep", {})), flags)) for block in config.blocks)
    checkpoints = {DEFAULT_MODEL: Checkpoint(str(known.checkpoint), EMBEDDED)}
    return Request(grids, checkpoints, limit, known.trained, bool(options.config))


def read_flags(options: argparse.Namespace) -> dict[str, Any]:
    """The grid's entries that the command line gives, in the form of a config file's."""
    flags: dict[str, Any] = {}
    for key in ("model", "tasks", "method", "retention"):
        given = getattr(options, key)
        if given is not None:
            flags[key] = _split(key, given)
    model_args = resolve_names(split_model_args(options.model_args))
    for key in ("method", "retention"):
        if key not in model_args:
            continue
        if key in flags:
            raise InputError(
                f"--{key} {getattr(options, key)} and model_args ({model_args[key]}) give the same setting: give one, "
                "not both."
            )
        flags[key] = (model_args.pop(key),)
    if "method" in flags:
        flags["method"] = tuple({"method": name} for name in flags["method"])
    sweep = _sweep(options.sweep)
    return flags | ({"model_args": model_args} if model_args else {}) | ({"sweep": sweep} if sweep else {})


def _sweep(given: Iterable[str]) -> dict[str, tuple[str, ...]]:
    sweep: dict[str, tuple[str, ...]] = {}
    for part in given:
        key, separator, values = part.partition("=")
        if not separator or not key:
            raise InputError(f"--sweep is <setting>=<value>,<value>,..., got {part!r}.")
        if key in sweep:
            raise InputError(f"--sweep {key} is given twice.")
        sweep[key] = _split(f"sweep {key}", values)
    return sweep


def _split(what: str, given: str) -> tuple[str, ...]:
    if what == "retention" and (hint := decimal_comma(given)):
        raise InputError(f"--{what} is a comma-separated list of shares, got {given!r}{hint}.")
    values = tuple(dict.fromkeys(part.strip() for part in given.split(",")))
    if not all(values):
        raise InputError(f"--{what} is a comma-separated list, got {given!r}.")
    return values


def _models(blocks: Iterable[Block], flags: Block) -> tuple[str, ...]:
    named = [flags.get("model") or block.get("model") or (DEFAULT_MODEL,) for block in blocks]
    models = tuple(dict.fromkeys(model for some in named for model in some))
    for model in models:
        find_model(model)
    return models


def _paths(
    flagged: Iterable[str],
    config: ConfigFile,
    flags: dict[str, Any],
    models: tuple[str, ...],
    environment: Mapping[str, str],
) -> dict[str, str]:
    """Checkpoints by model; takes `pretrained` out of the flags' model_args."""
    given = [*flagged, *filter(None, [flags.get("model_args", {}).pop("pretrained", None)])]
    paths = dict(config.model_paths)
    for one in given:
        name, separator, path = one.partition("=")
        if not separator or "/" in name:
            if len(models) > 1:
                raise InputError(
                    f"There are several models, so --model_path is <model>=<folder> for each of {', '.join(models)}, "
                    f"got {one}."
                )
            name, path = models[0], one
        paths[name] = path
    for name in paths:
        if name not in models:
            raise unknown("model of a checkpoint", name, models)
    if not paths and len(models) == 1 and environment.get("MODEL_PATH"):
        return {models[0]: environment["MODEL_PATH"]}
    return paths


def _on_embedded(block: Block, known: embedded.Embedded, swept: Iterable[str]) -> Block:
    """`block` for the embedded model: its own tasks and sampling; methods, retentions and their settings stay.

    swept: settings that the command line gives values of, in place of the embedded model's own.
    """
    model_args = {key: value for key, value in known.model_args.items() if key not in swept}
    sweep = {key: values for key, values in block.get("sweep", {}).items() if key in method_keys()}
    own = {"model": (DEFAULT_MODEL,), "tasks": tuple(known.tasks.split(",")), "model_args": model_args}
    return {**block, **own, "sweep": sweep}


def _comparison(flags: Block) -> dict[str, Any]:
    """The full model, then the methods at every retention asked for."""
    methods = flags.get("method", ({},))
    if all(method.get("method") == FULL for method in methods):
        return dict(flags)
    full = [method for method in ({"method": FULL},) if method not in methods]
    retentions = {} if "max_tokens" in flags.get("model_args", {}) else {"retention": embedded.RETENTIONS}
    return {**retentions, **flags, "method": (*full, *methods)}


def _grid(block: Block) -> Grid:
    return Grid(
        models=block.get("model", (DEFAULT_MODEL,)),
        tasks=block.get("tasks", DEFAULT_TASKS),
        methods=block.get("method", ({},)),
        retentions=block.get("retention", ()),
        sweep=block.get("sweep", {}),
        model_args=block.get("model_args", {}),
    )
