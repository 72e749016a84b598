"""Honest comparisons: paired by seed, with bootstrap intervals. Distributions and resampling are scipy's."""

import math
import warnings
from dataclasses import dataclass

import numpy as np
from scipy.stats import DegenerateDataWarning, bootstrap

from training.workloads.base import FloatArray

RESAMPLES = 9999
CONFIDENCE = 0.95


@dataclass(frozen=True)
class Comparison:
    """A policy against a baseline in one metric at one load.

    Attributes:
        policy: its name.
        baseline: what it is compared with.
        metric: key of `metrics.METRICS`.
        load: offered load.
        relative_difference: (policy - baseline) / baseline of the means; -0.25 is 25 % less. NaN for a baseline of 0.
        low: lower end of its 95 % interval.
        high: upper end.
    """

    policy: str
    baseline: str
    metric: str
    load: float
    relative_difference: float
    low: float
    high: float


def relative_difference(policy: FloatArray, baseline: FloatArray, seed: int = 0) -> tuple[float, float, float]:
    """Relative difference of the means, with a percentile bootstrap interval over the pairs.

    Args:
        policy: (n,) one value per seed.
        baseline: (n,) the values of the same seeds.
        seed: of the resampling.

    Returns:
        the difference, and the ends of its 95 % interval; NaN where there is none: a single pair, or a baseline that is
        0 in every pair of some resample.

    Raises:
        ValueError: the two do not pair up.

    Example:
        >>> relative_difference(np.array([1.0, 2.0, 3.0]), np.array([2.0, 4.0, 6.0]))
        (-0.5, -0.5, -0.5)
    """
    if policy.shape != baseline.shape:
        raise ValueError(f"{policy.shape} values against {baseline.shape}: paired by seed, so as many of each")
    present = ~(np.isnan(policy) | np.isnan(baseline))
    policy, baseline = policy[present], baseline[present]
    if len(policy) < 2 or baseline.mean() == 0:
        return math.nan, math.nan, math.nan

    def statistic(ours: FloatArray, theirs: FloatArray, axis: int = -1) -> FloatArray:
        mean = theirs.mean(axis=axis)
        return (ours.mean(axis=axis) - mean) / np.where(mean == 0, np.nan, mean)

    with warnings.catch_warnings():
        # Where some resample of the baseline is all zeros there is no interval, and the NaN says so.
        warnings.simplefilter("ignore", DegenerateDataWarning)
        interval = bootstrap(
            (policy, baseline),
            statistic,
            paired=True,
            vectorized=True,
            n_resamples=RESAMPLES,
            confidence_level=CONFIDENCE,
            method="percentile",
            rng=np.random.default_rng(seed),
        ).confidence_interval
    return float(statistic(policy, baseline)), float(interval.low), float(interval.high)
