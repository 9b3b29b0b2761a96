"""How sure a score is, and how sure a difference: bootstrap over videos, and McNemar's test on paired answers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from statistics import NormalDist

import numpy as np
from numpy.typing import ArrayLike, NDArray

from st_simdiff.errors import InputError

LEVEL = 0.95
RESAMPLES = 5000
FEWEST_VIDEOS = 10
"""Below this many independent videos no interval is given: resampling so few says little."""

_BLOCK = 500


@dataclass(frozen=True)
class Interval:
    """A mean with its confidence interval; low and high are None where there are too few independent videos."""

    mean: float
    low: float | None
    high: float | None

    def contains(self, value: float) -> bool:
        """Whether `value` lies in the interval; False if there is none."""
        return self.low is not None and self.high is not None and self.low <= value <= self.high


class ClusterBootstrap:
    """Percentile bootstrap of means over questions that come in clusters (the videos they are about).

    clusters: (n,), one label a question. Whole clusters are drawn with replacement, so that questions on one video
    count as what they are: not independent. The same labels and seed draw the same samples, whatever the values.
    """

    def __init__(self, clusters: Sequence[str], resamples: int = RESAMPLES, seed: int = 0) -> None:
        if len(clusters) == 0:
            raise InputError("A bootstrap needs at least one question.")
        _, first, index = np.unique(np.asarray(clusters), return_index=True, return_inverse=True)
        order = np.empty(len(first), dtype=np.int64)
        order[np.argsort(first)] = np.arange(len(first))
        self.index: NDArray[np.int64] = order[index]
        self.resamples = resamples
        self.seed = seed

    @cached_property
    def sizes(self) -> NDArray[np.int64]:
        """(C,), questions a cluster, clusters in the order in which they first appear."""
        return np.bincount(self.index)

    @cached_property
    def weights(self) -> NDArray[np.float32]:
        """(resamples, C), how often each cluster was drawn; float32 holds such counts and their sums exactly."""
        random, count = np.random.default_rng(self.seed), len(self.sizes)
        blocks = []
        for start in range(0, self.resamples, _BLOCK):
            rows = min(_BLOCK, self.resamples - start)
            drawn = random.integers(count, size=(rows, count)) + count * np.arange(rows)[:, None]
            blocks.append(np.bincount(drawn.ravel(), minlength=rows * count).reshape(rows, count).astype(np.float32))
        return np.concatenate(blocks)

    def means(self, values: ArrayLike) -> NDArray[np.float64]:
        """(resamples,), the mean of `values` (n,) in every resample."""
        totals = np.bincount(self.index, weights=np.asarray(values, dtype=np.float64))
        sums = self.weights @ np.stack([totals, self.sizes], axis=1).astype(np.float32)
        return sums[:, 0].astype(np.float64) / sums[:, 1]

    def interval(self, values: ArrayLike, level: float = LEVEL) -> Interval:
        """The mean of `values` (n,) and its interval.

        Where every value is 0, or every value is 1, resampling would claim certainty: the exact binomial bound for as
        many questions as there are videos stands in.
        """
        values = np.asarray(values, dtype=np.float64)
        if values.shape != self.index.shape:
            raise InputError(f"{values.size} values were given for {self.index.size} questions.")
        mean = float(values.mean())
        if len(self.sizes) < FEWEST_VIDEOS:
            return Interval(mean, None, None)
        if np.all(values == values[0]) and values[0] in (0, 1):
            edge = ((1 - level) / 2) ** (1 / len(self.sizes))
            return Interval(mean, 0.0, 1 - edge) if mean == 0 else Interval(mean, edge, 1.0)
        low, high = np.quantile(self.means(values), [(1 - level) / 2, (1 + level) / 2])
        return Interval(mean, float(low), float(high))

    def difference(self, first: ArrayLike, second: ArrayLike, level: float = LEVEL) -> Interval:
        """The mean of first - second (n,) on the same questions, and its interval: the same videos drawn for both."""
        gap = np.asarray(first, dtype=np.float64) - np.asarray(second, dtype=np.float64)
        if gap.shape != self.index.shape:
            raise InputError(f"{gap.size} differences were given for {self.index.size} questions.")
        if len(self.sizes) < FEWEST_VIDEOS:
            return Interval(float(gap.mean()), None, None)
        low, high = np.quantile(self.means(gap), [(1 - level) / 2, (1 + level) / 2])
        return Interval(float(gap.mean()), float(low), float(high))


@dataclass(frozen=True)
class McNemar:
    """Two models on the same questions. only_first, only_second: questions that just one of them answered rightly."""

    only_first: int
    only_second: int

    @property
    def discordant(self) -> int:
        return self.only_first + self.only_second

    @property
    def exact(self) -> float:
        """Two-sided p of the binomial test: are both equally often the only one to be right?"""
        return min(1.0, 2 * _binomial_up_to(min(self.only_first, self.only_second), self.discordant))

    @property
    def mid_p(self) -> float:
        """The exact p less the probability of what was seen (half of it in a tie): not as conservative.

        Fagerland, Lydersen and Laake, BMC Medical Research Methodology 13:91, 2013.
        """
        if self.discordant == 0:
            return 1.0
        seen = _binomial_at(min(self.only_first, self.only_second), self.discordant)
        return self.exact - (seen / 2 if self.only_first == self.only_second else seen)


def mcnemar(first: ArrayLike, second: ArrayLike) -> McNemar:
    """Counts where two models disagree. first, second: (n,), whether each answered each question rightly."""
    first, second = np.asarray(first, dtype=bool), np.asarray(second, dtype=bool)
    if first.shape != second.shape:
        raise InputError(f"Paired answers are as many on both sides, got {first.size} and {second.size}.")
    return McNemar(int((first & ~second).sum()), int((~first & second).sum()))


def _binomial_at(count: int, trials: int) -> float:
    """P(X = count) for `trials` tosses of a fair coin."""
    log = math.lgamma(trials + 1) - math.lgamma(count + 1) - math.lgamma(trials - count + 1) - trials * math.log(2)
    return math.exp(log)


def _binomial_up_to(count: int, trials: int) -> float:
    """P(X <= count) for `trials` tosses of a fair coin, exact to floating point."""
    ways, total = 1, 1
    for k in range(1, count + 1):
        ways = ways * (trials - k + 1) // k
        total += ways
    return total / 2**trials


def sampling_half_width(share: float, questions: int, level: float = LEVEL) -> float:
    """Half the width of the interval of a score `share` in [0, 1] on `questions` independent questions (Wald)."""
    return _normal_quantile((1 + level) / 2) * math.sqrt(share * (1 - share) / questions)


def wilson(share: float, questions: int, level: float = LEVEL) -> Interval:
    """Wilson's interval of a score `share` in [0, 1] on `questions` independent questions."""
    z2 = _normal_quantile((1 + level) / 2) ** 2
    centre = (share + z2 / (2 * questions)) / (1 + z2 / questions)
    half = math.sqrt(z2 * share * (1 - share) / questions + (z2 / (2 * questions)) ** 2) / (1 + z2 / questions)
    return Interval(share, centre - half, centre + half)


def _normal_quantile(probability: float) -> float:
    return NormalDist().inv_cdf(probability)
