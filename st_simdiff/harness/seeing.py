"""Each video goes through the vision tower once, however many questions there are about it."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass, field
from typing import Any

from llava.modeling import EncodedVideo, LlavaVideo
from st_simdiff.harness.reading import FrameReader
from st_simdiff.methods.base import Method, VisionInput
from st_simdiff.models.clock import StageClock
from st_simdiff.models.families.llava_video import encode_video
from st_simdiff.models.prefix import ChoosesOnce, Prefix

FileIdentity = tuple[str, int, int, int]


@dataclass
class Seen:
    """A video that the vision tower has seen, and what questions about it have left behind.

    noted: what the tower recorded for methods. method: chooses among its tokens once. prefix: the last prompt's.
    """

    identity: FileIdentity | None
    video: EncodedVideo
    times: tuple[float, ...]
    duration: float
    noted: frozenset[VisionInput]
    method: ChoosesOnce
    prefix: Prefix | None = None

    def serves(self, identity: FileIdentity | None, method: Method) -> bool:
        return identity is not None and self.identity == identity and method.vision_inputs <= self.noted

    def under(self, method: Method) -> Seen:
        """The same features under another method."""
        if self.method.method == method:
            return self
        return Seen(
            self.identity, self.video, self.times, self.duration, self.noted, method=ChoosesOnce(method), prefix=None
        )


@dataclass
class Viewer:
    """Sees one video at a time: what the last one has left is let go before the next one is read."""

    model: LlavaVideo
    reader: FrameReader
    device: str
    last: Seen | None = field(default=None, init=False)

    def see(self, path: str, method: Method, clock: StageClock) -> tuple[Seen, dict[str, Any]]:
        """The video in the file `path` for prompts under `method`, and counts for the samples file.

        reused_features: 1 if the vision tower did not have to run. waited_ms: how long the model waited for frames.
        Raises `llava.video.VideoError` for a video that cannot be read.
        """
        identity = identify(path)
        if self.last is not None and self.last.serves(identity, method):
            self.last = self.last.under(method)
            return self.last, {"reused_features": 1, "waited_ms": 0.0}
        self.last = None
        asked = time.perf_counter()
        pixels = self.reader(path, clock.stage)
        waited = 1e3 * (time.perf_counter() - asked)
        with clock.stage("preprocess"):
            values = pixels.values.to(self.device)
        with clock.stage("projector"):
            video = encode_video(self.model, values, method.vision_inputs)
        self.last = Seen(identity, video, pixels.times, pixels.duration, method.vision_inputs, ChoosesOnce(method))
        return self.last, {"reused_features": 0, "waited_ms": round(waited, 3)}


def identify(path: str) -> FileIdentity | None:
    """What changes when a file does: name, size, time of its last change, inode. None where there is no file."""
    try:
        status = os.stat(path)
    except OSError:
        return None
    return os.path.abspath(path), status.st_size, status.st_mtime_ns, status.st_ino
