"""Measured rows: what several runs of one method come to, and where the time beyond the limit went. Pure functions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any

from st_simdiff.models.clock import STAGES
from st_simdiff.models.flops import ModelCost, Speed
from st_simdiff.vocabulary import FULL

ENCODING = ("vision", "projector")
NOISY = 1.25
"""Greatest over least of the rounds from which on a row is called noisy."""
ONE_ROUND = "one round"


@dataclass(frozen=True)
class Spread:
    """Of repeated measurements. low, high: the least and the greatest."""

    median: float
    low: float
    high: float
    count: int

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        return cls(median(values), min(values), max(values), len(values))


@dataclass(frozen=True)
class Sample:
    """One run. milliseconds: by stage. visual_per_layer, kept: of every video of the batch, the tokens that each layer
    processes, and those that are left at the end. peak_bytes: above what was held before; None where it is not known.
    """

    milliseconds: Mapping[str, float]
    visual_per_layer: tuple[tuple[int, ...], ...]
    kept: tuple[int, ...]
    peak_bytes: int | None

    @property
    def total(self) -> float:
        return sum(self.milliseconds.values())


@dataclass(frozen=True)
class Row:
    """One method at one place, from pixels on the device to the logits of the first token.

    tokens: N of one video. entering, kept: of them, in the decoder's first layer and after the last reduction, which
    may come behind the last layer (means over the batch).
    milliseconds: from pixels to the first token, of the whole batch. stages: their medians. speedup: full over this,
    round by round. flops: of the whole batch. limit: full's FLOPs over this method's. reached: median speed-up over
    limit. losses: milliseconds beyond the limit, by cause; they add up to what the medians of the stages take beyond
    it. peak_bytes: median. note: why there is no measurement.
    """

    frames: int
    batch: int
    method: str
    retention: float
    tokens: int
    entering: float | None = None
    kept: float | None = None
    milliseconds: Spread | None = None
    stages: Mapping[str, float] | None = None
    speedup: Spread | None = None
    flops: int | None = None
    limit: float | None = None
    reached: float | None = None
    losses: Mapping[str, float] | None = None
    peak_bytes: int | None = None
    note: str = ""

    @property
    def is_noisy(self) -> bool:
        """Whether the machine was too busy to compare with the limit: rounds differ by more than `NOISY` in speed-up
        (in time, where there is none to give), or the speed-up exceeds the limit by more."""
        spread = self.milliseconds if self.method == FULL or self.speedup is None else self.speedup
        varies = spread is not None and spread.high > NOISY * spread.low
        return varies or (self.reached is not None and self.reached > NOISY)

    @property
    def caveat(self) -> str:
        """What a reader of the row has to know: why nothing was measured, "noisy", or that of one round no spread is
        known; empty for a row of several rounds that agree."""
        if self.note or self.is_noisy:
            return self.note or "noisy"
        return ONE_ROUND if self.milliseconds is not None and self.milliseconds.count == 1 else ""

    @property
    def place(self) -> tuple[int, int, str, float]:
        """What no two rows of one model share."""
        return (self.frames, self.batch, self.method, self.retention)

    def as_json(self) -> dict[str, Any]:
        return {key: value for key, value in asdict(self).items() if value not in (None, "")}

    @classmethod
    def from_json(cls, entry: Mapping[str, Any]) -> Row:
        spreads = {key: Spread(**entry[key]) for key in ("milliseconds", "speedup") if key in entry}
        return cls(**{**entry, **spreads})


def summarise(
    cost: ModelCost,
    frames: int,
    batch: int,
    method: str,
    retention: float,
    samples: Sequence[Sample],
    full: Sequence[Sample],
) -> Row:
    """The row of one method's samples. full: the full model's, of the same rounds in the same order."""
    flops, full_flops = sample_flops(cost, frames, samples[0]), sample_flops(cost, frames, full[0])
    stages, full_stages = stage_medians(samples), stage_medians(full)
    speedup = Spread.of([one.total / own.total for one, own in zip(full, samples, strict=True)])
    layers = samples[0].visual_per_layer
    peaks = [sample.peak_bytes for sample in samples if sample.peak_bytes is not None]
    limit = full_flops / flops
    lost = losses(stages, full_stages, flops, full_flops, batch * cost.encoding(frames))
    return Row(
        frames=frames,
        batch=batch,
        method=method,
        retention=retention,
        tokens=cost.tokens(frames),
        entering=sum(video[0] for video in layers) / batch,
        kept=sum(samples[0].kept) / batch,
        milliseconds=_rounded(Spread.of([sample.total for sample in samples])),
        stages={stage: round(stages[stage], 3) for stage in STAGES},
        speedup=_rounded(speedup, 4),
        flops=flops,
        limit=round(limit, 4),
        reached=round(speedup.median / limit, 4),
        losses={cause: round(milliseconds, 3) for cause, milliseconds in lost.items()},
        peak_bytes=int(median(peaks)) if peaks else None,
    )


def losses(
    stages: Mapping[str, float], full: Mapping[str, float], flops: int, full_flops: int, encoding_flops: int
) -> dict[str, float]:
    """Milliseconds beyond full's time x (FLOPs / full's FLOPs), by cause. They add up exactly.

    slower encoding: vision tower and projector take a larger share of the full model's time than of its FLOPs, and
    compression does not shorten them. recording: what they take longer than in the full model. selection, scoring:
    the method itself. slower prefill: what the decoder takes beyond its own share of FLOPs. rest: all other stages.
    """
    full_encoding = sum(full[stage] for stage in ENCODING)
    full_total = sum(full.values())
    prefill_share = (flops - encoding_flops) / (full_flops - encoding_flops)
    ideal_prefill = full["prefill"] * prefill_share
    others = [stage for stage in STAGES if stage not in (*ENCODING, "selection", "scoring", "prefill")]
    return {
        "slower encoding": full_encoding + ideal_prefill - full_total * flops / full_flops,
        "recording": sum(stages[stage] for stage in ENCODING) - full_encoding,
        "selection": stages["selection"],
        "scoring": stages["scoring"],
        "slower prefill": stages["prefill"] - ideal_prefill,
        "rest": sum(stages[stage] for stage in others),
    }


def sample_flops(cost: ModelCost, frames: int, sample: Sample) -> int:
    """FLOPs of a run's whole batch, by the tokens that its layers really had."""
    return sum(cost.encoding(frames) + cost.prefill(video) for video in sample.visual_per_layer)


