"""From what happened in a cluster to what the simulator's evaluation measures: the same `Outcome`, the same metrics.

Pods are put on the nodes on which they were seen, in the order in which they were, and taken off when they were seen to
end; the sums over time come from there. Times are seconds of the trace: those of the machine times the speed.

kube-scheduler adds up the thousandths of a node's GPUs. A pod that it put where the sum was enough but no devices were
(half of one and half of another) takes the devices there are, and is counted: with a real device plugin it would not
have started.
"""

import math
from dataclasses import dataclass, replace

import numpy as np

from extender.fragmentation import fragmentation, fragmentation_tables
from extender.placement import ANY_DEVICE, CPU, IntArray, NodeArrays, PodRequest, empty_nodes, occupy, release
from training.replay.records import Records
from training.simulator.scheduling import Outcome
from training.simulator.state import COST, EMPTY_NODES, FRAGMENTED, NOWHERE, RESOURCES, WAITING
from training.workloads.base import FloatArray, Workload

SECONDS_AN_HOUR = 3600.0
LEAVES, ARRIVES, STARTS = range(3)  # of what happens in the same instant, in this order


@dataclass(frozen=True)
class Course:
    """What became of the pods of a workload, in seconds of the trace.

    Attributes:
        arrival: (P,) float64, ascending.
        started: (P,) float64, NaN for a pod that found no node.
        finished: (P,) float64, NaN for a pod that found no node; later than `end` for one that was still running.
        node: (P,) int64, NOWHERE for none.
        end: when the run ended.
    """

    arrival: FloatArray
    started: FloatArray
    finished: FloatArray
    node: IntArray
    end: float


@dataclass(frozen=True)
class Occupancy:
    """A course as the metrics want it.

    Attributes:
        outcome: what `evaluation.metrics.measure` takes.
        overbooked: (P,) bool, whether the pod was put on a node without enough devices.
    """

    outcome: Outcome
    overbooked: np.ndarray


def course_of(records: Records, workload: Workload, speed: float, end: float) -> tuple[Workload, Course]:
    """What happened, in seconds of the trace, and the workload with its pods in the order in which they really came.

    Args:
        records: of a run, in seconds of the machine.
        workload: what was played.
        speed: seconds of the trace in a second.
        end: seconds of the machine, when the run ended.
    """
    order = np.argsort(records.created, kind="stable")
    order = order[~np.isnan(records.created[order])]
    arrival, started = records.created[order] * speed, records.bound[order] * speed
    still = np.isnan(records.ended[order])
    finished = np.where(still, started + workload.duration[order], records.ended[order] * speed)
    finished = np.where(still & (finished <= end * speed), np.nextafter(end * speed, math.inf), finished)
    finished[np.isnan(started)] = np.nan
    played = replace(
        workload,
        **{name: getattr(workload, name)[order] for name in ("shape", "duration", "priority", "expected")},
        arrival=arrival,
    )
    return played, Course(arrival, started, finished, records.node[order], end * speed)


def course_of_outcome(workload: Workload, outcome: Outcome) -> Course:
    """What the simulator played, in the same form."""
    end = float(outcome.times[-1])
    return Course(workload.arrival, outcome.started, outcome.finished, outcome.node, end)


def occupancy(workload: Workload, course: Course, devices: IntArray | None = None) -> Occupancy:
    """Put the pods on their nodes once more, and add up over time.

    Args:
        workload: its pods in the order of the course.
        course: where they were, and when.
        devices: (P,) int64, the device that each pod shared, `ANY_DEVICE` for the tightest.
    """
    nodes = empty_nodes(workload.allocatable, workload.devices, workload.model)
    tables = fragmentation_tables(workload.typical)
    count = len(course.arrival)
    sums = np.zeros(RESOURCES + workload.allocatable.shape[1])
    rates = np.zeros_like(sums)
    wasted = np.zeros(len(workload.allocatable))
    on_node = np.zeros(len(workload.allocatable), np.int64)
    taken = np.zeros(count, np.int64)
    overbooked = np.zeros(count, np.bool_)
    integrals = np.zeros((count + 1, len(sums)))

    def measure_node(row: int) -> None:
        free = nodes.allocatable[row, CPU] - nodes.requested[row, CPU]
        wasted[row] = float(fragmentation(tables, nodes.model[row], free, nodes.device_free[row])) / 1000.0

    for row in range(len(wasted)):
        measure_node(row)
    rates[FRAGMENTED], rates[EMPTY_NODES] = wasted.sum(), len(wasted)
    now = 0.0
    for moment, kind, pod in _events(course):
        sums += (moment - now) * rates
        now = moment
        row = int(course.node[pod])
        if kind == ARRIVES:
            integrals[pod] = sums
            rates[WAITING] += 1
            continue
        request = request_of(workload, pod)
        sign = 1 if kind == STARTS else -1
        if kind == STARTS:
            rates[WAITING] -= 1
            taken[pod] = put(nodes, request, row, ANY_DEVICE if devices is None else int(devices[pod]))
            overbooked[pod] = int(taken[pod]).bit_count() < request.gpu_count
        else:
            release(nodes, request, row, int(taken[pod]))
        before = wasted[row]
        measure_node(row)
        rates[FRAGMENTED] += wasted[row] - before
        rates[RESOURCES:] += sign * request.request
        on_node[row] += sign
        if on_node[row] == (1 if kind == STARTS else 0):
            rates[EMPTY_NODES] -= sign
            rates[COST] += sign * workload.price[row] / SECONDS_AN_HOUR
    integrals[count] = sums + (course.end - now) * rates
    waiting = np.isnan(course.started)
    outcome = Outcome(
        started=course.started,
        finished=course.finished,
        waited=np.where(waiting, course.end, course.started) - course.arrival,
        node=course.node,
        preempted=np.zeros(count, np.int64),
        times=np.append(course.arrival, course.end),
        integrals=integrals,
    )
    return Occupancy(outcome, overbooked)


def put(nodes: NodeArrays, request: PodRequest, row: int, device: int) -> int:
    """Put a pod on a node, on a device if there is room on it; returns what `release` wants."""
    if device != ANY_DEVICE and nodes.device_free[row, device] < request.gpu_milli:
        device = ANY_DEVICE
    return occupy(nodes, request, row, device)


def request_of(workload: Workload, pod: int) -> PodRequest:
    """What a pod asks for."""
    shapes, shape = workload.shapes, workload.shape[pod]
    return PodRequest(
        shapes.request[shape],
        shapes.nonzero[shape],
        int(shapes.gpu_count[shape]),
        int(shapes.gpu_milli[shape]),
        int(workload.priority[pod]),
        float(workload.expected[pod]),
    )


def _events(course: Course) -> list[tuple[float, int, int]]:
    events = [(float(moment), ARRIVES, pod) for pod, moment in enumerate(course.arrival)]
    for pod in np.flatnonzero((course.node != NOWHERE) & ~np.isnan(course.started)):
        begun, over = float(course.started[pod]), float(course.finished[pod])
        events.append((begun, STARTS, int(pod)))
        # The watch may tell of the end together with the beginning, and of both before the run's first moment.
        events.append((max(over, np.nextafter(begun, math.inf)), LEAVES, int(pod)))
    return sorted(event for event in events if event[0] <= course.end)
