"""How a harness model ends a run of lmms-eval."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from loguru import logger


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
