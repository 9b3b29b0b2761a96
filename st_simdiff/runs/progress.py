"""How long the rest of a plan will take, judged by the runs that are done."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean


def seconds_left(done: Mapping[str, Sequence[float]], left: Sequence[str]) -> float | None:
    """done: by task, the seconds that its finished runs took. left: the tasks of the runs that are left.

    A task without a finished run is taken to be like the mean of all; None before any run is finished.
    """
    everything = [seconds for some in done.values() for seconds in some]
    if not everything:
        return None
    return sum(fmean(done[task]) if done.get(task) else fmean(everything) for task in left)


def duration(seconds: float) -> str:
    """`45 s`, `12 min`, `3 h 20 min`, `2 days 5 h`."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes < 90:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    if hours < 48:
        return f"{hours} h {minutes:02d} min"
    days, hours = divmod(hours, 24)
    return f"{days} days {hours} h"
