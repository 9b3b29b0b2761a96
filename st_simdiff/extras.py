"""A package that is missing is named in one sentence, with the extra that brings it."""

from __future__ import annotations

from st_simdiff.errors import InputError


def missing_package(what: str, error: ModuleNotFoundError, extra: str) -> InputError:
    """The sentence for an import that failed. what: what cannot be done without it, as the subject of a sentence.

    Raises `error` itself if the module is one of this project's own: no extra brings that.
    """
    package = (error.name or "").partition(".")[0]
    if package in ("", "st_simdiff"):
        raise error
    return InputError(f"{what} needs the package {package}: pip install 'st-simdiff[{extra}]'.")
