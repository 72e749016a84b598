"""Reservations for pods that wait, with backfilling: the rule alone, as functions of amounts and times.

A pod of several whole GPUs that has waited long enough reserves a node: of those that could hold it, the one on which
enough running pods are believed to end soonest. Nobody else may use that node unless it is believed to end before
then. A pod of unknown duration is taken to run as long again as it has run so far, and never backfills. The simulator
plays the same rule (`training.simulator.reservations`); `cluster.reservations` keeps who has reserved what.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from extender.placement import WHOLE_DEVICE_MILLI, NodeArrays, PodRequest

NEVER = float("inf")


@dataclass(frozen=True)
class ReservationRule:
    """What the rule is told.

    Attributes:
        after_seconds: a pod may reserve when it has waited so long; 0 switches reservations off.
        gpus: it has to want at least so many whole GPUs.
        ttl_seconds: a reservation lapses after so long; the pod has to wait anew before it reserves again.
    """

    after_seconds: float
    gpus: int
    ttl_seconds: float

    def admits(self, request: PodRequest) -> bool:
        """Whether a pod that asks for this may reserve at all."""
        return self.after_seconds > 0.0 and request.gpu_milli == WHOLE_DEVICE_MILLI and request.gpu_count >= self.gpus

    def is_due(self, waited_seconds: float) -> bool:
        """Whether a pod has waited long enough."""
        return waited_seconds >= self.after_seconds


class RunningPod(NamedTuple):
    """A pod on a node: what it takes, on which devices (a bit mask), and when it is believed to end."""

    request: PodRequest
    taken: int
    end: float


def believed_end(began: float, expected_seconds: float, now: float) -> float:
    """When a running pod is believed to end, never in the past.

    Args:
        began: when it started; 0.0 if that is not known yet, which is taken for just now.
        expected_seconds: how long it is expected to run in all; 0.0 where nothing is known.

    Example:
        >>> believed_end(began=70.0, expected_seconds=50.0, now=100.0)
        120.0
        >>> believed_end(began=70.0, expected_seconds=0.0, now=100.0)
        130.0
        >>> believed_end(began=70.0, expected_seconds=10.0, now=100.0)
        100.0
    """
    started = began or now
    if expected_seconds == 0.0:
        return now + (now - started)
    return max(started + expected_seconds, now)


def delays(until: float, expected_seconds: float, now: float) -> bool:
    """Whether a pod that starts now would delay one for which the node is reserved until it is free enough."""
    return expected_seconds == 0.0 or now + expected_seconds > until


def free_enough_at(nodes: NodeArrays, row: int, wanted: PodRequest, running: Sequence[RunningPod], now: float) -> float:
    """When enough pods on the node are believed to have ended for this one; `NEVER` if it would not fit even then.

    Plain numbers instead of arrays: a node has a few resources, devices and pods, and thousands of nodes are looked at.

    Args:
        nodes: the rows.
        row: of the node.
        wanted: what the waiting pod asks for.
        running: every pod on the node.
        now: the present, on the clock of the pods' ends.
    """
    amounts = wanted.request.tolist()
    free = (nodes.allocatable[row] - nodes.requested[row]).tolist()
    devices = nodes.device_free[row].tolist()
    asked = [(resource, amount) for resource, amount in enumerate(amounts) if amount > 0]

    def fits() -> bool:
        if any(free[resource] < amount for resource, amount in asked):
            return False
        enough: bool = sum(left >= wanted.gpu_milli for left in devices) >= wanted.gpu_count
        return enough

    if fits():
        return now
    for pod in sorted(running, key=lambda pod: pod.end):
        for resource, amount in enumerate(pod.request.request.tolist()):
            free[resource] += amount
        for device in range(len(devices)):
            if pod.taken >> device & 1:
                devices[device] += pod.request.gpu_milli
        if fits():
            return pod.end
    return NEVER
