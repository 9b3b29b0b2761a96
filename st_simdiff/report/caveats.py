"""What a reader of scores has to be told: questions that are missing from them, weights that mean nothing."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from st_simdiff.report.coverage import Coverage
from st_simdiff.report.reading import TaskRun

RANDOM_WEIGHTS = "llava-video-random"
"""Folder of the checkpoint that this project writes for runs without a trained one."""

MOST_NAMED = 5


def caveats(runs: Iterable[TaskRun]) -> list[str]:
    """A sentence for a model that is not trained, and one for every run that is not about all questions of its task."""
    runs = list(runs)
    untrained = f"{RANDOM_WEIGHTS} has random weights: its scores mean nothing, all else is real."
    return [*([untrained] if any(has_random_weights(run) for run in runs) else []), *coverage_caveats(runs)]


def coverage_caveats(runs: Iterable[TaskRun], *, named: bool = True) -> list[str]:
    """A sentence for the runs of a task that lack the same questions, because of their videos or subtitles.

    named: False leaves out the names of videos that could not be read, for a reader who is given them otherwise.
    """
    lacking: dict[tuple[str, str], list[str]] = {}
    for run in runs:
        if sentence := coverage_sentence(run.coverage, named=named):
            name = f"{run.condition.label} at {run.condition.retention:g}"
            lacking.setdefault((run.asked_as, sentence), []).append(name)
    return [
        f"{task}, {names[0] if len(names) == 1 else f'{len(names)} runs'}: {sentence}"
        for (task, sentence), names in lacking.items()
    ]


def has_random_weights(run: TaskRun) -> bool:
    """Whether the run's checkpoint has never been trained."""
    return run.condition.model == RANDOM_WEIGHTS


def coverage_sentence(coverage: Coverage, *, named: bool = True) -> str:
    """Which questions a score is not about for want of their videos or subtitles; empty where there are none of these.

    named: as for `coverage_caveats`.
    """
    if not coverage.left_out and not coverage.unreadable:
        return ""
    parts = []
    if coverage.left_out:
        videos = list(dict.fromkeys(f"{one.video} ({one.reason})" for one in coverage.left_out))
        parts.append(f"{_questions(len(coverage.left_out))} left out: {_named(videos)}")
    if coverage.unreadable:
        videos = list(dict.fromkeys(coverage.unreadable))
        names = f": {_named(videos)}" if named else ""
        parts.append(f"{_questions(len(coverage.unreadable))} not scored, videos not readable{names}")
        if coverage.counted_wrong:
            parts.append("lmms-eval's own score counts these as wrong")
    rest = (coverage.in_all or 0) - coverage.scored - len(coverage.left_out) - len(coverage.unreadable)
    if rest > 0:
        parts.append(f"{_questions(rest)} not asked")
    return f"{coverage.text} questions scored; {'; '.join(parts)}."


def _questions(number: int) -> str:
    return f"{number:,} question{'' if number == 1 else 's'}"


def _named(videos: Sequence[str]) -> str:
    rest = f" and {len(videos) - MOST_NAMED:,} more" if len(videos) > MOST_NAMED else ""
    return ", ".join(videos[:MOST_NAMED]) + rest
