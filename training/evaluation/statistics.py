"""Honest comparisons: paired by seed, with intervals, tests and effect sizes. Distributions and resampling are scipy's.

Two policies meet on the same seeds, so everything here is about the differences within a seed. Four questions, four
numbers: how large is the difference of the means (bootstrap interval), could it be chance (signed-rank test, corrected
by Holm for all comparisons in the same metric), how often is the policy the better one (probability of
improvement), and what is typical when the extreme seeds are left out (interquartile mean).
"""

import math
import warnings
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import scipy  # its parts are loaded when they are needed: `stats` takes a second

from training.workloads.base import FloatArray

RESAMPLES = 9999
CONFIDENCE = 0.95
QUARTER = 0.25


@dataclass(frozen=True)
class Comparison:
    """A policy against a baseline in one metric at one load; NaN where there is nothing to say.

    Attributes:
        policy: its name.
        baseline: what it is compared with.
        metric: key of `metrics.catalogue`.
        load: offered load.
        pairs: number of seeds on which both have the metric.
        difference: mean of the policy minus mean of the baseline, in the metric's unit.
        difference_low: lower end of its 95 % interval.
        difference_high: upper end.
        relative_difference: (policy - baseline) / baseline of the means; -0.25 is 25 % less. NaN for a baseline of 0.
        low: lower end of its 95 % interval.
        high: upper end.
        p_value: of the signed-rank test, two-sided.
        p_value_holm: corrected for all comparisons of the same metric in the evaluation: policies, baselines and loads.
        probability_of_improvement: share of the seeds on which the policy is better, half of the equal ones added.
        probability_low: lower end of its 95 % interval.
        probability_high: upper end.
        policy_interquartile_mean: mean of the middle half of the policy's seeds.
        baseline_interquartile_mean: the same of the baseline's.
    """

    policy: str
    baseline: str
    metric: str
    load: float
    pairs: int
    difference: float
    difference_low: float
    difference_high: float
    relative_difference: float
    low: float
    high: float
    p_value: float
    p_value_holm: float
    probability_of_improvement: float
    probability_low: float
    probability_high: float
    policy_interquartile_mean: float
    baseline_interquartile_mean: float


def compare_metrics(
    policy: str,
    baseline: str,
    load: float,
    metrics: Sequence[str],
    values: FloatArray,
    baseline_values: FloatArray,
    lower_is_better: Sequence[bool],
    seed: int = 0,
) -> list[Comparison]:
    """Compare two policies in several metrics.

    Args:
        policy: name of the one.
        baseline: name of the other.
        load: offered load.
        metrics: M keys.
        values: (M, n), one value per metric and seed.
        baseline_values: (M, n), the baseline's of the same seeds.
        lower_is_better: for each metric.
        seed: of the resampling.

    Returns:
        one comparison per metric; `p_value_holm` is NaN until `correct` has seen the whole family.

    Raises:
        ValueError: the two do not pair up.
    """
    intervals = difference_intervals(values, baseline_values, seed)
    comparisons = []
    for row, metric in enumerate(metrics):
        present = ~(np.isnan(values[row]) | np.isnan(baseline_values[row]))
        ours, theirs = values[row, present], baseline_values[row, present]
        gain = theirs - ours if lower_is_better[row] else ours - theirs
        comparisons.append(
            Comparison(
                policy,
                baseline,
                metric,
                load,
                len(ours),
                *(float(end) for end in intervals[0, row]),
                *(float(end) for end in intervals[1, row]),
                signed_rank_test(ours - theirs),
                math.nan,
                *probability_of_improvement(gain),
                interquartile_mean(ours),
                interquartile_mean(theirs),
            )
        )
    return comparisons


def difference_intervals(values: FloatArray, baseline: FloatArray, seed: int = 0) -> FloatArray:
    """Differences of the means over the pairs, absolute and relative, with percentile bootstrap intervals.

    Args:
        values: (M, n), one value per metric and seed.
        baseline: (M, n), the values of the same seeds.
        seed: of the resampling.

    Returns:
        (2, M, 3): absolute and relative, by metric, the difference and the ends of its 95 % interval. NaN where there
        is none: a single pair has no interval, and nothing is relative to 0, be it of all pairs or of a resample.

    Raises:
        ValueError: the two do not pair up.

    Example:
        >>> difference_intervals(np.array([[1.0, 2.0, 3.0]]), np.array([[2.0, 4.0, 6.0]]))[1].tolist()
        [[-0.5, -0.5, -0.5]]
    """
    if values.shape != baseline.shape:
        raise ValueError(f"{values.shape} values against {baseline.shape}: paired by seed, so as many of each")
    result = np.full((2, len(values), 3), math.nan)
    present = ~(np.isnan(values) | np.isnan(baseline))
    patterns, pattern = np.unique(present, axis=0, return_inverse=True)
    for index, seeds in enumerate(patterns):  # metrics that have the same seeds are resampled together
        if seeds.any():
            rows = pattern.reshape(-1) == index
            result[:, rows] = _difference_intervals(values[rows][:, seeds], baseline[rows][:, seeds], seed)
    return result


