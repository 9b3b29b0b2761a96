"""What can be had of a video without the model: its features where they are stored, its pixels where they are not."""

from __future__ import annotations

import logging
import os
import stat
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from st_simdiff.answering.plain import from_plain, to_plain
from st_simdiff.checkpoints.llava_video.modeling import EncodedVideo
from st_simdiff.files import digest_of_file
from st_simdiff.methods.base import Method, Reduction, VisionInput
from st_simdiff.models.vision import FrameRecord
from st_simdiff.videos.reading import FrameReader, Pixels, Stage
from st_simdiff.videos.video_cache import Claim, Entry, VideoCache, key_of

logger = logging.getLogger(__name__)

FileIdentity = tuple[str, int, int, int, int]


@dataclass(frozen=True)
class Features:
    """What the vision tower made of a video. noted: what it was asked to record for methods. reading: how the video was
    read, as JSON."""

    video: EncodedVideo
    times: tuple[float, ...]
    duration: float
    noted: frozenset[VisionInput]
    reading: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Prepared:
    """A video on the CPU: its features, or else its pixels.

    identity: of the file; None if it changed while it was read. key: of its features in the cache, None where nothing
    is to be stored. claim: on computing what is not stored yet. busy: another process is at it, and there is nothing.
    """

    identity: FileIdentity | None
    features: Features | None = None
    pixels: Pixels | None = None
    key: str | None = None
    claim: Claim | None = None
    busy: bool = False

    def release(self) -> None:
        """Lets other processes at the video."""
        if self.claim is not None:
            self.claim.release()


@dataclass(frozen=True)
class Preparer:
    """Prepares videos, in any thread. protocol: all that determines the features of a file but its content."""

    reader: FrameReader
    cache: VideoCache | None
    protocol: Mapping[str, Any]

    def __call__(
        self, path: str, method: Method, *, wait: bool = False, stage: Stage = lambda _: nullcontext()
    ) -> Prepared:
        """The video in the file `path`, for `method`.

        wait: for another process that is at its features or the method's choice, rather than say that it is busy.
        Raises `st_simdiff.videos.VideoError` for a video that cannot be read.
        """
        identity = identify(path)
        if self.cache is None or identity is None:
            return self._checked(path, Prepared(identity, pixels=self.reader(path, stage)))
        with stage("decode"):
            try:
                content = _digest(identity)
            except OSError:  # the reader says what is wrong with it
                return self._checked(path, Prepared(None, pixels=self.reader(path, stage)))
            inputs = method.vision_inputs
            key = key_of({**self.protocol, "content": content, "inputs": sorted(inputs)})
            if not chooses(method) or _choice_key(key, method) in self.cache:
                features = self._stored(key, inputs)
                if features is not None:
                    return self._checked(path, Prepared(identity, features, key=key))
            claim = self.cache.claim(key, wait=wait)
            if claim is None:
                return Prepared(identity, busy=True)
        try:
            features = self._stored(key, inputs)  # another process may have been faster
            pixels = self.reader(path, stage) if features is None else None
            return self._checked(path, Prepared(identity, features, pixels, key, claim))
        except BaseException:
            claim.release()
            raise

    def store_features(self, key: str, features: Features) -> None:
        """Puts the features of a video where other processes and later runs find them."""
        record = features.video.noted
        tensors = {"tokens": features.video.tokens}
        if isinstance(record, FrameRecord):
            named = {"attention": record.attention, "keys": record.keys}
            tensors |= {name: tensor for name, tensor in named.items() if tensor is not None}
        notes = {"times": features.times, "duration": features.duration, "reading": dict(features.reading)}
        self.cache.store(key, Entry(tensors, notes))

    def stored_choice(self, key: str, method: Method) -> list[Reduction | None]:
        """What `method` chose at the decoder's input from the features `key`, in a list; an empty one if not known."""
        wanted = self.cache is not None and chooses(method)
        entry = self.cache.load(_choice_key(key, method)) if wanted else None
        if entry is None:
            return []
        try:
            return [from_plain(entry.notes, entry.tensors)]
        except (ValueError, KeyError, TypeError, AttributeError, ImportError) as error:
            logger.warning("The stored choice of %s cannot be read (%r): it is made anew.", method.name, error)
            return []

    def store_choice(self, key: str, method: Method, choice: Reduction | None) -> None:
        """Puts what `method` chose beside the features `key`."""
        tensors: dict[str, Any] = {}
        try:
            notes = to_plain(choice, tensors)
        except TypeError as error:
            logger.info("The choice of %s is not stored: %s.", method.name, error)
            return
        self.cache.store(_choice_key(key, method), Entry(tensors, notes))

    def _stored(self, key: str, inputs: frozenset[VisionInput]) -> Features | None:
        entry = self.cache.load(key)
        if entry is None:
            return None
        record = FrameRecord(entry.tensors.get("attention"), entry.tensors.get("keys")) if inputs else None
        video = EncodedVideo(entry.tensors["tokens"], record)
        notes = entry.notes
        return Features(video, tuple(notes["times"]), notes["duration"], inputs, notes.get("reading", {}))

    def _checked(self, path: str, prepared: Prepared) -> Prepared:
        """`prepared`, or the same without a name if the file has changed while it was being read."""
        if prepared.identity is not None and identify(path) == prepared.identity:
            return prepared
        if prepared.features is not None:  # of the earlier content
            prepared.release()
            return Prepared(None, pixels=self.reader(path))
        return Prepared(None, pixels=prepared.pixels, claim=prepared.claim)


def identify(path: str) -> FileIdentity | None:
    """What changes when a file does: size, times of its last changes, inode. None where there is no regular file."""
    try:
        status = os.stat(path)
    except (OSError, ValueError):
        return None
    if not stat.S_ISREG(status.st_mode):
        return None
    return os.path.abspath(path), status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino


@lru_cache(maxsize=64)
def _digest(identity: FileIdentity) -> str:
    """Of the file's bytes; once for a video that is looked at again because another process was at it."""
    return digest_of_file(identity[0])


def chooses(method: Method) -> bool:
    """Whether `method` acts at the decoder's input."""
    return type(method).reduce_input is not Method.reduce_input


def _choice_key(key: str, method: Method) -> str:
    return key_of({"features": key, "method": repr(method), "kind": type(method).__qualname__})
