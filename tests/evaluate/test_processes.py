"""What is started does not outlive what started it."""

import os
import signal
import subprocess
import sys
import time

import pytest

from st_simdiff.evaluate.processes import run_to_the_end

CHILD = "import os, sys, time; print(os.getpid(), flush=True); time.sleep(600)"
PARENT = f"""
import os, signal, sys
from st_simdiff.evaluate.processes import run_to_the_end
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell that starts the tests in the background ignores it
run_to_the_end([sys.executable, "-c", {CHILD!r}], os.environ)
"""


def is_running(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_terminated_command_takes_its_processes_along(number):
    parent = subprocess.Popen([sys.executable, "-c", PARENT], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    child = int(parent.stdout.readline())
    parent.send_signal(number)
    parent.communicate(timeout=60)
    assert parent.returncode in (128 + number, -number)
    for _ in range(100):
        if not is_running(child):
            return
        time.sleep(0.1)
    pytest.fail("the child goes on")


def test_the_exit_code_passes_through():
    before = signal.getsignal(signal.SIGTERM)
    assert run_to_the_end([sys.executable, "-c", "raise SystemExit(7)"], os.environ) == 7
    assert signal.getsignal(signal.SIGTERM) is before
