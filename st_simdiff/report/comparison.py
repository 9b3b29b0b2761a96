"""Runs beside each other: scores with intervals, paired differences, and which runs may be compared at all."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from st_simdiff.report.names import is_own
from st_simdiff.report.reading import Document, TaskRun
from st_simdiff.report.statistics import ClusterBootstrap, Interval, mcnemar, wilson
from st_simdiff.vocabulary import FULL


@dataclass(frozen=True)
class Part:
    """Some of a task's questions: those whose group `group` has `value`; all of them where group is empty."""

    group: str = ""
    value: str = ""

    def of(self, run: TaskRun) -> list[Document]:
        if not self.group:
            return list(run.documents)
        return [document for document in run.documents if document.groups.get(self.group) == self.value]


ALL = Part()

LARGEST_P = 0.05


@dataclass(frozen=True)
class Estimate:
    """A score in percent. low, high: 95 % interval, None where there are too few videos for one."""

    score: float
    low: float | None
    high: float | None
    questions: int
    videos: int


@dataclass(frozen=True)
class Paired:
    """How much better than `versus` on the same questions, in points. p: McNemar's mid-p, questions independent."""

    versus: str
    difference: float
    low: float | None
    high: float | None
    p: float

    @property
    def significant(self) -> bool | None:
        """Whether the interval, which knows about the videos, leaves out 0, and McNemar's p is below 0.05 besides.

        Either alone errs on the side of a difference: the interval where the videos are few, the test where questions
        share them. None without an interval.
        """
        if self.low is None or self.high is None:
            return None
        return (self.low > 0 or self.high < 0) and self.p < LARGEST_P


class Comparer:
    """Estimates and differences; draws the resamples for a set of videos once."""

    def __init__(self) -> None:
        self._bootstraps: dict[tuple[str, ...], ClusterBootstrap] = {}

    def estimate(self, run: TaskRun, part: Part = ALL) -> Estimate | None:
        """The score of `run` on `part`; None if it has no such questions, or no known answers to them."""
        documents = part.of(run)
        known = [document for document in documents if document.correct is not None]
        if not known:
            return _reported(run) if part == ALL else None
        videos = tuple(document.video for document in known)
        interval = self._bootstrap(videos).interval([document.correct for document in known])
        return _percent(interval, len(known), len(set(videos)))

    def paired(self, first: TaskRun, second: TaskRun, part: Part = ALL) -> Paired | None:
        """First minus second; None where they may not be compared, or where answers are not known."""
        if not comparable(first, second):
            return None
        pairs = list(zip(part.of(first), part.of(second), strict=False))
        if any(one.question != other.question for one, other in pairs) or len(part.of(first)) != len(part.of(second)):
            return None
        if not pairs or any(one.correct is None or other.correct is None for one, other in pairs):
            return None
        ours = [one.correct for one, _ in pairs]
        theirs = [other.correct for _, other in pairs]
        gap = self._bootstrap(tuple(one.video for one, _ in pairs)).difference(ours, theirs)
        test = mcnemar([value > 0.5 for value in ours], [value > 0.5 for value in theirs])
        low, high = (None if bound is None else 100 * bound for bound in (gap.low, gap.high))
        return Paired(second.condition.label, 100 * gap.mean, low, high, test.mid_p)

    def best_rival(self, run: TaskRun, runs: Iterable[TaskRun], part: Part = ALL) -> TaskRun | None:
        """The comparable rival (see `is_rival`) at the same retention that scores best on `part`."""
        rivals = [other for other in runs if is_rival(run, other) and comparable(run, other)]
        return max(rivals, key=lambda other: right_answers(other, part), default=None)

    def _bootstrap(self, videos: tuple[str, ...]) -> ClusterBootstrap:
        if videos not in self._bootstraps:
            self._bootstraps[videos] = ClusterBootstrap(videos)
        return self._bootstraps[videos]


def _percent(interval: Interval, questions: int, videos: int) -> Estimate:
    low, high = (None if bound is None else 100 * bound for bound in (interval.low, interval.high))
    return Estimate(100 * interval.mean, low, high, questions, videos)


