"""Outcomes for tests, made by hand from what pods waited."""

import numpy as np
from numpy.typing import ArrayLike

from training.simulator.scheduling import Outcome
from training.simulator.state import RESOURCES
from training.workloads.base import Workload


def outcome_of(
    workload: Workload,
    waited: list[float],
    *,
    started: ArrayLike | None = None,
    finished: ArrayLike | None = None,
    preempted: ArrayLike | None = None,
    end: float | None = None,
    rates: dict[int, float] | None = None,
) -> Outcome:
    """What became of pods that waited so long and then ran through.

    Args:
        workload: the pods.
        waited: seconds, one per pod.
        started: if not after the wait; NaN for a pod that never started.
        finished: if not a duration after the start.
        preempted: evictions, none if left out.
        end: of the episode; the latest start if left out.
        rates: by position in `Outcome.integrals`, what adds up a second; nothing elsewhere.
    """
    starts = workload.arrival + waited if started is None else np.array(started, float)
    ends = starts + workload.duration if finished is None else np.array(finished, float)
    last = max(float(np.nanmax(starts)), float(workload.arrival[-1])) if end is None else end
    times = np.append(np.minimum(workload.arrival, last), last)
    per_second = np.zeros(RESOURCES + len(workload.resources))
    for position, rate in (rates or {}).items():
        per_second[position] = rate
    return Outcome(
        started=starts,
        finished=ends,
        waited=np.array(waited, float),
        node=np.where(np.isnan(starts), -1, 0),
        preempted=np.zeros(len(workload), np.int64) if preempted is None else np.array(preempted),
        times=times,
        integrals=times[:, None] * per_second,
    )