def _difference_intervals(values: FloatArray, baseline: FloatArray, seed: int) -> FloatArray:
    def statistic(ours: FloatArray, theirs: FloatArray, axis: int = -1) -> FloatArray:
        mean = theirs.mean(axis=axis)
        difference = ours.mean(axis=axis) - mean
        return np.stack([difference, difference / np.where(mean == 0, np.nan, mean)])

    point = statistic(values, baseline)
    if values.shape[1] < 2:
        nothing = np.full_like(point, math.nan)
        return np.stack([point, nothing, nothing], axis=-1)
    with warnings.catch_warnings():
        # Where some resample of the baseline is all zeros there is no interval, and the NaN says so.
        warnings.simplefilter("ignore", scipy.stats.DegenerateDataWarning)
        interval = scipy.stats.bootstrap(
            (values, baseline),
            statistic,
            paired=True,
            vectorized=True,
            axis=-1,
            n_resamples=RESAMPLES,
            batch=1000,
            confidence_level=CONFIDENCE,
            method="percentile",
            rng=np.random.default_rng(seed),
        ).confidence_interval
    return np.stack([point, interval.low, interval.high], axis=-1)


def mean_intervals(values: FloatArray, seed: int = 0) -> FloatArray:
    """Means over the seeds with percentile bootstrap intervals.

    Args:
        values: (M, n), one value per metric and seed; NaN where a seed lacks the metric.
        seed: of the resampling.

    Returns:
        (M, 3): the mean and the ends of its 95 % interval, NaN where there is none.
    """
    return difference_intervals(values, np.where(np.isnan(values), np.nan, 0.0), seed)[0]


def signed_rank_test(differences: FloatArray) -> float:
    """The p value of Wilcoxon's signed-rank test that neither policy tends to be better, two-sided.

    The test of choice for some twenty pairs: its null distribution is exact (2^n sign patterns, so 20 seeds can reach
    2e-6, far below what Holm's correction asks of a large family, and 5 seeds never reach 0.05), and ranks keep one
    overloaded seed from deciding. A t test would assume normal differences, which waits are far from; resampling the
    signs at random cannot tell p values below the number of draws apart. It is a test of the differences' typical
    sign and size, not of the means: where few seeds make the mean, interval and test may disagree, and both are shown.

    Pairs without a difference say nothing and are left out; where none differs the result is 1. Among equally large
    differences scipy enumerates the permutations up to 13 pairs and approximates beyond.

    Args:
        differences: (n,), one per seed.
    """
    if len(differences) < 2:
        return math.nan
    differing = differences[differences != 0]
    return float(scipy.stats.wilcoxon(differing).pvalue) if len(differing) else 1.0


def probability_of_improvement(gain: FloatArray) -> tuple[float, float, float]:
    """How probable it is that the policy beats the baseline on a further seed.

    P(better) + P(equal) / 2 over the pairs: the paired form of what Agarwal et al., "Deep reinforcement learning at
    the edge of the statistical precipice" (2021), average over tasks. The interval is Wilson's for a share, not a
    bootstrap one, which would be a single point where a policy wins on all of 20 seeds. Seeds on which both are equal
    count as lost for its lower end and as won for its upper end: they decide nothing.

    Args:
        gain: (n,), by how much the policy is better on each seed.

    Returns:
        the probability and the ends of its 95 % interval; NaN without pairs.

    Example:
        >>> probability, low, high = probability_of_improvement(np.array([1.0, 2.0, -1.0, 0.0]))
        >>> probability
        0.625
    """
    pairs = len(gain)
    if pairs == 0:
        return math.nan, math.nan, math.nan
    won, equal = int(np.sum(gain > 0)), int(np.sum(gain == 0))
    low = scipy.stats.binomtest(won, pairs).proportion_ci(CONFIDENCE, method="wilson").low
    high = scipy.stats.binomtest(won + equal, pairs).proportion_ci(CONFIDENCE, method="wilson").high
    return (won + equal / 2) / pairs, float(low), float(high)


def interquartile_mean(values: FloatArray) -> float:
    """Mean of what is left without the lowest and the highest quarter of the values; NaN without values.

    Example:
        >>> interquartile_mean(np.array([0.0, 1.0, 3.0, 1000.0]))
        2.0
    """
    return float(scipy.stats.trim_mean(values, QUARTER)) if len(values) else math.nan


def holm(p_values: FloatArray) -> FloatArray:
    """Holm's step-down correction: (m,) p values of one family to (m,) adjusted ones; NaN stays and is not counted.

    The smallest is multiplied by m, the next by m - 1, and so on; none is adjusted below one that was smaller.
    Source: Holm, "A simple sequentially rejective multiple test procedure" (1979).
    """
    adjusted = np.full(len(p_values), math.nan)
    known = np.flatnonzero(~np.isnan(p_values))
    ascending = known[np.argsort(p_values[known], kind="stable")]
    factors = np.arange(len(ascending), 0, -1)
    adjusted[ascending] = np.minimum(np.maximum.accumulate(p_values[ascending] * factors), 1.0)
    return adjusted


def correct(comparisons: Sequence[Comparison]) -> list[Comparison]:
    """The same comparisons with `p_value_holm`: all those in one metric, at whatever load, are one family."""
    families: dict[str, list[int]] = defaultdict(list)
    for index, entry in enumerate(comparisons):
        families[entry.metric].append(index)
    corrected = list(comparisons)
    for family in families.values():
        adjusted = holm(np.array([comparisons[index].p_value for index in family]))
        for index, value in zip(family, adjusted, strict=True):
            corrected[index] = replace(comparisons[index], p_value_holm=float(value))
    return corrected
