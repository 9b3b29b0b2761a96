"""Processes that do not outlive the one that started them. Imports nothing heavy."""

from __future__ import annotations

import signal
import subprocess
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress

import psutil

ENDING = tuple(getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name))


def run_to_the_end(command: Sequence[str], environment: Mapping[str, str]) -> int:
    """The exit code of `command`. It does not outlive this process when that is interrupted, terminated or hung up, and
    neither does what it started.

    An interrupt from the keyboard reaches every process of a terminal's session: `command` has one of its own, and
    leaves it to this process. It ends without a word: what it computed is on the disk, and launchers report an end as
    if it were an error.
    """
    process = subprocess.Popen(command, env=environment, start_new_session=True)
    try:
        with _handled(_leave, *ENDING):
            return process.wait()
    except BaseException:
        _end(process)
        raise


def _end(process: subprocess.Popen) -> None:
    """Ends a process, then all that it started: a launcher that still lived would say that its processes were lost."""
    try:
        started = psutil.Process(process.pid).children(recursive=True)
    except psutil.NoSuchProcess:
        started = []
    process.kill()
    process.wait()
    for one in started:
        with suppress(psutil.NoSuchProcess):
            one.kill()


def _leave(number: int, _frame: object) -> None:
    """Raises SystemExit, so that what was begun is ended."""
    raise SystemExit(128 + number)


@contextmanager
def _handled(handler: Callable[[int, object], None] | signal.Handlers, *numbers: int) -> Iterator[None]:
    """Inside the block `handler` is that of the signals, but for those ignored. Signals are the main thread's."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in numbers}
    taken = {number: old for number, old in before.items() if old != signal.SIG_IGN}  # nohup ignores SIGHUP
    for number in taken:
        signal.signal(number, handler)
    try:
        yield
    finally:
        for number, old in taken.items():
            signal.signal(number, old)
