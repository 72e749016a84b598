"""What an episode is worth: the terms of the return, and the price of broken promises that is learned.

The return of an episode is minus its costs: waiting, idle GPUs, money, broken promises, useless devices, each with a
weight. `shaped` pays them as they arise, and adds the change of a potential (fragmentation), which does not change what
is best: over an episode the changes add up to minus the potential of its start, whatever is done (Ng, Harada and
Russell 1999). `sparse` pays the same costs at the end. Rewards are computed in `simulator.stepping`.

A limit on the share of broken promises is kept by a Lagrange multiplier: the price of a broken promise rises while
there are more than the limit allows, and falls otherwise (dual ascent).
"""

from dataclasses import dataclass
from typing import Annotated

from pydantic import Field


@dataclass
class RewardWeights:
    """What the terms of the return weigh: prices, which a reward is minus the sum of."""

    waiting: Annotated[float, Field(ge=0, description="price of a pod's waiting for env.waiting_unit_seconds")] = 1.0
    allocation: Annotated[
        float,
        Field(ge=0, description="price of all GPUs' idling for env.waiting_unit_seconds; without GPUs, of all CPUs'"),
    ] = 0.0
    cost: Annotated[float, Field(ge=0, description="price of one unit of money spent on nodes that are not empty")] = (
        0.0
    )
    violations: Annotated[
        float, Field(ge=0, description="price of a pod's waiting longer than env.service_levels promise")
    ] = 0.0
    fragmentation: Annotated[
        float,
        Field(ge=0, description="price of a free device's being useless to typical pods for env.waiting_unit_seconds"),
    ] = 0.0


def ascended(multiplier: float, share: float, limit: float, step: float, at_most: float) -> float:
    """The multiplier after a step of dual ascent: higher where more promises are broken than the limit allows.

    Args:
        multiplier: before, at least 0.
        share: of the promises that were broken, 0..1.
        limit: of this share.
        step: how far to go for a whole share of 1.
        at_most: where it stops: where no policy keeps the limit, it would rise for ever.

    Example:
        >>> ascended(0.5, share=0.15, limit=0.05, step=2.0, at_most=10.0), ascended(0.1, 0.0, 0.05, 4.0, 10.0)
        (0.7, 0.0)
    """
    return min(max(0.0, multiplier + step * (share - limit)), at_most)
