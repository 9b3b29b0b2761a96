"""What lmms-eval's wrappers are given of a video: the frames that they choose themselves, read as everywhere else.

A wrapper reads videos in its own process, and a file that it cannot read ends the run there. Here it is given a black
video in place of one that cannot be read, and what the model says of it is thrown away.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import torch
from lmms_eval.api.instance import Instance

from st_simdiff.videos.containers import check_file
from st_simdiff.videos.errors import VideoError
from st_simdiff.videos.frames import read_frames
from st_simdiff.videos.record import ReadRecord, SampledVideo
from st_simdiff.videos.sampling import frame_indices
from st_simdiff.videos.settings import ReadSettings
from st_simdiff.videos.workers import VideoWorkers

_BLACK = (2, 64, 64, 3)
"""The shape of what stands for a video that cannot be read."""


class WrapperVideos:
    """Reads videos for a wrapper.

    reasons: by video, why it cannot be read. records: how videos were read since `records` was emptied last.
    """

    def __init__(self, settings: ReadSettings) -> None:
        self.settings = settings
        self.reasons: dict[str, str] = {}
        self.records: dict[str, ReadRecord] = {}
        self._workers = VideoWorkers()

    def reason(self, video: str) -> str:
        """Why `video` cannot be read, as far as it is known without decoding it; empty if nothing is."""
        if video not in self.reasons:
            try:
                check_file(video)
            except VideoError as error:
                self.reasons[video] = str(error)
        return self.reasons.get(video, "")

    def evenly(self, video: str, count: int) -> np.ndarray:
        """`count` frames from the first to the last, uint8 (count, H, W, 3)."""
        black = np.zeros((count, *_BLACK[1:]), dtype=np.uint8)
        try:
            sampled = read_frames(
                video, partial(frame_indices, max_frames=count, force_sample=True), self.settings, self._workers
            )
        except VideoError as error:
            self.reasons[video] = str(error)
            return black
        return self._noted(video, sampled).frames

    def for_qwen(self, element: Mapping[str, Any]) -> tuple[torch.Tensor, dict[str, Any], float]:
        """A backend of qwen_vl_utils: frames uint8 (T, 3, H, W), their metadata, and the frames taken a second.

        element: `video`, and what says which frames are taken (`nframes`, or `fps`; `video_start`, `video_end`). Where
        a video has fewer frames than that, all of them are taken, an even number and at least two.
        """
        video = element["video"].removeprefix("file://")
        chosen: dict[str, Any] = {}

        def sampling(total: int, rate: float) -> tuple[list[int], list[float]]:
            chosen.update(_qwen_frames(element, total, rate))
            return chosen["frames_indices"], [index / rate for index in chosen["frames_indices"]]

        try:
            frames = self._noted(video, read_frames(video, sampling, self.settings, self._workers)).frames
        except VideoError as error:
            self.reasons[video] = str(error)
            frames = np.zeros(_BLACK, dtype=np.uint8)
            chosen = {"fps": 1.0, "frames_indices": [0, 1], "total_num_frames": 2}
        taken, total = len(frames), max(chosen["total_num_frames"], 1e-6)
        metadata = {**chosen, "video_backend": "st_simdiff"}
        return torch.from_numpy(frames).permute(0, 3, 1, 2), metadata, taken / total * chosen["fps"]

    @contextmanager
    def given_to(self, wrapper: type) -> Iterator[None]:
        """Inside the block a wrapper that decodes with qwen_vl_utils, or asks decord for a video's length, is given
        what is read here. wrapper: a subclass of one of lmms-eval's."""
        self.records.clear()
        replaced: list[tuple[dict[str, Any], str, Any]] = []
        try:
            for names, key, stand_in in self._stand_ins(wrapper):
                replaced.append((names, key, names[key]))
                names[key] = stand_in
            yield
        finally:
            for names, key, before in reversed(replaced):
                names[key] = before

    def _stand_ins(self, wrapper: type) -> Iterator[tuple[dict[str, Any], str, Any]]:
        modules = {base.__module__ for base in wrapper.__mro__ if base.__module__.startswith("lmms_eval.models.")}
        for name in sorted(modules):
            module: ModuleType = sys.modules[name]
            if "decord" in vars(module):
                yield vars(module), "decord", SimpleNamespace(VideoReader=_LongVideo)
        process = sys.modules.get("qwen_vl_utils.vision_process")
        for key in list(process.VIDEO_READER_BACKENDS) if process is not None else ():
            yield process.VIDEO_READER_BACKENDS, key, self.for_qwen

    def _noted(self, video: str, sampled: SampledVideo) -> SampledVideo:
        self.records[video] = sampled.record
        return sampled


class _LongVideo:
    """What a wrapper that caps the number of frames at a video's length is told: the reading caps it, and knows better.

    The first frame, which a wrapper asks for and does not use, is a black pixel.
    """

    def __init__(self, video: str) -> None:
        del video

    def __len__(self) -> int:
        return 2**31

    def __getitem__(self, index: int) -> SimpleNamespace:
        return SimpleNamespace(asnumpy=lambda: np.zeros((1, 1, 3), dtype=np.uint8))


def _qwen_frames(element: Mapping[str, Any], total: int, rate: float) -> dict[str, Any]:
    """The frames that qwen_vl_utils would take, as its metadata."""
    from qwen_vl_utils.vision_process import FRAME_FACTOR, calculate_video_frame_range, smart_nframes

    first, last, count = calculate_video_frame_range(element, total, rate)
    try:
        taken = smart_nframes(dict(element), total_frames=count, video_fps=rate)
    except ValueError:  # more than there are
        taken = max(FRAME_FACTOR, count // FRAME_FACTOR * FRAME_FACTOR)
    indices = torch.linspace(first, last, taken).round().long().tolist()
    return {"fps": rate, "frames_indices": indices, "total_num_frames": count}


def videos_of(request: Instance, documents: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    """The video files of a request for text. documents: by task and split, as lmms-eval gives them to a model."""
    *_, doc_id, task, split = request.args
    for argument in request.args[1:3]:
        if callable(argument):  # doc_to_visual, or doc_to_messages
            for visual in argument(documents[task][split][doc_id]) or ():
                if isinstance(visual, str):
                    yield visual
                elif isinstance(visual, Mapping) and isinstance(visual.get("content"), list):
                    yield from (part["url"] for part in visual["content"] if _is_video_file(part))


def _is_video_file(part: Any) -> bool:
    return isinstance(part, Mapping) and part.get("type") == "video" and isinstance(part.get("url"), str)
