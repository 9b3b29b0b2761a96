"""Statistics against scipy, statsmodels and figures worked out by hand."""

import math

import numpy as np
import pytest
import scipy.stats
import statsmodels.api as sm
from hypothesis import given, settings
from hypothesis import strategies as st
from statsmodels.stats.contingency_tables import mcnemar as sm_mcnemar
from statsmodels.stats.proportion import proportion_confint

from st_simdiff.errors import InputError
from st_simdiff.report.statistics import ClusterBootstrap, McNemar, mcnemar, sampling_half_width, wilson


def clustered_answers(videos=300, per_video=3, seed=0):
    """Answers that are alike within a video."""
    random = np.random.default_rng(seed)
    right = random.random((videos, per_video)) < random.beta(1.0, 0.6, (videos, 1))
    return right.ravel().astype(float), [f"v{video}" for video in range(videos) for _ in range(per_video)]


def test_independent_questions_agree_with_scipys_bootstrap():
    values, _ = clustered_answers()
    ours = ClusterBootstrap([str(i) for i in range(len(values))]).interval(values)
    theirs = scipy.stats.bootstrap(
        (values,), np.mean, method="percentile", n_resamples=5000, rng=np.random.default_rng(1), batch=500
    ).confidence_interval
    assert (ours.low, ours.high) == pytest.approx(theirs, abs=0.004)
    assert ours.mean == values.mean()


def test_clustered_questions_agree_with_the_cluster_robust_error():
    values, videos = clustered_answers()
    groups = np.unique(videos, return_inverse=True)[1]
    model = sm.OLS(values, np.ones_like(values)).fit(cov_type="cluster", cov_kwds={"groups": groups})
    interval = ClusterBootstrap(videos).interval(values)
    assert (interval.high - interval.low) / (2 * 1.96) == pytest.approx(model.bse[0], rel=0.05)
    independent = ClusterBootstrap([str(i) for i in range(len(values))]).interval(values)
    assert interval.high - interval.low > 1.3 * (independent.high - independent.low)


def test_resampled_means_are_those_of_drawn_videos():
    clusters = ["b", "a", "a", "c", "b", *(f"x{i}" for i in range(9))]
    values = np.random.default_rng(3).random(len(clusters))
    bootstrap = ClusterBootstrap(clusters, resamples=20)
    names = list(dict.fromkeys(clusters))
    assert bootstrap.weights.sum(1) == pytest.approx(np.full(20, len(names)))
    for weights, mean in zip(bootstrap.weights, bootstrap.means(values), strict=True):
        drawn = [
            v
            for name, times in zip(names, weights, strict=True)
            for _ in range(int(times))
            for v, c in zip(values, clusters, strict=True)
            if c == name
        ]
        assert mean == pytest.approx(np.mean(drawn), rel=1e-5)


def test_paired_difference_agrees_with_scipy_and_is_narrower_than_unpaired():
    values, videos = clustered_answers()
    other = values.copy()
    changed = np.random.default_rng(5).choice(len(values), 60, replace=False)
    other[changed] = 1 - other[changed]
    alone = [str(i) for i in range(len(values))]
    ours = ClusterBootstrap(alone).difference(values, other)
    theirs = scipy.stats.bootstrap(
        (values, other),
        lambda a, b, axis: np.mean(a - b, axis=axis),
        paired=True,
        method="percentile",
        n_resamples=5000,
        rng=np.random.default_rng(2),
        batch=500,
        vectorized=True,
    ).confidence_interval
    assert (ours.low, ours.high) == pytest.approx(theirs, abs=0.003)
    clustered = ClusterBootstrap(videos)
    gap, single = clustered.difference(values, other), clustered.interval(values)
    assert gap.mean == pytest.approx(values.mean() - other.mean())
    assert gap.high - gap.low < single.high - single.low


def test_the_same_seed_draws_the_same_samples():
    values, videos = clustered_answers(40)
    assert ClusterBootstrap(videos).interval(values) == ClusterBootstrap(videos).interval(values)
    assert ClusterBootstrap(videos, seed=1).interval(values) != ClusterBootstrap(videos).interval(values)


