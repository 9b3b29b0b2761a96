"""Processes that do not outlive the one that started them. Imports nothing heavy."""

from __future__ import annotations

import signal
import subprocess
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

LONGEST_GOODBYE = 30
"""Seconds that processes which are told to end have to do so."""


def run_to_the_end(command: Sequence[str], environment: Mapping[str, str]) -> int:
    """The exit code of `command`. It does not outlive this process when that is interrupted or terminated (SIGTERM)."""
    process = subprocess.Popen(command, env=environment)
    try:
        with _terminated_as_exit():
            return process.wait()
    except BaseException:
        process.terminate()
        try:
            process.wait(LONGEST_GOODBYE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        raise


@contextmanager
def _terminated_as_exit() -> Iterator[None]:
    """Inside the block SIGTERM raises SystemExit, so that what was begun is ended. Signals are the main thread's."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def leave(number: int, _frame: object) -> None:
        raise SystemExit(128 + number)

    before = signal.signal(signal.SIGTERM, leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
