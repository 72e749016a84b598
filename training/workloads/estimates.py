"""What the scheduler believes how long a pod will run.

Between knowing nothing and knowing all lies what users and predictors achieve: the usual duration of pods like this
one, with an error, and now and then far off. A policy or queue order that only works with exact durations shows here.
"""

from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from extender.placement import IntArray

FloatArray = NDArray[np.float64]

SEEN_AT_LEAST = 5  # pods of a shape, before its own median is better than that of its class
ERROR_SIGMA = 0.5  # of the log-normal error: two thirds of the estimates within a factor of 1.65
WILDLY_WRONG_SHARE = 0.1
WILD_DECADES = (1.0, 2.0)  # wildly wrong is off by a factor of 10 to 100, too much as often as too little


class DurationKnowledge(StrEnum):
    """What is known of durations: nothing, everything, an estimate from history, or what the pods were recorded with.

    The last is for traces whose pods carry an announcement (the annotation stowage.dev/expected-seconds, or the
    column expected_seconds of the CSV form).
    """

    NONE = "none"
    EXACT = "exact"
    ESTIMATED = "estimated"
    RECORDED = "recorded"


def estimated_durations(
    shape: IntArray, history_shape: IntArray, history: FloatArray, classes: IntArray, generator: np.random.Generator
) -> FloatArray:
    """Estimate by what pods of the same shape, or where these are few of the same class, usually took.

    One estimate in ten is wildly wrong.

    Args:
        shape: (P,) int64, the pods to estimate.
        history_shape: (H,) int64, pods that have ended.
        history: (H,) float64 seconds, how long they took.
        classes: (S,) int64, the class of each shape.
        generator: the only source of randomness.

    Returns:
        (P,) float64 seconds.
    """
    by_class = medians(classes[history_shape], history, int(classes.max()) + 1, at_least=1)
    by_shape = medians(history_shape, history, len(classes), at_least=SEEN_AT_LEAST)
    usual = np.where(np.isnan(by_shape), by_class[classes], by_shape)
    usual = np.where(np.isnan(usual), np.median(history), usual)[shape]
    error = np.exp(generator.normal(0.0, ERROR_SIGMA, len(shape)))
    wild = 10.0 ** (generator.uniform(*WILD_DECADES, len(shape)) * generator.choice([-1.0, 1.0], len(shape)))
    return usual * error * np.where(generator.random(len(shape)) < WILDLY_WRONG_SHARE, wild, 1.0)


def medians(group: IntArray, values: FloatArray, groups: int, at_least: int) -> FloatArray:
    """Median of the values of each group; (groups,) float64, NaN for groups with fewer than `at_least` values.

    Example:
        >>> medians(np.array([0, 2, 0, 0]), np.array([5.0, 7.0, 1.0, 3.0]), 3, at_least=1)
        array([ 3., nan,  7.])
    """
    order = np.lexsort((values, group))
    begin, end = (np.searchsorted(group[order], np.arange(groups), side=side) for side in ("left", "right"))
    counts = end - begin
    result = np.full(groups, np.nan)
    enough = np.flatnonzero(counts >= at_least)
    ordered = values[order]
    lower, upper = begin[enough] + (counts[enough] - 1) // 2, begin[enough] + counts[enough] // 2
    result[enough] = (ordered[lower] + ordered[upper]) / 2.0
    return result