def test_an_interval_covers_the_truth_about_as_often_as_it_says():
    random = np.random.default_rng(7)
    videos = [f"v{i // 3}" for i in range(300)]
    bootstrap = ClusterBootstrap(videos, resamples=1000)
    covered = [
        bootstrap.interval((random.random(300) < np.repeat(random.beta(2, 2, 100), 3)).astype(float)).contains(0.5)
        for _ in range(400)
    ]
    assert 0.91 <= np.mean(covered) <= 0.98


def test_too_few_videos_give_no_interval():
    interval = ClusterBootstrap(["a", "b"] * 6).interval([1, 0] * 6)
    assert (interval.mean, interval.low, interval.high) == (0.5, None, None)
    assert not interval.contains(0.5)
    assert ClusterBootstrap(["a", "b"]).difference([1, 0], [0, 0]).low is None


def test_all_right_and_all_wrong_are_not_certain():
    videos = [f"v{i // 2}" for i in range(40)]
    right = ClusterBootstrap(videos).interval(np.ones(40))
    assert (right.low, right.high) == pytest.approx(proportion_confint(20, 20, method="beta"))
    wrong = ClusterBootstrap(videos).interval(np.zeros(40))
    assert (wrong.low, wrong.high) == pytest.approx(proportion_confint(0, 20, method="beta"))


def test_wrong_sizes_are_refused():
    with pytest.raises(InputError, match="2 values were given for 3 questions"):
        ClusterBootstrap(["a", "b", "c"]).interval([1, 0])
    with pytest.raises(InputError, match="at least one question"):
        ClusterBootstrap([])
    with pytest.raises(InputError, match="as many on both sides, got 2 and 3"):
        mcnemar([1, 0], [1, 0, 1])


# The discordant pairs of three examples in Fagerland et al. (2013), and a tie; the binomial sums by hand.
@pytest.mark.parametrize(
    ("first", "second", "mid_p"),
    [(1, 7, (2 * (1 + 8) - 8) / 2**8), (25, 2, (2 * (1 + 27 + 351) - 351) / 2**27), (6, 16, 0.0347), (2, 2, 13 / 16)],
)
def test_mid_p_of_known_examples(first, second, mid_p):
    assert McNemar(first, second).mid_p == pytest.approx(mid_p, rel=2e-3)


def asymptotic(test: McNemar, corrected: bool = True) -> float:
    """p of the chi-squared statistic on one degree of freedom. corrected: for continuity (Edwards)."""
    if test.discordant == 0:
        return 1.0
    gap = abs(test.only_first - test.only_second) - (1 if corrected else 0)
    return math.erfc(math.sqrt(max(gap, 0) ** 2 / test.discordant / 2))


@settings(deadline=None)
@given(st.integers(0, 300), st.integers(0, 300))
def test_mcnemar_agrees_with_statsmodels_and_scipy(first, second):
    test = McNemar(first, second)
    table = [[10, first], [second, 10]]
    total, fewer = first + second, min(first, second)
    if total == 0:
        assert test.exact == test.mid_p == asymptotic(test) == 1
        return
    assert test.exact == pytest.approx(sm_mcnemar(table, exact=True).pvalue)
    assert test.exact == pytest.approx(scipy.stats.binomtest(first, total).pvalue)
    assert asymptotic(test, corrected=False) == pytest.approx(sm_mcnemar(table, exact=False, correction=False).pvalue)
    if first != second:
        assert asymptotic(test) == pytest.approx(sm_mcnemar(table, exact=False, correction=True).pvalue)
    seen = scipy.stats.binom.pmf(fewer, total, 0.5)
    expected = 1 - seen / 2 if first == second else 2 * scipy.stats.binom.cdf(fewer, total, 0.5) - seen
    assert test.mid_p == pytest.approx(expected, abs=1e-12)
    assert McNemar(second, first) == McNemar(second, first)
    assert McNemar(second, first).mid_p == test.mid_p <= test.exact


def test_counts_of_disagreements():
    test = mcnemar([1, 1, 0, 0, 1], [1, 0, 1, 0, 0])
    assert (test.only_first, test.only_second) == (2, 1)
    assert McNemar(4000, 4100).exact == pytest.approx(scipy.stats.binomtest(4000, 8100).pvalue)


def test_half_width_and_wilson():
    assert sampling_half_width(0.632, 2700) == pytest.approx(1.959964 * math.sqrt(0.632 * 0.368 / 2700))
    interval = wilson(0.573, 5031)
    assert (interval.low, interval.high) == pytest.approx(proportion_confint(0.573 * 5031, 5031, method="wilson"))
