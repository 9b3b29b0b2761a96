"""Processes that end with the one that started them, however that one ends and whatever stands between the two.

    python -m st_simdiff.runs.parent PROCESS STARTED MODULE ARGUMENTS...

does what `python -m MODULE ARGUMENTS...` does and ends with its parent, from before the first import of the module on.
"""

from __future__ import annotations

import logging
import os
import runpy
import sys
import threading
import time
from dataclasses import dataclass

import psutil

logger = logging.getLogger(__name__)

BETWEEN_LOOKS = 1.0
"""Seconds."""

EXIT_CODE = 1

CLOCK_TOLERANCE = 5.0
"""Seconds by which a start time may differ between two readings: it is counted from the boot time, which the system
corrects with its clock. A process id is not given again that soon."""


@dataclass(frozen=True)
class Parent:
    """A process on this machine.

    process: its id. started: its start time, in seconds since the epoch; it tells the process from a later one of the
    same id.
    """

    process: int
    started: float

    @classmethod
    def this_process(cls) -> Parent:
        own = psutil.Process()
        return cls(own.pid, own.create_time())

    def command(self, module: str, *arguments: str) -> list[str]:
        """The command line of a Python module that ends with this process."""
        return [sys.executable, "-m", __name__, str(self.process), repr(self.started), module, *arguments]

    def end_with(self) -> None:
        """Ends the calling process with `EXIT_CODE` within about a second of the end of the parent.

        Looks from a daemon thread and leaves by `os._exit`: nothing is waited for or cleaned up.
        """
        threading.Thread(target=self._watch, name="parent watch", daemon=True).start()

    def _find(self) -> psutil.Process | None:
        try:
            found = psutil.Process(self.process)
            return found if abs(found.create_time() - self.started) < CLOCK_TOLERANCE else None
        except psutil.NoSuchProcess:
            return None

    def _watch(self) -> None:
        found = self._find()
        while found is not None and _is_alive(found):
            time.sleep(BETWEEN_LOOKS)
        # Said from another thread: where nobody reads the output any more, writing may block for ever.
        text = "Process %d, which started this one, is gone: ending."
        saying = threading.Thread(target=logger.error, args=(text, self.process), daemon=True)
        saying.start()
        saying.join(timeout=1)
        os._exit(EXIT_CODE)


def _is_alive(process: psutil.Process) -> bool:
    """A process that has ended and that nobody has waited for yet (a zombie) is not alive."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def main(process: str, started: str, module: str, *arguments: str) -> None:
    """Runs a module as a program that ends with the process that is named by its id and start time."""
    Parent(int(process), float(started)).end_with()
    sys.argv = [module, *arguments]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
