"""A run whose command is killed or hung up leaves no process at work, and can be started again at once."""

import os
import signal
import subprocess
import sys
import time

import psutil
import pytest
from command_line import OFFLINE, finish
from test_resume import DEADLINE, QUESTIONS, command, records

LONGEST_END = 5
"""Seconds."""


def answers(done):
    assert done.code == 0, done.output
    return {doc: row["filtered_resps"] for doc, row in done.samples("clips").items()}


@pytest.fixture(scope="module")
def expected(checkpoint, tmp_path_factory):
    found = answers(finish(command(checkpoint, 1), tmp_path_factory.mktemp("whole")))
    assert len(found) == QUESTIONS
    return found


def end_the_parent(arguments, folder, number, *, group=False):
    """Starts the command and sends it the signal once some answers are there. Returns the processes it had started.

    group: sends it to the whole process group, as a terminal does.
    """
    environment = {**os.environ, **OFFLINE, "HF_HOME": str(folder / "hf"), "OMP_NUM_THREADS": "1"}
    with (folder / "output").open("w") as output:
        parent = subprocess.Popen(
            [sys.executable, "-m", *arguments],
            cwd=folder,
            env=environment,
            stdout=output,
            stderr=output,
            start_new_session=group,
            preexec_fn=handle_signals,
        )
        started = time.monotonic()
        while len(records(folder)) < 2:
            assert parent.poll() is None, (folder / "output").read_text()
            assert time.monotonic() - started < DEADLINE
            time.sleep(0.02)
        offspring = psutil.Process(parent.pid).children(recursive=True)
        if group:
            os.killpg(parent.pid, number)
        else:
            parent.send_signal(number)
        assert parent.wait(DEADLINE) != 0
    return offspring


def handle_signals():
    """As in a terminal: tests under nohup or in the background ignore them."""
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)


def at_work(process):
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="signals of POSIX")
@pytest.mark.parametrize(
    ("name", "processes"),
    [
        ("SIGKILL", 1),
        pytest.param("SIGKILL", 2, marks=pytest.mark.slow),
        pytest.param("SIGHUP", 1, marks=pytest.mark.slow),
        pytest.param("SIGHUP", 2, marks=pytest.mark.slow),
    ],
)
def test_no_process_outlives_its_command(name, processes, checkpoint, expected, start, tmp_path):
    arguments = command(checkpoint, processes)
    offspring = end_the_parent(arguments, tmp_path, getattr(signal, name))
    ended = time.monotonic()
    assert len(offspring) >= processes
    again = start(arguments, folder=tmp_path)
    try:
        while left := [process for process in offspring if at_work(process)]:
            assert time.monotonic() - ended < LONGEST_END, (left, (tmp_path / "output").read_text())
            time.sleep(0.05)
        if name == "SIGKILL":
            assert "which started this one, is gone" in (tmp_path / "output").read_text()
        assert len(records(tmp_path)) < QUESTIONS, "the processes had ended by themselves"
        assert answers(again.result(DEADLINE)) == expected
        assert len(records(tmp_path)) == QUESTIONS
    finally:
        for process in filter(at_work, offspring):
            process.kill()
        again.exception(DEADLINE)


@pytest.mark.parametrize("processes", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_an_interrupt_is_one_line(processes, checkpoint, tmp_path):
    offspring = end_the_parent(command(checkpoint, processes), tmp_path, signal.SIGINT, group=True)
    ended = time.monotonic()
    while left := [process for process in offspring if at_work(process)]:
        assert time.monotonic() - ended < LONGEST_END, left
        time.sleep(0.05)
    output = (tmp_path / "output").read_text()
    assert "Traceback" not in output
    assert "SignalException" not in output
    _, _, last = output.rpartition("question/s]")  # where the bar had come to
    assert last.strip() == "st-simdiff: stopped; the same command goes on from the answers that are there."
