"""Each video goes through the vision tower once, however many questions there are about it."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch

from st_simdiff.answering.decode_ahead import DecodeAhead
from st_simdiff.answering.plain import moved
from st_simdiff.answering.preparing import Features, FileIdentity, Prepared, Preparer, chooses, identify
from st_simdiff.checkpoints.llava_video.modeling import EncodedVideo, LlavaVideo
from st_simdiff.methods.base import Method
from st_simdiff.models.clock import StageClock
from st_simdiff.models.families.llava_video import encode_video
from st_simdiff.models.prefix import ChoosesOnce, Prefix
from st_simdiff.videos.reading import Pixels
from st_simdiff.videos.video_cache import Claim
from st_simdiff.vocabulary import Counts


@dataclass
class Seen:
    """A video that the vision tower has seen, and what questions about it have left behind.

    features: on the model's device. method: chooses among the video's tokens once. key: of the features in the cache;
    features_stored, choice_stored: whether they are there. prefix: the last prompt's.
    """

    identity: FileIdentity | None
    features: Features
    method: ChoosesOnce
    key: str | None = None
    features_stored: bool = False
    choice_stored: bool = False
    prefix: Prefix | None = None

    @property
    def video(self) -> EncodedVideo:
        return self.features.video

    @property
    def times(self) -> tuple[float, ...]:
        return self.features.times

    @property
    def duration(self) -> float:
        return self.features.duration


@dataclass
class Viewer:
    """Sees one video at a time: what the last one has left is let go before the next one is taken up.

    ahead: how many videos are prepared while the model works on another. queued: seconds that were waited for the video
    seen last before `see` was called; the clock has them under "decode".
    """

    model: LlavaVideo
    prepare: Preparer
    device: str
    ahead: int = 0
    last: Seen | None = field(default=None, init=False)
    queued: float = field(default=0.0, init=False)
    _queue: DecodeAhead | None = field(default=None, init=False)
    _claim: Claim | None = field(default=None, init=False)

    @contextmanager
    def looking_ahead(self, paths: Iterable[str | None], method: Method) -> Iterator[Iterator[str | None]]:
        """Gives `paths` one by one, each when it is prepared; those that other processes are at come later.

        Questions about a path are to be asked before the next one is taken.
        """
        queue = DecodeAhead(lambda path: self.prepare(path, method), paths, self.ahead)
        self._queue = queue
        try:
            yield iter(queue)
        finally:
            self._queue = None
            queue.close()

    def see(self, path: str, method: Method, clock: StageClock) -> tuple[Seen, Counts]:
        """The video in the file `path` for prompts under `method`, and counts for the samples file.

        reused_features: 1 if the vision tower did not have to run. waited_ms: how long the model waited for the video.
        read_ms: what decoding and preprocessing took, whoever did it. reading: the decoder, the frames taken and their
        times, the frames that could not be decoded (see `st_simdiff.videos.ReadRecord`).
        Raises `st_simdiff.videos.VideoError` for a video that cannot be read. To be followed by `settle`.
        """
        self.queued = self._queue.waited(path) if self._queue is not None else 0.0
        clock.seconds["decode"] += self.queued
        identity = identify(path)
        last = self.last
        if (
            last is not None
            and identity is not None
            and identity == last.identity
            and method.vision_inputs <= last.features.noted
        ):
            if last.method.method != method:
                self.last = self._under(method, last.identity, last.features, last.key)
                self.last.features_stored = last.features_stored
            waited_ms = round(1e3 * self.queued, 3)
            return self.last, {"reused_features": 1, "waited_ms": waited_ms, "read_ms": 0.0, **_told(last.features)}
        self.last = last = None
        asked = time.perf_counter()
        prepared = self._take(path, method, clock)
        waited = self.queued + time.perf_counter() - asked
        self._claim = prepared.claim
        with clock.stage("preprocess"):
            features = moved(prepared.features, self.device)
        seconds = 0.0
        if features is None:
            features, seconds = self._encode(prepared.pixels, method, clock)
        self.last = self._under(method, prepared.identity, features, prepared.key)
        self.last.features_stored = prepared.features is not None
        return self.last, {
            "reused_features": int(prepared.features is not None),
            "waited_ms": round(1e3 * waited, 3),
            "read_ms": round(1e3 * seconds, 3),
            **_told(features),
        }

    def _encode(self, pixels: Pixels, method: Method, clock: StageClock) -> tuple[Features, float]:
        """The features of a video, part by part where it is read in parts, and the seconds that reading took."""
        times, record, seconds = pixels.times, pixels.record, pixels.seconds

        def values() -> Iterator[torch.Tensor]:
            nonlocal times, record, seconds
            parts = pixels.parts()
            while True:
                with clock.stage("decode"):
                    part = next(parts, None)
                if part is None:
                    return
                if part is not pixels:
                    times, record, seconds = times + part.times, record.followed_by(part.record), seconds + part.seconds
                with clock.stage("preprocess"):
                    there = part.values.to(self.device)
                yield there
                del part, there  # before the next part is read

        with clock.stage("projector"):
            video = encode_video(self.model, values(), method.vision_inputs, frames=pixels.frames)
        return Features(video, times, pixels.duration, method.vision_inputs, record.as_plain()), seconds

    def settle(self) -> None:
        """Stores what is new, and lets other processes read the video. After every question."""
        seen = self.last
        if seen is not None and seen.key is not None:
            method = seen.method.method
            if seen.method.choices and not seen.choice_stored and chooses(method):
                self.prepare.store_choice(seen.key, method, seen.method.choices[0])
                seen.choice_stored = True
            if not seen.features_stored:  # last, so that whoever finds the features finds the choice
                self.prepare.store_features(seen.key, seen.features)
                seen.features_stored = True
        if self._claim is not None:
            self._claim.release()
            self._claim = None

    def _take(self, path: str, method: Method, clock: StageClock) -> Prepared:
        queue = self._queue
        if queue is not None and path in queue:
            with clock.stage("decode"):
                prepared = queue.take(path)
            if prepared is not None and prepared.identity == identify(path):
                return prepared
            if prepared is not None:  # the file has changed since
                prepared.release()
        prepared = self.prepare(path, method, wait=queue is None or not self.ahead, stage=clock.stage)
        if prepared.busy:  # out of turn, and waiting while others wait for us would never end
            prepared = Prepared(prepared.identity, pixels=self.prepare.reader(path, clock.stage))
        return prepared

    def _under(self, method: Method, identity: FileIdentity | None, features: Features, key: str | None) -> Seen:
        choosing = ChoosesOnce(method)
        choices = self.prepare.stored_choice(key, method) if key is not None else []
        choosing.choices += [moved(choice, self.device) for choice in choices]
        return Seen(identity, features, choosing, key, choice_stored=bool(choices))


def _told(features: Features) -> Counts:
    return {"reading": dict(features.reading)} if features.reading else {}
