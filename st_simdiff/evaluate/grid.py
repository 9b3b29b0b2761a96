"""A grid of evaluations: model x task x method x retention x any setting, written out run by run. Pure."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from st_simdiff.checks import MOST_RUNS, check_retention
from st_simdiff.errors import InputError
from st_simdiff.methods.settings import method_keys, resolve_names
from st_simdiff.model_args import read_value
from st_simdiff.vocabulary import DEFAULT_METHOD, DEFAULT_RETENTION, FULL, WITHOUT_EFFECT

NOT_SWEPT = {"method": "--method", "retention": "--retention", "pretrained": "--model_path"}
"""Settings that have a list of their own, and the flag for it."""

Settings = dict[str, Any]


@dataclass(frozen=True)
class Grid:
    """Every combination of the entries is one run.

    models: names of harness models. methods: each a name with settings of its own, {"method": "fastv"}. retentions:
    empty where the default is meant. sweep: settings of the method or the model, each with the values it takes.
    model_args: settings of every run.
    """

    models: tuple[str, ...]
    tasks: tuple[str, ...]
    methods: tuple[Mapping[str, Any], ...] = ({"method": DEFAULT_METHOD},)
    retentions: tuple[Any, ...] = ()
    sweep: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)
    model_args: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Combination:
    """One entry of each list. settings: `--model_args` under our own names, without the checkpoint's. varied: those of
    the model that are swept. swept: all that are.
    """

    model: str
    task: str
    settings: Settings
    varied: Settings = field(default_factory=dict)
    swept: tuple[str, ...] = ()


def expand(grids: Iterable[Grid]) -> Iterator[Combination]:
    """Every combination, those of one model and task together. Raises `InputError` where two entries contradict."""
    grids = tuple(grids)
    count = sum(map(_count, grids))
    if count > MOST_RUNS:
        raise InputError(f"{count:,} runs are asked for, and one command takes at most {MOST_RUNS:,}: divide them.")
    for grid in grids:
        for model, task in itertools.product(grid.models, grid.tasks):
            for settings in _settings(grid):
                varied = {key: settings[key] for key in grid.sweep if key not in method_keys()}
                yield Combination(model, task, settings, varied, tuple(resolve_names(grid.sweep)))


def _count(grid: Grid) -> int:
    """Combinations, without writing them out."""
    lists = (grid.models, grid.tasks, grid.methods, grid.retentions or (None,), *grid.sweep.values())
    return math.prod(map(len, lists))


def _settings(grid: Grid) -> Iterator[Settings]:
    for key, flag in NOT_SWEPT.items():
        if key in grid.sweep:
            raise InputError(f"{key} is not swept by name: give its values with {flag}.")
    for key in grid.sweep:
        if key in WITHOUT_EFFECT:
            raise InputError(
                f"{key} cannot be swept, as it does not change what is computed: all of its values are one run. "
                f"Give one with --model_args {key}=<value>."
            )
    combinations = itertools.product(*([(key, value) for value in values] for key, values in grid.sweep.items()))
    swept = [dict(combination) for combination in combinations]
    for method, values in itertools.product(grid.methods, swept):
        for retention in grid.retentions or (None,):
            yield with_method(_joined(grid.model_args, method, values, retention))


def _joined(
    model_args: Mapping[str, Any], method: Mapping[str, Any], swept: Mapping[str, Any], retention: Any
) -> Settings:
    """One combination's settings: the method's own go over `model_args`; what is swept is given nowhere else."""
    common, own, values = (resolve_names(part) for part in (model_args, method, swept))
    for key in values:
        if key in common or key in own:
            given = own.get(key, common.get(key))
            raise InputError(f"{key} is swept and given besides ({key}={given}): give it in one place.")
    if "method" in common and "method" in own:
        raise InputError(f"method is given twice: {common['method']} and {own['method']}.")
    if retention is not None:
        for part in (common, own):
            if "retention" in part:
                raise InputError(
                    f"--retention {retention} and model_args ({part['retention']}) give the same setting: give one, "
                    "not both."
                )
        values["retention"] = retention
    return {**common, **own, **values}


def with_method(settings: Mapping[str, Any]) -> Settings:
    """`settings` with the default method and retention where none is given; the full model's without those of methods.

    The full model has no setting of its own, so that it can stand beside a method whose settings are swept.
    """
    named = {"method": DEFAULT_METHOD, **settings}
    if named["method"] == FULL:
        if "retention" in named:
            check_retention(read_value(named["retention"]))
        return {key: value for key, value in named.items() if key not in method_keys()}
    if "max_tokens" not in named:
        named.setdefault("retention", DEFAULT_RETENTION)
    return named
