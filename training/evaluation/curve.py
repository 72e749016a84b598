"""What a learning curve is made of."""

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class CurvePoint:
    """One point of a learning curve; what was not measured at it is NaN.

    Attributes:
        steps: decisions taken.
        seconds: since the start.
        mean_return: of recent training episodes.
        mean_wait_seconds: of a pod in them.
        violations: share of the promises that they broke.
        violation_multiplier: the learned price of a broken promise.
        held_out_return: of episodes that are never learned from, played greedily.
        held_out_wait_seconds: of a pod in them.
        held_out_violations: share of the promises broken in them.
    """

    steps: int
    seconds: float
    mean_return: float
    mean_wait_seconds: float
    violations: float = math.nan
    violation_multiplier: float = math.nan
    held_out_return: float = math.nan
    held_out_wait_seconds: float = math.nan
    held_out_violations: float = math.nan
