"""Which frames of a video a model is given."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

FPS = (1e-4, 1e4)
"""Frames a second that can be asked for."""

Sampling = Callable[[int, float], tuple[list[int], list[float]]]
"""From the number of frames and the frames a second to the numbers of those wanted, ascending, and their times in
seconds."""


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
