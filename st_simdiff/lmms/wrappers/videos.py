"""What lmms-eval's wrappers are given of a video: the frames that they choose themselves, read as everywhere else.

A wrapper reads videos in its own process, and a file that it cannot read ends the run there. Here it is given a black
video in place of one that cannot be read, and what the model says of it is thrown away.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import torch
from transformers.video_utils import VideoMetadata

from st_simdiff.lmms.refusal import nothing_swallowed
from st_simdiff.lmms.wrappers.requests import LinkedVideos
from st_simdiff.videos.containers import check_file
from st_simdiff.videos.errors import VideoError
from st_simdiff.videos.frames import read_frames
from st_simdiff.videos.record import ReadRecord, SampledVideo
from st_simdiff.videos.sampling import frame_indices
from st_simdiff.videos.settings import ReadSettings
from st_simdiff.videos.workers import VideoWorkers

_BLACK = (2, 64, 64, 3)
"""The shape of what stands for a video that cannot be read."""
_BACKEND = "st_simdiff"
"""What metadata call the decoder."""
_LLAVA_HF = "lmms_eval.models.simple.llava_hf"
_QWEN_UTILITIES = ("qwen_vl_utils", "qwen_omni_utils.v2_5")
_ABSENT = object()


class WrapperVideos:
    """Reads videos for a wrapper. model: the name of the harness model, for errors that a wrapper would swallow.

    reasons: by video, why it cannot be read. records: how videos were read since `records` was emptied last. links:
    under which names the wrapper gets them.
    """

    def __init__(self, settings: ReadSettings, model: str) -> None:
        self.settings, self.model = settings, model
        self.reasons: dict[str, str] = {}
        self.records: dict[str, ReadRecord] = {}
        self.links = LinkedVideos()
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
        video = self.links.video(video)
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
        video = self.links.video(element["video"].removeprefix("file://"))
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
        metadata = {**chosen, "video_backend": _BACKEND}
        return torch.from_numpy(frames).permute(0, 3, 1, 2), metadata, taken / total * chosen["fps"]

    def for_llava(self, video_path: str | Sequence[str], max_frames_num: int) -> np.ndarray:
        """A wrapper's own `load_video`: frames from the first to the last, uint8 (max_frames_num, H, W, 3)."""
        with nothing_swallowed(self.model):
            return self.evenly(video_path if isinstance(video_path, str) else video_path[0], max_frames_num)

    def for_transformers(
        self, videos: str | list[str], sample_indices_fn: Callable[..., Iterable[int]] | None = None
    ) -> Any:
        """A video processor's `fetch_videos`: frames uint8 (T, H, W, 3) and `VideoMetadata`, or lists of both.

        sample_indices_fn: the numbers of the frames to take, from the metadata; all of them where it is None, or where
        it asks for more than there are.
        """
        if not isinstance(videos, str):
            return list(zip(*(self.for_transformers(video, sample_indices_fn) for video in videos), strict=True))
        video = self.links.video(videos)
        metadata = VideoMetadata(total_num_frames=0, video_backend=_BACKEND)

        def sampling(total: int, rate: float) -> tuple[list[int], list[float]]:
            metadata.update({"total_num_frames": total, "fps": rate, "duration": total / rate})
            try:
                chosen = range(total) if sample_indices_fn is None else sample_indices_fn(metadata=metadata)
                metadata.frames_indices = [int(index) for index in chosen]
            except ValueError:  # more than there are
                metadata.frames_indices = list(range(total))
            return metadata.frames_indices, metadata.timestamps

        try:
            frames = self._noted(video, read_frames(video, sampling, self.settings, self._workers)).frames
        except VideoError as error:
            self.reasons[video] = str(error)
            black = np.zeros(_BLACK, dtype=np.uint8)
            return black, VideoMetadata(total_num_frames=len(black), fps=1.0, frames_indices=list(range(len(black))))
        metadata.update({"height": frames.shape[1], "width": frames.shape[2]})
        return frames, metadata

    @contextmanager
    def given_to(self, wrapper: Any) -> Iterator[None]:
        """Inside the block `wrapper`, one of lmms-eval's, is given what is read here: through its own `load_video`, its
        processor or qwen_vl_utils, and where it asks decord for a video's length."""
        self.records.clear()
        replaced: list[tuple[dict[str, Any], str, Any]] = []
        try:
            for names, key, stand_in in self._stand_ins(wrapper):
                replaced.append((names, key, names.get(key, _ABSENT)))
                names[key] = stand_in
            yield
        finally:
            for names, key, before in reversed(replaced):
                names[key] = before
                if before is _ABSENT:
                    del names[key]

    def _stand_ins(self, wrapper: Any) -> Iterator[tuple[dict[str, Any], str, Any]]:
        kinds = type(wrapper).__mro__
        for name in sorted({kind.__module__ for kind in kinds if kind.__module__.startswith("lmms_eval.models.")}):
            module: ModuleType = sys.modules[name]
            if "decord" in vars(module):
                yield vars(module), "decord", SimpleNamespace(VideoReader=_LongVideo)
        if getattr(getattr(wrapper, "load_video", None), "__module__", "") == _LLAVA_HF:
            yield vars(wrapper), "load_video", self.for_llava
        if hasattr(wrapper, "_check_if_video_has_audio"):
            yield vars(wrapper), "_check_if_video_has_audio", partial(_has_sound, wrapper._check_if_video_has_audio)
        processor = getattr(getattr(wrapper, "processor", None), "video_processor", None)
        if processor is not None:
            yield vars(processor), "fetch_videos", self.for_transformers
        for name in _QWEN_UTILITIES:
            process = sys.modules.get(f"{name}.vision_process")
            for key in list(process.VIDEO_READER_BACKENDS) if process is not None else ():
                yield process.VIDEO_READER_BACKENDS, key, self.for_qwen

    def _noted(self, video: str, sampled: SampledVideo) -> SampledVideo:
        self.records[video] = sampled.record
        return sampled


def _has_sound(asked: Callable[[str], bool], video: str) -> bool:
    """What a wrapper finds out about a video; False for one that cannot be read, whose question is not asked."""
    try:
        return asked(video)
    except OSError:
        return False


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
