"""A method's settings as people write them: under published names, as text, and among the settings of a model."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping
from typing import Any

from st_simdiff.errors import InputError, unknown
from st_simdiff.methods.base import Method
from st_simdiff.methods.registry import METHODS, make_method, method_settings
from st_simdiff.model_args import read_value
from st_simdiff.vocabulary import ALIASES, DEFAULT_METHOD, MERGE_TYPES, PUBLISHED_FLAGS


def method_keys() -> frozenset[str]:
    """Every setting that belongs to some method, not to a model, under all of its names."""
    return frozenset().union(*map(method_settings, METHODS), PUBLISHED_FLAGS, ALIASES)


def resolve_names(settings: Mapping[str, Any]) -> dict[str, Any]:
    """`settings` under our own names, with `merge_type` resolved to the method it means.

    Raises `InputError` when a setting is given under both its names, and for an unknown merge type.
    """
    resolved = dict(settings)
    for published, ours in ALIASES.items():
        if published not in resolved:
            continue
        if ours in resolved:
            raise InputError(
                f"{published} and {ours} are two names of one setting: give one, not both "
                f"({published}={resolved[published]}, {ours}={resolved[ours]})."
            )
        resolved[ours] = resolved.pop(published)
    if "merge_type" in resolved:
        merge_type = str(resolved.pop("merge_type"))
        if "method" in resolved:
            raise InputError(
                f"merge_type and method both name the method: give one, not both "
                f"(merge_type={merge_type}, method={resolved['method']})."
            )
        if merge_type not in MERGE_TYPES:
            raise unknown("merge_type", merge_type, MERGE_TYPES)
        resolved["method"] = MERGE_TYPES[merge_type]
    return resolved


def take_method(settings: Mapping[str, Any], own: Collection[str] | None = None) -> tuple[Method, dict[str, Any]]:
    """The method that `settings` describe, and the settings that are not the method's, values as they were given.

    settings: `method` may be a method itself. own: the keys that the model itself takes; None if they are not known
    here, and then any other key is taken for one of the model's. Raises `InputError` for a key that is neither the
    method's nor the model's (with the closest valid one), a wrong value of the method's, or a setting given twice.
    """
    resolved = resolve_names(settings)
    given = resolved.pop("method", DEFAULT_METHOD)
    name = given.name if isinstance(given, Method) else str(given)
    of_method = frozenset() if isinstance(given, Method) else method_settings(name)
    if own is not None:
        _refuse_unknown(resolved, name, set(own), of_method)
    if isinstance(given, Method):
        return given, resolved
    method = make_method(name, **{key: read_value(resolved[key]) for key in resolved if key in of_method})
    names = own if own is not None else resolved.keys() - of_method - PUBLISHED_FLAGS.keys()
    return method, {key: value for key, value in resolved.items() if key in names}


def _refuse_unknown(settings: Mapping[str, Any], method: str, own: set[str], of_method: Collection[str]) -> None:
    for key, value in settings.items():
        if key in own or key in of_method:
            continue
        if key in PUBLISHED_FLAGS:
            published = PUBLISHED_FLAGS[key]
            if read_value(value) == published:
                continue
            raise InputError(f"Method {method} has no switch {key}: {key}={published} is accepted, got {key}={value}.")
        if owners := sorted(name for name in METHODS if key in method_settings(name)):
            raise InputError(f"{key} is no setting of method {method}; it belongs to {', '.join(owners)}.")
        raise unknown("setting", key, own | {*of_method, "method", "merge_type", *ALIASES, *PUBLISHED_FLAGS})


def changed_settings(method: Method) -> dict[str, Any]:
    """The method's settings that are not as they are by default."""
    fields = dataclasses.fields(method)
    return {one.name: getattr(method, one.name) for one in fields if getattr(method, one.name) != one.default}


def as_data(method: Method) -> dict[str, Any]:
    """The method's name and every setting: `make_method(**as_data(method))` is the same method."""
    settings = dataclasses.asdict(method)
    return {"name": method.name, **{one.name: settings[one.name] for one in dataclasses.fields(method) if one.init}}


def describe_method(method: Method) -> dict[str, Any]:
    """The method's name and every setting; of a method from another package also that package's version."""
    package = METHODS.package(method.name)
    return {**as_data(method), **({"package": package} if package else {})}
