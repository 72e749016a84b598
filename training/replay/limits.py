"""What of a replay's figures is the harness, the API server or the machine, and not the scheduler.

All of it in seconds of the machine; `Limits.in_trace` says what that is in the trace, where one second is `speed`.
"""

import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from training.replay.records import Records
from training.workloads.base import FloatArray

LATE_SECONDS = 0.25
"""Half-way to what a person would call late; how many pods were submitted later is counted."""


@dataclass(frozen=True)
class Limits:
    """Of one run; NaN where there is nothing to say.

    Attributes:
        late_median, late_p99, late_worst: how long after its time a pod's request went out.
        late_pods: how many were later than `LATE_SECONDS`.
        creating_median, creating_p99: how long such a request took.
        placing_mean, placing_median, placing_p99: from the news that a pod exists to the news that it is bound, over
            pods that arrived while nobody waited: what the scheduler itself needs, the least that any wait here can be.
        placing_among_others: the mean over the counted pods that found room at once, also while others waited.
        starting_median: from bound to running, which is KWOK.
        overrun_mean: by how much longer than its duration the mean pod held its node.
        skew_low, skew_high: between these the API server's clock is ahead of the one here.
        watch_lag_median: how long the news of a binding took, by kube-scheduler's event, if both clocks are the same.
        wait_difference: mean wait by the API server's timestamps less the one measured, over pods that have both.
        wait_difference_error: two standard errors of that difference, which whole seconds alone make.
        throttled, repeated: requests answered 429, and requests made again for another reason.
        interruptions: how often the watch was lost, so that news may have come late.
        failed: pods that ended otherwise than by success.
        overbooked: pods on nodes that had no devices for them, though their sums did.
    """

    late_median: float
    late_p99: float
    late_worst: float
    late_pods: int
    creating_median: float
    creating_p99: float
    placing_mean: float
    placing_median: float
    placing_p99: float
    placing_among_others: float
    starting_median: float
    overrun_mean: float
    skew_low: float
    skew_high: float
    watch_lag_median: float
    wait_difference: float
    wait_difference_error: float
    throttled: int
    repeated: int
    interruptions: int
    failed: int
    overbooked: int

    @property
    def attempt(self) -> float:
        """How long kube-scheduler tries a pod that it places, as far as that can be told from outside.

        Placing is an attempt and a request that binds, which takes the API server as long as one that creates a pod.
        """
        return max(0.0, np.nan_to_num(self.placing_median - self.creating_median))

    @property
    def failed_attempt(self) -> float:
        """How long one in vain takes: kube-scheduler notes in the pod's status why, and waits for the API server.

        Source: pkg/scheduler/schedule_one.go (handleSchedulingFailure, updatePod); `SchedulerAsyncAPICalls`, which
        would not wait, is off by default (1.34 to 1.36).
        """
        return self.attempt + float(np.nan_to_num(self.creating_median))

    def to_json(self) -> dict[str, Any]:
        """By name; NaN becomes null."""
        return {
            name: None if isinstance(value, float) and math.isnan(value) else value
            for name, value in asdict(self).items()
        }

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> "Limits":
        """The reverse of `to_json`."""
        return cls(**{name: math.nan if value is None else value for name, value in content.items()})


