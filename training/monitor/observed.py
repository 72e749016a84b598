"""What became of the pods of a decision log, period by period: how long they waited, how many GPUs were in use.

The simulator plays the same pods (`evaluation.periods`); here is what happened. Both count the same pods over the same
time, those that came in a period, so that one can stand beside the other. Of some pods the log does not say what became
of them: the extender was restarted, or forgot them, before they were bound. They are counted as such, and are in no
mean.
"""

import math
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from extender.decision import Rung
from extender.telemetry.decision_records import BoundRecord, DecisionRecord, EndedRecord, PodRecord, UnaskedRecord
from training.workloads.arrivals import DAY_SECONDS
from training.workloads.base import BoolArray, FloatArray, IntArray
from training.workloads.distribution import Durations, features_of, relative_gaps
from training.workloads.periods import Period
from training.workloads.recorded import came, named_after, read_records
from training.workloads.tables import TraceError


@dataclass(frozen=True)
class Observed:
    """P pods by their arrival; times are seconds since the midnight that `recorded` counts from.

    Attributes:
        midnight: that midnight, Unix seconds.
        end: when the last line was written.
        arrival: (P,) when they came.
        started: (P,) when they were bound; NaN for those that were not, or of which that is not known.
        left: (P,) when they ended or were deleted; NaN before.
        answered: (P,) whether kube-scheduler was told the policy's own answer for it.
        request: (P, 3) base units.
        gpu_count: (P,) devices.
        gpu_milli: (P,) thousandths of each.
        priority: (P,).
    """

    midnight: float
    end: float
    arrival: FloatArray
    started: FloatArray
    left: FloatArray
    answered: BoolArray
    request: IntArray
    gpu_count: IntArray
    gpu_milli: IntArray
    priority: IntArray

    def stretched(self, speed: float) -> "Observed":
        """The same in the time of what was replayed at so many times its speed."""
        times = {name: getattr(self, name) * speed for name in ("end", "arrival", "started", "left")}
        return replace(self, **times)

    def came_within(self, begin: float, end: float) -> BoolArray:
        """Which pods came then."""
        within: BoolArray = (self.arrival >= begin) & (self.arrival < end)
        return within

    def features(self, begin: float, end: float) -> dict[str, FloatArray]:
        """What `workloads.distribution` compares, of the pods that came then, but their durations."""
        here = self.came_within(begin, end)
        return features_of(self.request[here], self.gpu_count[here], self.gpu_milli[here], self.priority[here]) | {
            "interarrival": relative_gaps(self.arrival[here]),
        }

    def durations(self, begin: float, end: float) -> Durations:
        """How long the pods that came then have run, those that were seen to start."""
        here = self.came_within(begin, end) & ~np.isnan(self.started)
        ended = ~np.isnan(self.left[here])
        until = np.where(ended, self.left[here], self.end)
        return Durations(np.maximum(until - self.started[here], 0.0), ended)


@dataclass(frozen=True)
class Experience:
    """What became of the pods of a period.

    Attributes:
        pods: how many came.
        answered: share of them for which kube-scheduler was told the policy's own answer.
        unknown: how many of them nothing more is known of.
        mean_wait_seconds: of the others; those that still wait, or left without a node, count with that. NaN for none.
        gpu_allocation: share of the GPUs in use from the first of these arrivals to the last; NaN without GPUs.
    """

    pods: int
    answered: float
    unknown: int
    mean_wait_seconds: float
    gpu_allocation: float


def read_observed(folder: Path, policy: str) -> Observed:
    """Read what became of the pods of a decision log.

    Args:
        folder: holds the log.
        policy: digest of the policy, or "heuristic:NAME".

    Raises:
        TraceError: there is no log, no decision in it, or a line is no record.
    """
    first: dict[str, PodRecord] = {}
    answered: set[str] = set()
    bound: dict[str, BoundRecord] = {}
    ended: dict[str, EndedRecord] = {}
    end = -math.inf
    for record in read_records(folder):
        if record is None:
            continue
        end = max(end, record.time)
        if isinstance(record, DecisionRecord):
            if record.tried:
                continue
            uid = record.uid or f"{record.namespace}/{record.pod}"
            first.setdefault(uid, record)
            if record.rung == Rung.POLICY and record.policy == policy:
                answered.add(uid)
        elif isinstance(record, UnaskedRecord):
            first.setdefault(record.uid, record)
        elif isinstance(record, BoundRecord):
            bound.setdefault(record.uid, record)
        else:
            ended[record.uid] = record
    if not first:
        raise TraceError(f"{named_after(folder)}: there is no decision in it")
    arrival = np.array([came(asked, bound.get(uid)) for uid, asked in first.items()])
    midnight = float(arrival.min() // DAY_SECONDS * DAY_SECONDS)
    started = np.array([_started(bound.get(uid), ended.get(uid)) for uid in first])
    left = np.array([ended[uid].time if uid in ended else math.nan for uid in first])
    order = np.argsort(arrival, kind="stable")
    records = list(first.values())
    return Observed(
        midnight,
        end - midnight,
        arrival[order] - midnight,
        started[order] - midnight,
        left[order] - midnight,
        np.array([uid in answered for uid in first])[order],
        np.array([record.request[:3] for record in records])[order],
        np.array([record.gpu_count for record in records])[order],
        np.array([record.gpu_milli for record in records])[order],
        np.array([record.priority for record in records])[order],
    )


def _started(bound: BoundRecord | None, ended: EndedRecord | None) -> float:
    """When a pod got its node, Unix seconds; where the binding was missed, when its kubelet started it."""
    if bound is not None:
        return bound.time
    return ended.time - ended.duration if ended is not None and ended.duration > 0 else math.nan


def experience(observed: Observed, period: Period) -> Experience:
    """What became of the pods that came in this period."""
    here = observed.came_within(period.begin, period.end)
    arrival, started, left = observed.arrival[here], observed.started[here], observed.left[here]
    until = np.where(np.isnan(started), left, started)
    known = ~np.isnan(until)
    waits = (until - arrival)[known]
    return Experience(
        int(here.sum()),
        float(observed.answered[here].mean()) if here.any() else math.nan,
        int((~known).sum()),
        float(np.maximum(waits, 0.0).mean()) if known.any() else math.nan,
        _allocation(observed, arrival, float(period.workload.devices.sum())),
    )


def _allocation(observed: Observed, arrival: FloatArray, devices: float) -> float:
    if len(arrival) < 2 or devices == 0 or arrival[-1] <= arrival[0]:
        return math.nan
    begin, end = float(arrival[0]), float(arrival[-1])
    placed = ~np.isnan(observed.started)
    gone = np.where(np.isnan(observed.left), math.inf, observed.left)[placed]
    seconds = np.minimum(gone, end) - np.maximum(observed.started[placed], begin)
    gpus = (observed.gpu_count * observed.gpu_milli)[placed] / 1000.0
    return float(np.sum(np.maximum(seconds, 0.0) * gpus) / ((end - begin) * devices))
