"""How long a pod may wait, by its priority: what evaluation counts as a violation and training can avoid.

Promises are made to classes of priorities: a class reaches from its lowest priority to the next class. Pods below all
of them are promised nothing.
"""

import math
from collections.abc import Mapping

import numpy as np

from extender.placement import IntArray
from training.workloads.base import FloatArray

SERVICE_LEVELS = {0: 3600.0, 1000: 300.0}
"""The longest wait that is promised, in seconds, by the lowest priority it is promised to: best effort, ordinary."""


def service_classes(priority: IntArray, service_levels: Mapping[int, float]) -> IntArray:
    """Class of each pod: 0 is promised nothing, 1 the lowest of the levels, and so on; (P,) int64.

    Example:
        >>> service_classes(np.array([-5, 0, 999, 1000]), SERVICE_LEVELS)
        array([0, 1, 1, 2])
    """
    levels = np.array(sorted(service_levels), dtype=np.int64)
    return np.searchsorted(levels, priority, side="right")


def promised_waits(priority: IntArray, service_levels: Mapping[int, float]) -> FloatArray:
    """The longest wait that each pod is promised; (P,) float64 seconds, infinity where nothing is promised.

    Example:
        >>> promised_waits(np.array([-5, 0, 1000]), SERVICE_LEVELS)
        array([  inf, 3600.,  300.])
    """
    promised = np.array([math.inf, *(service_levels[level] for level in sorted(service_levels))])
    return promised[service_classes(priority, service_levels)]
