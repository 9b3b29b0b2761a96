"""Methods and model families of other packages, found through the entry points that they declare."""

from __future__ import annotations

import logging
from importlib.metadata import EntryPoint, entry_points

from st_simdiff.errors import InputError

logger = logging.getLogger(__name__)

METHODS_GROUP = "st_simdiff.methods"
"""`mine = "my_package.module:MyMethod"`: the name of the method, and its class."""
FAMILIES_GROUP = "st_simdiff.families"
"""`mine = "my_package.module:MyFamily"`: any name, and a class that is made without arguments."""


def declared(group: str) -> dict[str, EntryPoint]:
    """The entry points of `group` by name. If two packages declare one name, the alphabetically first package counts,
    and a warning names both."""
    found: dict[str, EntryPoint] = {}
    for entry in sorted(entry_points(group=group), key=package_of):
        first = found.setdefault(entry.name, entry)
        if first is not entry:
            logger.warning(
                "Two packages declare %r in %s: %s, which counts, and %s.",
                *(entry.name, group, package_of(first), package_of(entry)),
            )
    return found


def package_of(entry: EntryPoint) -> str:
    """The distribution that declares `entry`, with its version: `my-package 1.0`."""
    return f"{entry.dist.name} {entry.dist.version}" if entry.dist else entry.value


def load_class(entry: EntryPoint, kind: str, base: type) -> type:
    """The subclass of `base` that `entry` names. kind: what it is, for the sentence.

    Raises `InputError`, one sentence that names the package, whatever goes wrong there.
    """
    who = f"The {kind} {entry.name!r} of the package {package_of(entry)}"
    try:
        loaded = entry.load()
    except Exception as error:  # somebody else's code: anything may be wrong with it
        reason = " ".join(str(error).split())
        raise InputError(f"{who} cannot be loaded ({entry.value}): {type(error).__name__}: {reason}") from error
    if not (isinstance(loaded, type) and issubclass(loaded, base)):
        raise InputError(f"{who} is no subclass of st_simdiff.{base.__name__}: {entry.value} is {loaded!r}.")
    return loaded