def stage_medians(samples: Sequence[Sample]) -> dict[str, float]:
    return {stage: median(sample.milliseconds[stage] for sample in samples) for stage in STAGES}


def entering_share(candidates: float, retention: float) -> float:
    """Share of the tokens of a planted video that enter, given the share at retention 0.3.

    Some are always in (a token like no other, a change); of the rest, a still picture, the retention says how many.
    """
    always = (candidates - 0.3) / 0.7
    return always + retention * (1 - always)


def telling_rows(rows: Sequence[Row], method: str) -> list[Row]:
    """Of `rows`, what `machine_speed` reads the machine off: those of the full model and of `method` that were measured
    at batch 1, without the noisy ones if there are others of both."""
    measured = [row for row in rows if row.method in (FULL, method) and row.stages and row.batch == 1]
    quiet = [row for row in measured if not row.is_noisy]
    return quiet if {row.method for row in quiet} == {FULL, method} else measured


def shared_caveat(rows: Sequence[Row]) -> str:
    """Of what is computed from `rows`: "noisy", "one round", or empty."""
    caveats = {row.caveat for row in rows}
    return next((caveat for caveat in ("noisy", ONE_ROUND) if caveat in caveats), "")


def machine_speed(cost: ModelCost, rows: Sequence[Row], floor_seconds: float) -> Speed | None:
    """What rows of one method at batch 1 say about the machine, for the break-even; None without a full row beside
    them. The overhead (selection and scoring) is a straight line over N through
    the rows, least squares, with no part below 0.
    """
    full = [row for row in rows if row.method == FULL]
    other = [row for row in rows if row.method != FULL]
    if not full or not other:
        return None
    flops = sum(cost.prefill([row.tokens] * cost.decoder.layers) for row in full)
    seconds = sum(row.stages["prefill"] for row in full) / 1e3
    points = [(row.tokens, (row.stages["selection"] + row.stages["scoring"]) / 1e3) for row in other]
    fixed, each = _line(points)
    return Speed(flops / seconds, floor_seconds, fixed, each)


def _line(points: Sequence[tuple[float, float]]) -> tuple[float, float]:
    """Least squares: (value at 0, slope), neither below 0."""
    mean_x = sum(x for x, _ in points) / len(points)
    mean_y = sum(y for _, y in points) / len(points)
    spread = sum((x - mean_x) ** 2 for x, _ in points)
    slope = sum((x - mean_x) * (y - mean_y) for x, y in points) / spread if spread else 0.0
    start = mean_y - max(slope, 0.0) * mean_x
    if start < 0:
        start, slope = 0.0, sum(x * y for x, y in points) / sum(x * x for x, _ in points)
    return start, max(slope, 0.0)


def _rounded(spread: Spread, digits: int = 3) -> Spread:
    return Spread(*(round(value, digits) for value in (spread.median, spread.low, spread.high)), spread.count)
