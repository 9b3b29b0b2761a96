"""A package that is missing, or of a version known not to work, is named in one sentence, with its extra."""

from __future__ import annotations

from importlib import metadata

from packaging.requirements import Requirement

from st_simdiff.errors import InputError

DISTRIBUTION = "st-simdiff"


def missing_package(what: str, error: ModuleNotFoundError, extra: str) -> InputError:
    """The sentence for an import that failed. what: what cannot be done without it, as the subject of a sentence.

    Raises `error` itself if the module is one of this project's own: no extra brings that.
    """
    package = (error.name or "").partition(".")[0]
    if package in ("", "st_simdiff"):
        raise error
    return InputError(f"{what} needs the package {package}: {extra_command(extra)}.")


def check_versions(what: str, extra: str) -> None:
    """Raises `InputError` where an installed package is of a version that `extra` does not allow.

    what: what needs it, as the subject of a sentence. Packages that are not installed are left to `missing_package`.
    """
    try:
        lines = metadata.requires(DISTRIBUTION) or ()
    except metadata.PackageNotFoundError:  # used from a folder on the path, without an installation
        return
    for requirement in map(Requirement, lines):
        if requirement.marker is None or not requirement.marker.evaluate({"extra": extra}):
            continue
        try:
            installed = metadata.version(requirement.name)
        except metadata.PackageNotFoundError:
            continue
        if not requirement.specifier.contains(installed, prereleases=True):
            needed = f"{requirement.name}{requirement.specifier}"
            raise InputError(f"{what} needs {needed}, and {installed} is installed: {extra_command(extra)}.")


def extra_command(extra: str) -> str:
    """What installs the packages of `extra`."""
    return f"pip install '{DISTRIBUTION}[{extra}]'"