def _reported(run: TaskRun) -> Estimate | None:
    """A score without public answers, as lmms-eval reports it; an interval only if every question has its own video."""
    if run.reported is None:
        return None
    questions, videos = len(run.documents), len({document.video for document in run.documents})
    if questions != videos:
        return Estimate(run.reported, None, None, questions, videos)
    interval = wilson(run.reported / 100, questions)
    return _percent(interval, questions, videos)


def right_answers(run: TaskRun, part: Part = ALL) -> float:
    """How many questions of `part` were answered rightly; of those whose answer is known."""
    return sum(document.correct for document in part.of(run) if document.correct is not None)


def comparable(first: TaskRun, second: TaskRun) -> bool:
    """Whether two runs put the same questions to the same model under the same protocol."""
    return (
        first.task == second.task
        and first.condition.model == second.condition.model
        and first.condition.protocol == second.condition.protocol
        and [one.question for one in first.documents] == [one.question for one in second.documents]
    )


def is_rival(run: TaskRun, other: TaskRun) -> bool:
    """Whether `other` is somebody else's method at the same retention; the full model is nobody's rival."""
    ours, theirs = run.condition, other.condition
    if FULL in (ours.method, theirs.method) or ours.retention != theirs.retention:
        return False
    return ours.method != theirs.method and not (is_own(ours.method) and is_own(theirs.method))


def full_model(run: TaskRun, runs: Iterable[TaskRun]) -> TaskRun | None:
    """The uncompressed run that `run` may be compared with, if there is one."""
    return next((other for other in runs if other.condition.method == FULL and comparable(run, other)), None)


def newest(runs: Sequence[TaskRun]) -> tuple[list[TaskRun], list[TaskRun]]:
    """(the newest run of every condition and task, the older ones), both in the order given (oldest first)."""
    last: dict[tuple, TaskRun] = {}
    for run in runs:
        c = run.condition
        settings, protocol = tuple(sorted(c.settings.items())), tuple(sorted(c.protocol.items()))
        last[c.model, c.method, c.retention, settings, protocol, run.task] = run
    kept = {id(run) for run in last.values()}
    return [run for run in runs if id(run) in kept], [run for run in runs if id(run) not in kept]


@dataclass(frozen=True)
class Protocols:
    """Letters for the protocols in use, A being the most frequent of its task; one letter where there is only one."""

    letters: dict[int, str]
    notes: tuple[str, ...]

    @property
    def mixed(self) -> bool:
        return bool(self.notes)

    def letter(self, run: TaskRun) -> str:
        return self.letters[id(run)]


def name_protocols(runs: Sequence[TaskRun]) -> Protocols:
    """Letters by task and model, and a sentence for every task whose runs do not share one protocol."""
    groups: dict[tuple[str, str], list[TaskRun]] = {}
    for run in runs:
        groups.setdefault((run.condition.model, run.task), []).append(run)
    letters: dict[int, str] = {}
    notes = []
    for (model, task), members in groups.items():
        keys = [tuple(sorted(run.condition.protocol.items())) for run in members]
        ranked = [key for key, _ in Counter(keys).most_common()]
        letters |= {id(run): _letter(ranked.index(key)) for run, key in zip(members, keys, strict=True)}
        if len(ranked) > 1:
            notes.append(_mixed_note(model, task, [dict(key) for key in ranked]))
    return Protocols(letters, tuple(notes))


def _letter(number: int) -> str:
    return chr(ord("A") + number) if number < 26 else f"A{number}"


def _mixed_note(model: str, task: str, protocols: Sequence[dict[str, str]]) -> str:
    differing = sorted({key for one in protocols for key in one if any(p.get(key) != one[key] for p in protocols)})
    described = "; ".join(
        f"{_letter(number)}: " + ", ".join(f"{key}={protocol.get(key, 'not given')}" for key in differing)
        for number, protocol in enumerate(protocols)
    )
    return f"Mixed protocols for {task} on {model}. {described}. Differences are taken within one protocol only."
