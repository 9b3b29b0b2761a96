"""Prompts with text between the frames of a video: which frames go where."""

from __future__ import annotations

from dataclasses import replace
from itertools import accumulate, pairwise

from st_simdiff.checkpoints.llava_video.constants import DEFAULT_IMAGE_TOKEN
from st_simdiff.checkpoints.llava_video.modeling import EncodedVideo
from st_simdiff.models.vision import FrameRecord


def is_interleaved(text: str) -> bool:
    """Whether `text` has lines `<image>`, which are places for frames."""
    return DEFAULT_IMAGE_TOKEN in text.split("\n")


def place_frames(text: str, frames: int) -> tuple[str, list[int]]:
    """`text` with a line `<image>` for every place that gets frames, and how many of `frames` frames each gets.

    The frames keep their order, and every place gets as many as any other, or one more or less. Where there are fewer
    frames than places, lines of those that would get none are left out.
    """
    lines = text.split("\n")
    places = lines.count(DEFAULT_IMAGE_TOKEN)
    if not places:
        return text, []
    bounds = [-(-place * frames // places) for place in range(places + 1)]
    sizes = [stop - start for start, stop in pairwise(bounds)]
    queue = iter(sizes)
    kept = [line for line in lines if line != DEFAULT_IMAGE_TOKEN or next(queue)]
    return "\n".join(kept), [size for size in sizes if size]


def split_video(video: EncodedVideo, sizes: list[int]) -> list[EncodedVideo]:
    """The parts of `video`, so many of its frames of visual tokens each."""
    parts = [replace(video, tokens=tokens) for tokens in video.tokens.split(sizes)]
    if not isinstance(video.noted, FrameRecord):
        return parts
    step = len(next(one for one in (video.noted.attention, video.noted.keys) if one is not None)) // sum(sizes)
    bounds = accumulate(sizes, initial=0)
    return [
        replace(part, noted=video.noted.frames(start * step, stop * step))
        for part, (start, stop) in zip(parts, pairwise(bounds), strict=True)
    ]