def limits_of(
    records: Records,
    duration: FloatArray,
    throttled: int,
    repeated: int,
    interruptions: int,
    overbooked: int,
    warm_up: float = 0.0,
) -> Limits:
    """Summarise a run.

    Args:
        records: what happened.
        duration: (P,) seconds on the machine that each pod was to run.
        throttled: requests answered 429.
        repeated: requests made again for another reason.
        interruptions: of the watch.
        overbooked: see `Limits`.
        warm_up: share of the pods, the first ones, whose waits are not counted.
    """
    counted = np.arange(len(records)) >= int(warm_up * len(records))
    late = np.maximum(records.sent - records.planned, 0.0)
    creating = records.answered - records.sent
    placing = (records.bound - records.created)[arrived_at_once(records)]
    low, high = clock_skew(records.created_stamp, records.sent_wall, records.answered_wall)
    stamped = (records.bound_stamp - records.created_stamp) - (records.bound - records.created)
    stamped = stamped[~np.isnan(stamped)]
    return Limits(
        late_median=_quantile(late, 0.5),
        late_p99=_quantile(late, 0.99),
        late_worst=_quantile(late, 1.0),
        late_pods=int(np.sum(late > LATE_SECONDS)),
        creating_median=_quantile(creating, 0.5),
        creating_p99=_quantile(creating, 0.99),
        placing_mean=_mean(placing),
        placing_median=_quantile(placing, 0.5),
        placing_p99=_quantile(placing, 0.99),
        placing_among_others=_mean((records.bound - records.created)[found_room_at_once(records, counted)]),
        starting_median=_quantile(records.running - records.bound, 0.5),
        overrun_mean=_mean((records.ended - records.bound - duration)[~records.failed]),
        skew_low=low,
        skew_high=high,
        watch_lag_median=_quantile(records.bound_wall - records.event_stamp, 0.5),
        wait_difference=_mean(stamped),
        wait_difference_error=2 * float(stamped.std()) / math.sqrt(len(stamped)) if len(stamped) else math.nan,
        throttled=throttled,
        repeated=repeated,
        interruptions=interruptions,
        failed=int(records.failed.sum()),
        overbooked=overbooked,
    )


def clock_skew(stamp: FloatArray, sent: FloatArray, answered: FloatArray) -> tuple[float, float]:
    """By how much the API server's clock is ahead of the one here, at least and at most.

    A pod's creationTimestamp is the second in which the API server created it, and that was between request and answer:
    every pod leaves an interval of little more than a second, and what all of them leave is a few milliseconds.
    Where nothing is left, a clock was set meanwhile: the ends are then the wrong way round.

    Args:
        stamp: (P,) whole Unix seconds of the API server.
        sent: (P,) Unix seconds before each request, by the clock here.
        answered: (P,) and after its answer.

    Example:
        >>> clock_skew(np.array([7.0, 8.0]), np.array([5.2, 5.9]), np.array([5.3, 6.1]))
        (1.9000000000000004, 2.8)
    """
    if np.isnan(stamp - sent - answered).all():
        return math.nan, math.nan
    return float(np.nanmax(stamp - answered)), float(np.nanmin(stamp + 1.0 - sent))


def arrived_at_once(records: Records) -> np.ndarray:
    """Which pods arrived while no other waited for more than the moment that placing takes."""
    count = len(records)
    order = np.argsort(records.created)  # NaN come last
    alone = np.zeros(count, np.bool_)
    busy_until = -math.inf
    for pod in order:
        if np.isnan(records.created[pod]):
            break
        alone[pod] = records.created[pod] >= busy_until and not np.isnan(records.bound[pod])
        busy_until = max(busy_until, math.inf if np.isnan(records.bound[pod]) else records.bound[pod])
    return found_room_at_once(records, alone)


def found_room_at_once(records: Records, among: np.ndarray | None = None) -> np.ndarray:
    """Which pods waited for the scheduler alone: no more than ten times as long as the median one.

    Others found no room, and waited for a pod to leave.

    Args:
        among: (P,) bool, the pods that are looked at; all where left out.
    """
    tried = np.where(True if among is None else among, records.bound - records.created, np.nan)
    at_once: np.ndarray = tried <= 10 * _quantile(tried, 0.5)
    return at_once


def _quantile(values: FloatArray, share: float) -> float:
    values = values[~np.isnan(values)]
    return float(np.quantile(values, share)) if len(values) else math.nan


def _mean(values: FloatArray) -> float:
    values = values[~np.isnan(values)]
    return float(values.mean()) if len(values) else math.nan
