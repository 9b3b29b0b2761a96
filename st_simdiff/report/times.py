"""Where the time of an evaluation's questions went, and how near a method comes to what its FLOPs allow."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from st_simdiff.report.reading import Document, TaskRun
from st_simdiff.report.render import Column, Sheet, Table
from st_simdiff.vocabulary import FULL

NOISY = 1.25
"""How far above the limit a speed-up may lie before it says more about a busy machine than about the method."""

FEWEST_QUESTIONS = 10
"""Below so many, whether the one question that reads a video is among those left out decides over the total."""

STAGES = ("decode", "preprocess", "vision", "projector", "selection", "prefill", "scoring", "decoding", "other")
COMPUTING = ("vision", "projector", "selection", "prefill", "scoring")
"""From pixels to the first token, which the FLOPs are of."""

DEVICE_PEAK, HOST_PEAK = "peak_memory_bytes", "host_peak_bytes"


@dataclass(frozen=True)
class RunTime:
    """Means over a run's questions, the first one of every process left out.

    milliseconds: by stage. computing: from pixels to the first token, and flops, full_flops: of one question, as it is
    and uncompressed; the three of questions that shared nothing with one before them, None where there is none or
    where FLOPs were not recorded.
    device, host: greatest peak memory, bytes.
    """

    run: TaskRun
    questions: int
    milliseconds: Mapping[str, float]
    computing: float | None
    flops: float | None
    full_flops: float | None
    device: float | None
    host: float | None

    @property
    def total(self) -> float:
        return sum(self.milliseconds.values())

    @property
    def limit(self) -> float | None:
        """The speed-up over the full model that the FLOPs allow, reading the video left out."""
        return None if self.flops is None or self.full_flops is None else self.full_flops / self.flops


def steady(documents: Sequence[Document]) -> Sequence[Document]:
    """The documents but for the first of every process, whose time includes what happens once; all if that is all."""
    return [document for document in documents if not document.counts.get("warm_up")] or documents


def whole(documents: Sequence[Document]) -> Sequence[Document]:
    """The documents whose questions went through tower and decoder whole, which is what the FLOPs are of."""
    shared = ("reused_features", "reused_tokens", "reused_layers")
    return [each for each in documents if not any(each.counts.get(key) for key in shared)]


def mean_of(documents: Sequence[Document], key: str) -> float | None:
    """Mean of a count; None unless every document has it."""
    values = [document.counts[key] for document in documents if key in document.counts]
    return fmean(values) if values and len(values) == len(documents) else None


def run_times(runs: Iterable[TaskRun]) -> list[RunTime]:
    """Of the runs whose questions have the times of all stages."""
    found = []
    for run in runs:
        documents = steady(run.documents)
        times = {stage: mean_of(documents, f"{stage}_ms") for stage in STAGES}
        if documents and None not in times.values():
            alone = whole(documents)
            computing = sum(mean_of(alone, f"{stage}_ms") for stage in COMPUTING) if alone else None
            flops = (mean_of(alone, "flops"), mean_of(alone, "full_flops"))
            peaks = (run.greatest_count(DEVICE_PEAK), run.greatest_count(HOST_PEAK))
            found.append(RunTime(run, len(documents), times, computing, *flops, *peaks))
    return found


def time_sheet(name: str, model: str, runs: Iterable[TaskRun]) -> Sheet | None:
    """Stages, speed-up, limit and memory of every run of one model; None where no run has times."""
    times = run_times(runs)
    if not times:
        return None
    full = {_place(one): one for one in times if one.run.condition.variant == FULL}
    columns = (
        *(Column("task"), Column("frames"), Column("method"), Column("r", digits=2), Column("questions")),
        *(Column(f"{stage} ms", digits=0) for stage in STAGES),
        *(Column("total ms", digits=0), Column("speed-up", digits=2), Column("computing: speed-up", digits=2)),
        *(Column("limit", digits=2), Column("% of limit", digits=0), Column("peak GB"), Column("host peak GB")),
    )
    rows = []
    for one in times:
        condition, reference = one.run.condition, full.get(_place(one))
        compared = reference is not None and reference is not one
        known = compared and reference.computing and one.computing
        computing = reference.computing / one.computing if known else None
        many = compared and min(one.questions, reference.questions) >= FEWEST_QUESTIONS
        limit = one.limit if condition.variant != FULL else None
        rows.append(
            (
                *(one.run.task, condition.frames, condition.label, condition.retention, one.questions),
                *(one.milliseconds[stage] for stage in STAGES),
                *(one.total, reference.total / one.total if many and one.total else None, computing, limit),
                None if computing is None or limit is None or computing > NOISY * limit else 100 * computing / limit,
                *(None if peak is None else peak / 1e9 for peak in (one.device, one.host)),
            )
        )
    notes = (
        "Means over the questions, the first of every process left out. Limit: full FLOPs over this run's, from pixels "
        "to the first token (vision, projector, selection, prefill, scoring), with which the speed-up of computing is "
        "compared, both of the first question about each video. Later ones share its features, and where kept tokens "
        "do not depend on the question also the prefill, the full model's too: the speed-up is of all questions, and "
        f"not given for fewer than {FEWEST_QUESTIONS}, of which one alone may read the video. Where computing exceeds "
        f"the limit by more than {NOISY - 1:.0%}, as on a machine with other work, it is not compared with it. GB: "
        "10^9 bytes, the greatest of all questions.",
    )
    return Sheet(name, (Table(name, f"Where the time goes, {model}", columns, tuple(rows), notes),))


def _place(time: RunTime) -> tuple:
    condition = time.run.condition
    return (time.run.task, condition.frames, len(time.run.documents), condition.other_settings)
