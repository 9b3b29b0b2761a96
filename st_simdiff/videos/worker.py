"""The process that reads videos for another one: what a file does to a decoder, it does to this process alone."""

from __future__ import annotations

import os
import resource
import signal
import socket
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict

from st_simdiff.errors import InputError
from st_simdiff.videos.channel import SharedArray, receive, send
from st_simdiff.videos.decoders import read_here, unexpected
from st_simdiff.videos.errors import VideoError
from st_simdiff.videos.pictures import MAX_BYTES
from st_simdiff.videos.settings import ReadSettings

_MEMORY = MAX_BYTES + 8 * 2**30
"""Bytes of address space: the pictures, and what decoding takes."""


class _Abandoned(BaseException):
    """The other process wants no frames of this video after all. No error of reading, so not an Exception."""


def serve(connection: socket.socket) -> None:
    """Reads one video after the other, until the other side closes the connection.

    A video that takes longer than its time limit ends the process by SIGALRM, which no decoder can hold up.
    """
    with suppress(ValueError, OSError):  # a lower limit may be in force
        resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, resource.getrlimit(resource.RLIMIT_AS)[1]))
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the other process, which then closes the connection
    with suppress(EOFError, ConnectionError):
        while True:
            request, _ = receive(connection)
            settings = ReadSettings(**request["settings"])
            signal.setitimer(signal.ITIMER_REAL, settings.video_time_limit)
            with suppress(_Abandoned):
                _answer(connection, request["path"], settings)
            signal.setitimer(signal.ITIMER_REAL, 0)


def _answer(connection: socket.socket, path: str, settings: ReadSettings) -> None:
    def sampling(total: int, rate: float) -> tuple[list[int], list[float]]:
        send(connection, {"choose": [total, rate]})
        answer, _ = receive(connection)
        if "numbers" not in answer:
            raise _Abandoned
        return answer["numbers"], answer["times"]

    shared: list[SharedArray] = []

    def allocate(shape: Sequence[int]) -> object:
        for earlier in shared:
            earlier.close()
        shared[:] = [SharedArray(tuple(shape))]
        return shared[0].array

    try:
        video = read_here(path, sampling, settings, allocate)
    except _Abandoned:
        raise
    except (VideoError, InputError) as error:
        send(connection, {"error": str(error), "kind": type(error).__name__})
    except Exception as error:  # such as no memory left where the pictures are put
        send(connection, {"error": str(unexpected(path, error)), "kind": VideoError.__name__})
    else:
        message = {"shape": video.frames.shape, "times": video.times, "duration": video.duration}
        send(connection, message | {"record": asdict(video.record)}, shared[0].file)
    finally:
        for array in shared:
            array.close()


def main(file: int) -> None:
    """file: descriptor of a connected socket."""
    null = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(null, stream)
    serve(socket.socket(fileno=file))
