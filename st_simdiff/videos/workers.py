"""Processes that read videos, so that a file that makes a decoder crash or hang costs that video and nothing else."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import weakref
from collections import deque
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path

from st_simdiff.errors import InputError
from st_simdiff.videos.channel import attach, receive, send
from st_simdiff.videos.decoders import read_here
from st_simdiff.videos.errors import VideoError
from st_simdiff.videos.record import ReadRecord, SampledVideo
from st_simdiff.videos.sampling import Sampling
from st_simdiff.videos.settings import ReadSettings

_PROGRAM = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[2]); "
    "from st_simdiff.videos.worker import main; main(int(sys.argv[1]))"
)

_GRACE = 10
"""Seconds that a process gets, beyond a video's time limit, to end by itself."""

IS_POSSIBLE = hasattr(socket, "send_fds") and hasattr(signal, "setitimer")
"""Whether this system can hand memory from one process to another; elsewhere videos are read in this process."""


class VideoWorkers:
    """Reads videos in processes of their own, one for each thread that asks at the same time.

    They are started when they are needed, go on to the next video, and are replaced when a video has ended one. All of
    them end with `close`, and with this process, whichever way it ends.
    """

    def __init__(self) -> None:
        self._idle: deque[_Worker] = deque()
        self._finalizer = weakref.finalize(self, _end_all, self._idle)

    def read(self, path: str | Path, sampling: Sampling, settings: ReadSettings) -> SampledVideo:
        """As `read_here`. A crash or the time limit is a `VideoError` too, which names the signal."""
        if not IS_POSSIBLE:
            return read_here(path, sampling, settings)
        try:
            worker = self._idle.pop()
        except IndexError:
            worker = _Worker()
        try:
            video = worker.read(path, sampling, settings)
        except (VideoError, InputError):
            self._keep(worker)
            raise
        except BaseException:
            worker.end()
            raise
        self._keep(worker)
        return video

    def close(self) -> None:
        """Ends the processes that are not reading; later readings start new ones."""
        _end_all(self._idle)

    def _keep(self, worker: _Worker) -> None:
        if worker.is_alive:
            self._idle.append(worker)


class _Worker:
    def __init__(self) -> None:
        self.connection, theirs = socket.socketpair()
        with theirs:
            self.process = subprocess.Popen(
                [sys.executable, "-c", _PROGRAM, str(theirs.fileno()), json.dumps(sys.path)],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
            )

    @property
    def is_alive(self) -> bool:
        return self.process.poll() is None

    def read(self, path: str | Path, sampling: Sampling, settings: ReadSettings) -> SampledVideo:
        self.connection.settimeout(settings.video_time_limit + _GRACE)
        try:
            send(self.connection, {"path": os.fspath(path), "settings": asdict(settings)})
            while True:
                message, file = receive(self.connection)
                if "choose" not in message:
                    return _result(path, message, file)
                numbers, times = self._choose(sampling, *message["choose"])
                send(self.connection, {"numbers": [int(number) for number in numbers], "times": times})
        except (EOFError, OSError) as error:  # OSError: it ended while it was sent something, or does not answer
            raise VideoError(f"{path}: {self._what_happened(settings)}.") from error

    def _choose(self, sampling: Sampling, total: int, rate: float) -> tuple[list[int], list[float]]:
        try:
            return sampling(total, rate)
        except BaseException:
            send(self.connection, {})
            raise

    def _what_happened(self, settings: ReadSettings) -> str:
        """Why the process gives no answer. It has ended afterwards."""
        took_too_long = f"reading the video took more than {settings.video_time_limit:g} seconds, and was stopped"
        try:
            code = self.process.wait(1)
        except subprocess.TimeoutExpired:
            self.end()
            return took_too_long
        self.end()
        if code >= 0:
            return f"the process that read the video ended with exit status {code}"
        name = signal.Signals(-code).name
        if name == "SIGALRM":
            return f"{took_too_long} ({name})"
        hint = ", as the system does when memory runs out" if name == "SIGKILL" else ""
        return f"the decoder crashed on this video: its process was ended by {name}{hint}"

    def end(self) -> None:
        self.connection.close()
        with suppress(OSError):
            self.process.kill()
        self.process.wait()


def _result(path: str | Path, message: dict, file: int | None) -> SampledVideo:
    if "error" in message:
        raise (InputError if message["kind"] == "InputError" else VideoError)(message["error"])
    if file is None:
        raise VideoError(f"{path}: the pictures of the video did not arrive.")
    try:
        frames = attach(file, tuple(message["shape"]))
    finally:
        os.close(file)
    record = {name: tuple(value) if isinstance(value, list) else value for name, value in message["record"].items()}
    return SampledVideo(frames, message["times"], message["duration"], ReadRecord(**record))


def _end_all(workers: deque[_Worker]) -> None:
    while workers:
        workers.pop().end()
