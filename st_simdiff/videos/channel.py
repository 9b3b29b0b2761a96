"""Messages between the process that wants a video and the one that reads it: JSON, and pictures as shared memory."""

from __future__ import annotations

import json
import mmap
import os
import socket
import struct
import tempfile
from typing import Any

import numpy as np

_LENGTH = struct.Struct("!I")


def send(connection: socket.socket, message: dict[str, Any], file: int | None = None) -> None:
    """Sends `message`, and a file descriptor with it."""
    data = json.dumps(message).encode()
    socket.send_fds(connection, [_LENGTH.pack(len(data))], [] if file is None else [file])
    connection.sendall(data)


def receive(connection: socket.socket) -> tuple[dict[str, Any], int | None]:
    """The next message, and the file descriptor that came with it. Raises EOFError when the other side has closed."""
    head, files, _, _ = socket.recv_fds(connection, _LENGTH.size, 1)
    file = files[0] if files else None
    try:
        head += _receive_bytes(connection, _LENGTH.size - len(head))
        (length,) = _LENGTH.unpack(head)
        return json.loads(_receive_bytes(connection, length)), file
    except BaseException:
        if file is not None:
            os.close(file)
        raise


def _receive_bytes(connection: socket.socket, count: int) -> bytes:
    data = bytearray()
    while len(data) < count:
        part = connection.recv(count - len(data))
        if not part:
            raise EOFError
        data += part
    return bytes(data)


class SharedArray:
    """An array that another process can be given: memory without a name, which ends with its last user."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        size = int(np.prod(shape))
        if hasattr(os, "memfd_create"):
            self.file = os.memfd_create("frames")
        else:
            with tempfile.TemporaryFile() as unnamed:
                self.file = os.dup(unnamed.fileno())
        os.ftruncate(self.file, size)
        self.array = attach(self.file, shape)

    def close(self) -> None:
        os.close(self.file)


def attach(file: int, shape: tuple[int, ...]) -> np.ndarray:
    """The array of uint8 in the memory behind the file descriptor `file`, which may be closed afterwards."""
    memory = mmap.mmap(file, int(np.prod(shape)))
    return np.frombuffer(memory, np.uint8).reshape(shape)
