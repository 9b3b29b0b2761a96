"""Videos are prepared in threads of their own while the model works: decoders and Pillow let go of Python's lock."""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Protocol

from st_simdiff.answering.preparing import Prepared
from st_simdiff.videos.errors import VideoError

logger = logging.getLogger(__name__)

_LOOK_AGAIN = 0.2
"""Seconds between two looks at a video that another process is at."""


class Prepare(Protocol):
    def __call__(self, path: str) -> Prepared: ...


class DecodeAhead:
    """Goes through `paths`, each once and in their order, with the next `ahead` of them being prepared.

    At most `ahead` videos are prepared or being prepared besides the one whose turn it is. A video that another process
    is at is put off until one more has had its turn. Nothing is prepared where `ahead` is 0.
    """

    def __init__(self, prepare: Prepare, paths: Iterable[str | None], ahead: int) -> None:
        paths = dict.fromkeys(paths)
        self._without_video = None in paths
        self._prepare, self._ahead = prepare, ahead
        self._paths = deque(path for path in paths if path is not None)
        self._running: dict[str, Future[Prepared]] = {}
        self._put_off: deque[str] = deque()
        self._turn: tuple[str, Future[Prepared], float] | None = None
        self._threads = ThreadPoolExecutor(ahead, thread_name_prefix="video") if ahead else None

    def __iter__(self) -> Iterator[str | None]:
        """The paths, each when it is prepared or has failed; None, for questions without a video, first."""
        if self._without_video:
            yield None
        if self._threads is None:
            yield from self._paths
            return
        while self._fill():
            path = next(iter(self._running))
            asked = time.perf_counter()
            future = self._running.pop(path)
            if _is_busy(future):
                self._put_off.append(path)
                if self._running or self._paths:
                    continue
                path, future = self._wait_for(self._put_off.popleft())
            self._turn = path, future, time.perf_counter() - asked
            self._fill()
            yield path
            self._end_turn()
            self._paths.extendleft(reversed(self._put_off))
            self._put_off.clear()

    def __contains__(self, path: str) -> bool:
        """Whether it is the turn of `path`, and it has not been taken yet."""
        return self._turn is not None and self._turn[0] == path

    def waited(self, path: str) -> float:
        """Seconds until `path` was prepared that nothing else was done in; 0 where it is not its turn."""
        return self._turn[2] if path in self else 0.0

    def take(self, path: str) -> Prepared | None:
        """What was prepared. None if the thread failed for a reason of its own, and it is to be tried again.

        Raises `st_simdiff.videos.VideoError` or FileNotFoundError for a video that cannot be read.
        """
        _, future, _ = self._turn
        self._turn = None
        error = future.exception()
        if error is None:
            return future.result()
        if isinstance(error, (VideoError, FileNotFoundError)):
            raise error
        logger.warning("%s could not be prepared ahead (%r): it is read in its turn.", path, error)
        return None

    def close(self) -> None:
        """Lets go of all that was prepared. What is being decoded now is decoded to its end, but not waited for."""
        self._end_turn()
        self._paths.clear()
        if self._threads is not None:
            self._threads.shutdown(wait=False, cancel_futures=True)
        for future in self._running.values():
            future.add_done_callback(_release)
        self._running.clear()

    def _fill(self) -> bool:
        """Keeps the threads at work. Whether there is something to come."""
        while self._paths and len(self._running) < self._ahead:
            path = self._paths.popleft()
            self._running[path] = self._threads.submit(self._prepare, path)
        return bool(self._running)

    def _wait_for(self, path: str) -> tuple[str, Future[Prepared]]:
        """All that is left is with other processes: waits for the first of them, and claims nothing meanwhile."""
        while True:
            future = self._threads.submit(self._prepare, path)
            if not _is_busy(future):
                return path, future
            time.sleep(_LOOK_AGAIN)

    def _end_turn(self) -> None:
        if self._turn is not None:
            self._turn[1].add_done_callback(_release)
            self._turn = None


def _is_busy(future: Future[Prepared]) -> bool:
    """Waits for the outcome."""
    return future.exception() is None and future.result().busy


def _release(future: Future[Prepared]) -> None:
    if not future.cancelled() and future.exception() is None:
        future.result().release()
