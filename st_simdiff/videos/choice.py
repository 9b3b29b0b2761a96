"""Which frames are taken, and the times that go with them."""

from __future__ import annotations

from dataclasses import dataclass

from st_simdiff.videos.sampling import Sampling
from st_simdiff.videos.settings import ReadSettings
from st_simdiff.videos.timeline import Timeline


@dataclass(frozen=True)
class Choice:
    """The frames to take, by number, one a place; the times of the prompt; how far off the wanted ones they are."""

    numbers: list[int]
    times: list[float]
    largest_offset: float = 0.0


def choose(sampling: Sampling, timeline: Timeline, settings: ReadSettings) -> Choice:
    """What `sampling` chooses of the frames on `timeline`.

    The times are those of `sampling` where the frames are shown at equal distances, else those of the container.
    """
    numbers, times = sampling(timeline.count, timeline.rate)
    if settings.frame_choice == "nearest_key_frame" and timeline.keys:
        keys = [key.number for key in map(timeline.nearest_key, numbers) if key is not None]
        if len(keys) == len(numbers):
            taken = [timeline.time(key) for key in keys]
            offset = max(abs(time - timeline.time(number)) for time, number in zip(taken, numbers, strict=True))
            return Choice(keys, taken, offset)
    if not timeline.regular:
        times = [timeline.time(number) for number in numbers]
    return Choice(list(numbers), list(times))
