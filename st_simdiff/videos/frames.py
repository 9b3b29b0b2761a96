"""Frames of a video file, sampled as LLaVA-Video was evaluated."""

from __future__ import annotations

import importlib.util
import math
from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import numpy as np

from st_simdiff.errors import unknown

Backend = Literal["auto", "decord", "pyav"]
Sampling = Callable[[int, float], tuple[list[int], list[float]]]


_WORTH_A_JUMP = 64
"""Frames that are decoded rather than jumped over, since a jump empties the decoder."""


class VideoError(ValueError):
    """A video that cannot be read. The message is one sentence that names the file."""


@dataclass(frozen=True)
class SampledVideo:
    """frames: uint8 RGB (T, H, W, 3). times: where each lies, seconds. duration: of the whole video, seconds."""

    frames: np.ndarray
    times: list[float]
    duration: float


def sample_frames(
    path: str | Path,
    max_frames: int,
    fps: float = 1,
    force_sample: bool = False,
    backend: Backend = "auto",
) -> SampledVideo:
    """Decode the frames that `frame_indices` chooses from the video file `path`.

    backend: "auto" is decord where it is installed, PyAV elsewhere; both give the same frames. Raises `VideoError` for
    a file that is missing, is no video, has no frames or breaks off before a frame that is wanted; ValueError for a
    setting out of range.
    """
    if max_frames < 1 or not 0 < fps < math.inf:
        raise ValueError(f"max_frames must be at least 1 and fps above 0, got {max_frames} and {fps}.")
    return read_frames(path, lambda total, rate: frame_indices(total, rate, max_frames, fps, force_sample), backend)


def read_frames(path: str | Path, sampling: Sampling, backend: Backend = "auto") -> SampledVideo:
    """Decode the frames that `sampling` chooses from the video file `path`.

    sampling: from the number of frames and the frames a second to the indices wanted, ascending, and their times in
    seconds. backend, errors: as in `sample_frames`.
    """
    if backend not in get_args(Backend):
        raise unknown("video backend", backend, get_args(Backend))
    path = Path(path)
    if not path.is_file():
        raise VideoError(f"{path}: there is no such video file.")
    if backend == "auto":
        backend = "decord" if importlib.util.find_spec("decord") else "pyav"

    def checked(total: int, avg_fps: float) -> tuple[list[int], list[float]]:
        if total < 1:
            raise VideoError(f"{path}: the video has no frames.")
        if not 0 < avg_fps < math.inf:
            raise VideoError(f"{path}: the video states no frame rate.")
        return sampling(total, avg_fps)

    return (_read_with_decord if backend == "decord" else _read_with_pyav)(path, checked)


def frame_indices(
    total: int, avg_fps: float, max_frames: int, fps: float = 1, force_sample: bool = False
) -> tuple[list[int], list[float]]:
    """Which of `total` frames to take, and the time in seconds that the prompt gives each.

    One frame every round(avg_fps / fps), at index / that step; `max_frames` spread evenly, at index / avg_fps, if those
    are more than `max_frames` or with `force_sample`. The prompts of LLaVA-Video count time this way, also where the
    step is not a second (`fps` other than 1). A video of fewer frames a second than wanted gives every frame.
    """
    step = round(avg_fps / fps)
    indices = list(range(0, total, max(step, 1)))
    if force_sample or len(indices) > max_frames:
        indices = np.linspace(0, total - 1, max_frames, dtype=int).tolist()
        step = 0
    return indices, [index / (step or avg_fps) for index in indices]


def time_instruction(duration: float, times: list[float]) -> str:
    """The line of the prompt that tells when the frames were taken."""
    located = ",".join(f"{time:.2f}s" for time in times)
    return (
        f"The video lasts for {duration:.2f} seconds, and {len(times)} frames are uniformly sampled from it. "
        f"These frames are located at {located}.Please answer the following questions related to this video."
    )


def _read_with_decord(path: Path, sampling: Sampling) -> SampledVideo:
    import decord

    try:
        reader = decord.VideoReader(str(path), ctx=decord.cpu(0), num_threads=1)
        total, avg_fps = len(reader), float(reader.get_avg_fps())
    except (decord.DECORDError, RuntimeError) as error:
        raise VideoError(f"{path}: no video can be read from this file.") from error
    indices, times = sampling(total, avg_fps)
    try:
        frames = reader.get_batch(indices).asnumpy()
    except (decord.DECORDError, RuntimeError) as error:
        raise VideoError(f"{path}: the video breaks off or is damaged: a frame could not be decoded.") from error
    return SampledVideo(frames, times, total / avg_fps)


def _read_with_pyav(path: Path, sampling: Sampling) -> SampledVideo:
    import av

    try:
        with av.open(str(path)) as container:
            stream = container.streams.video[0]
            avg_fps = float(stream.average_rate or 0)
            packets = [
                (packet.pts, packet.is_keyframe, packet.is_discard)
                for packet in container.demux(stream)
                if packet.size > 0
            ]
    except (av.FFmpegError, IndexError) as error:
        raise VideoError(f"{path}: no video can be read from this file.") from error
    total, numbers = len(packets), _numbers_by_time(packets)
    keys = sorted(numbers[time] for time, begins, _ in packets if begins) if numbers else []
    times = {number: time for time, number in numbers.items()}
    indices, seconds = sampling(total, avg_fps)
    try:
        decoded = _decode(path, sorted(set(indices)), keys, numbers, times)
        if decoded is None:  # the file's times do not say which frame is which
            decoded = _decode(path, sorted(set(indices)), [], {}, {})
    except av.FFmpegError as error:
        raise VideoError(f"{path}: the video breaks off or is damaged: a frame could not be decoded.") from error
    if decoded is None:
        raise VideoError(f"{path}: the video breaks off or is damaged: a frame could not be decoded.")
    return SampledVideo(np.stack([decoded[index] for index in indices]), seconds, total / avg_fps)


def _numbers_by_time(packets: Sequence[tuple[int | None, bool, bool]]) -> dict[int, int]:
    """Which frame is shown at which time; empty where a packet has no time of its own or is not to be shown.

    packets: time, whether decoding can begin there, whether it is not to be shown.
    """
    times = sorted(time for time, _, discarded in packets if time is not None and not discarded)
    numbers = {time: number for number, time in enumerate(times)}
    return numbers if len(numbers) == len(packets) else {}


def _decode(
    path: Path, wanted: list[int], keys: list[int], numbers: Mapping[int, int], times: Mapping[int, int]
) -> dict[int, np.ndarray] | None:
    """The frames `wanted`, ascending, by number; None if one of them does not turn up.

    keys: the frames that decoding can begin at, ascending; decoding goes on there where that leaves out `_WORTH_A_JUMP`
    frames or more. numbers, times: of the frames by their times, and the other way round; empty to count frames.
    """
    import av

    decoded: dict[int, np.ndarray] = {}
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        stream.thread_type = "AUTO"
        frames, place = enumerate(container.decode(stream)), -1
        for number in wanted:
            before = bisect_right(keys, number)
            if before and keys[before - 1] - place > _WORTH_A_JUMP:
                container.seek(times[keys[before - 1]], stream=stream)
                frames = enumerate(container.decode(stream))
            for count, frame in frames:
                place = numbers.get(frame.pts, -1) if numbers else count
                if place >= number:
                    break
            if place != number:
                return None
            decoded[number] = frame.to_ndarray(format="rgb24")
    return decoded
