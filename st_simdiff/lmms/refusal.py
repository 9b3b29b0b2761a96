"""How a harness model ends a run of lmms-eval."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from loguru import logger

from st_simdiff.errors import InputError


@contextmanager
def one_sentence(model: str, *errors: type[Exception]) -> Iterator[None]:
    """Ends the process with the message of any of `errors`, under the harness model's name, and exit code 1.

    lmms-eval catches every Exception, prints a traceback and exits 0; a SystemExit passes through.
    """
    try:
        yield
    except errors as error:
        logger.opt(exception=error).debug(f"{model} stops")
        raise SystemExit(f"{model}: {error}") from error


@contextmanager
def nothing_swallowed(model: str) -> Iterator[None]:
    """Ends the process with exit code 1 on any exception: bad input with its sentence, others with their traceback."""
    try:
        with one_sentence(model, InputError):
            yield
    except Exception as error:
        logger.opt(exception=error).error(f"{model} stops")
        reason = " ".join(str(error).split())
        raise SystemExit(f"{model}: {type(error).__name__}: {reason}") from error
