"""The simulator over again, the slow and obvious way: lists that are searched from end to end, sums taken anew.

Nothing is remembered that could be looked up: what is free on a node is what its pods leave, and every attempt is
played. The queue is written from kube-scheduler's source (pkg/scheduler/backend/queue: active_queue.go unlockedPop,
backoff_queue.go getBackoffTime and isPodBackingoff, scheduling_queue.go), preemption from default_preemption.go and
preemption.go (pickOneNodeForPreemption), the search for nodes from schedule_one.go (findNodesThatPassFilters). Scores
are those of the extender's rules on arrays.

As in the simulator, a pod that leaves a node brings back who fits there, rather than everybody; and whatever happens
brings back those whom reservations kept away.
"""

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from extender.fragmentation import fragmentation, fragmentation_tables
from extender.placement import (
    ABSENT_DEVICE,
    ANY_DEVICE,
    CPU,
    GPU_POD_CLASSES,
    WHOLE_DEVICE_MILLI,
    Candidates,
    NodeArrays,
    PodRequest,
)
from extender.policies.heuristics import Heuristic
from extender.profile import weights_of
from training.simulator.heap import Heap
from training.simulator.scheduling import SchedulerArguments, nodes_to_find
from training.simulator.state import FIRST_ROW, NOBODY, NOW, PARKED, Episode
from training.workloads.base import Workload

NOWHERE = -1
UNKNOWN = 0.0
SECONDS_AN_HOUR = 3600.0
LEAST_PREEMPTION_CANDIDATES = 100


@dataclass(eq=False)
class PodRecord:
    """A pod, and where it stands."""

    number: int
    request: PodRequest
    admits: list[bool]
    arrival: float
    duration: float
    order: float
    stamp: int = 0
    row: int = NOWHERE
    devices: list[int] = field(default_factory=list)
    first_start: float | None = None
    began: float = math.nan
    ends: float | None = None
    pending_since: float = math.nan
    waited: float = 0.0
    failures: int = 0
    failed_at: float = math.nan
    preempted: int = 0
    withheld: bool = False

    @property
    def shares_device(self) -> bool:
        return self.request.gpu_count == 1 and self.request.gpu_milli < WHOLE_DEVICE_MILLI

    @property
    def turn(self) -> tuple[float, int]:
        """What the active queue is sorted by."""
        return self.order, self.stamp


@dataclass(eq=False)
class NodeRecord:
    """A node; the pods on it in the order in which they started."""

    row: int
    allocatable: list[int]
    device_count: int
    model: int
    pod_limit: int
    price: float
    pods: list[PodRecord] = field(default_factory=list)
    holder: PodRecord | None = None
    held_until: float = math.inf

    def devices_left(self, pods: list[PodRecord]) -> list[int]:
        return [
            WHOLE_DEVICE_MILLI - sum(pod.request.gpu_milli for pod in pods if device in pod.devices)
            for device in range(self.device_count)
        ]

    def has_room(self, pod: PodRecord, pods: list[PodRecord] | None = None) -> bool:
        """Whether a pod may come here if these are on the node, those that are there where left out."""
        there = self.pods if pods is None else pods
        if not pod.admits[self.row] or len(there) >= self.pod_limit:
            return False
        for resource, amount in enumerate(pod.request.request.tolist()):
            used = sum(int(other.request.request[resource]) for other in there)
            if amount > 0 and self.allocatable[resource] - used < amount:
                return False
        large_enough = [left for left in self.devices_left(there) if left >= pod.request.gpu_milli]
        return pod.request.gpu_count == 0 or len(large_enough) >= pod.request.gpu_count

    def is_large_enough(self, pod: PodRecord) -> bool:
        """Whether a pod may come here, and its amounts would fit if nobody else were here."""
        return pod.admits[self.row] and bool(np.all(pod.request.request <= self.allocatable))

    def choices(self, pod: PodRecord) -> list[int]:
        """The devices to choose from: the tightest, then the others; the first stands for all with as much left."""
        if not pod.shares_device:
            return [ANY_DEVICE]
        left = self.devices_left(self.pods)
        enough = [device for device in range(self.device_count) if left[device] >= pod.request.gpu_milli]
        tightest = min(enough, key=lambda device: left[device])
        others = [device for device in enough if left[device] not in left[:device] and device != tightest]
        return [tightest, *others]


class Reference:
    """One episode with a rule."""

    def __init__(
        self,
        workload: Workload,
        arguments: SchedulerArguments,
        rule: str,
        order: np.ndarray,
        ties: np.ndarray,
        seed: int,
        find: int | None = None,
    ) -> None:
        """Start an episode.

        Args:
            workload: what is played.
            arguments: of the scheduler.
            rule: one of `heuristics.RULES`.
            order: (P,), by which the queue is sorted.
            ties: (N,), the smallest wins among equals.
            seed: of the generator that says where the search for victims starts.
            find: how many feasible nodes are enough; by the arguments where left out.
        """
        self.arguments = arguments
        self.heuristic = Heuristic(rule, workload.typical, weights_of(arguments.scoring, workload.resources))
        self.tables = fragmentation_tables(workload.typical)
        self.ties = ties.tolist()
        self.generator = np.random.default_rng(seed)
        self.nodes = [
            NodeRecord(
                row,
                workload.allocatable[row].tolist(),
                int(workload.devices[row]),
                int(workload.model[row]),
                int(workload.pod_limit[row]),
                float(workload.price[row]),
            )
            for row in range(len(workload.allocatable))
        ]
        shapes = workload.shapes
        self.pods = [
            PodRecord(
                number,
                PodRequest(
                    shapes.request[shape],
                    shapes.nonzero[shape],
                    int(shapes.gpu_count[shape]),
                    int(shapes.gpu_milli[shape]),
                    int(workload.priority[number]),
                    float(workload.expected[number]),
                ),
                workload.admits[shape].tolist(),
                float(workload.arrival[number]),
                float(workload.duration[number]),
                float(order[number]),
            )
            for number, shape in enumerate(workload.shape)
        ]
        self.enough = nodes_to_find(len(self.nodes), arguments.percentage_of_nodes_to_score) if find is None else find
        self.first_row = 0
        self.now = 0.0
        self.busy_until = 0.0
        self.stamps = 0
        self.to_arrive = list(self.pods)
        self.active: list[PodRecord] = []
        self.backing_off: list[tuple[float, PodRecord]] = []
        self.parked: list[PodRecord] = []
        self.running: list[PodRecord] = []
        self.integrals = np.zeros(4 + workload.allocatable.shape[1])

    def play(self) -> list[dict[str, Any]]:
        """Play to the end; returns `snapshot` as it was when each instant was over, and at the end."""
        seen = []
        while True:
            while self.busy_until <= self.now and (pod := self.next_in_queue()):
                self.attempt(pod)
            if seen and seen[-1]["now"] == self.now:
                seen.pop()  # the instant was not over
            seen.append(self.snapshot())
            nobody_waits = not self.to_arrive and not self.pending()
            if nobody_waits:
                return seen
            coming = [
                *(pod.arrival for pod in self.to_arrive),
                *(pod.ends for pod in self.running if pod.ends is not None),
                *(expires for expires, _ in self.backing_off),
                *([self.busy_until] if self.busy_until > self.now else []),
            ]
            soonest = min(coming, default=math.inf)
            if min(soonest, self.arguments.horizon_seconds) == math.inf:
                return seen
            if soonest > self.arguments.horizon_seconds:
                self.pass_time(self.arguments.horizon_seconds)
                return [*seen, self.snapshot()]
            self.pass_time(soonest)
            self.happen()

    def happen(self) -> None:
        """One of the events of this instant: pods leave before others come back, these before others arrive."""
        for pod in self.parked:
            self.reserve_if_due(pod)
        finished = [pod for pod in self.running if pod.ends == self.now]
        if finished:
            self.finish(min(finished, key=lambda pod: pod.stamp))
            return
        over = [entry for entry in self.backing_off if entry[0] <= self.now]
        if over:
            for entry in over:
                self.backing_off.remove(entry)
                self.active.append(entry[1])
            return
        if self.to_arrive and self.to_arrive[0].arrival == self.now:
            self.enqueue(self.to_arrive.pop(0))
            self.bring_back([pod for pod in self.parked if pod.withheld])

    def pending(self) -> list[PodRecord]:
        return [*self.active, *(pod for _, pod in self.backing_off), *self.parked]

    def pass_time(self, until: float) -> None:
        """Add up what is integrated over time."""
        arrays = self.arrays()
        cpu_free = arrays.allocatable[:, CPU] - arrays.requested[:, CPU]
        wasted = fragmentation(self.tables, arrays.model, cpu_free, arrays.device_free.T)
        in_use = [node for node in self.nodes if node.pods]
        amounts = [
            len(self.pending()),
            wasted.sum() / WHOLE_DEVICE_MILLI,
            len(self.nodes) - len(in_use),
            sum(node.price for node in in_use) / SECONDS_AN_HOUR,
            *arrays.requested.sum(axis=0),
        ]
        self.integrals += (until - self.now) * np.array(amounts)
        self.now = until

    def arrays(self) -> NodeArrays:
        """The nodes as the rules see them, added up from the pods on them."""
        slots = max(1, *(node.device_count for node in self.nodes))
        resources = len(self.nodes[0].allocatable)
        nodes = NodeArrays(
            np.array([node.allocatable for node in self.nodes]),
            np.zeros((len(self.nodes), resources), np.int64),
            np.zeros((len(self.nodes), 2), np.int64),
            np.full((len(self.nodes), slots), ABSENT_DEVICE),
            np.zeros((len(self.nodes), GPU_POD_CLASSES), np.int64),
            np.array([node.model for node in self.nodes]),
            np.arange(len(self.nodes)) / len(self.nodes),
        )
        for node in self.nodes:
            nodes.device_free[node.row, : node.device_count] = node.devices_left(node.pods)
            for pod in node.pods:
                nodes.requested[node.row] += pod.request.request
                nodes.nonzero[node.row] += pod.request.nonzero
                if pod.request.gpu_count > 0:
                    kind = 0 if pod.shares_device else min(pod.request.gpu_count, GPU_POD_CLASSES - 1)
                    nodes.gpu_pods[node.row, kind] += 1
        return nodes

    # The queue.

    def stamp(self, pod: PodRecord) -> None:
        pod.stamp = self.stamps
        self.stamps += 1

    def enqueue(self, pod: PodRecord) -> None:
        pod.pending_since, pod.failures = self.now, 0
        self.stamp(pod)
        self.active.append(pod)

    def next_in_queue(self) -> PodRecord | None:
        if self.active:
            pod = min(self.active, key=lambda pod: pod.turn)
            self.active.remove(pod)
            return pod
        if self.arguments.pop_from_backoff and self.backing_off:
            entry = min(self.backing_off, key=lambda entry: (entry[0], entry[1].turn))
            self.backing_off.remove(entry)
            return entry[1]
        return None

    def bring_back(self, pods: list[PodRecord]) -> None:
        """Move parked pods to the backoff queue, or to the active one if their backoff is over."""
        for pod in pods:
            self.parked.remove(pod)
            pod.withheld = False
            longest = self.arguments.backoff_max_seconds
            expires = pod.failed_at + min(self.arguments.backoff_initial_seconds * 2 ** (pod.failures - 1), longest)
            if self.arguments.pop_from_backoff:
                expires = math.floor(expires) + 1
            if expires > self.now and longest > 0:
                self.backing_off.append((expires, pod))
            else:
                self.active.append(pod)

    # Placing.

    def attempt(self, pod: PodRecord) -> None:
        rows, withheld = self.feasible(pod)
        if not rows:
            self.fail(pod, withheld)
            return
        choices = [(row, device) for row in rows for device in self.nodes[row].choices(pod)]
        candidates = Candidates(*np.array(choices).T)
        scores = self.heuristic.scores(self.arrays(), pod.request, candidates)
        best = [choice for choice, score in zip(choices, scores, strict=True) if score == scores.max()]
        row = min((row for row, _ in best), key=lambda row: self.ties[row])
        self.place(pod, row, next(device for of, device in best if of == row))

    def feasible(self, pod: PodRecord) -> tuple[list[int], bool]:
        """The nodes to choose from, and whether there are others that reservations withhold."""
        first = self.first_row if self.enough < len(self.nodes) else 0
        found, looked = [], 0
        for row in [*range(first, len(self.nodes)), *range(first)]:
            if self.nodes[row].has_room(pod):
                if len(found) == self.enough:
                    break
                found.append(row)
            looked += 1
        self.first_row = (first + looked) % len(self.nodes)
        free = [row for row in found if not self.is_withheld(pod, self.nodes[row])]
        return free, len(free) < len(found)

    def place(self, pod: PodRecord, row: int, device: int) -> None:
        self.busy_until = self.now + self.arguments.attempt_seconds
        node = self.nodes[row]
        if holds := self.held_by(pod):
            holds.holder, holds.held_until = None, math.inf
        if pod.shares_device:
            pod.devices = [node.choices(pod)[0] if device == ANY_DEVICE else device]
        else:
            left = node.devices_left(node.pods)
            enough = [index for index in range(node.device_count) if left[index] >= pod.request.gpu_milli]
            pod.devices = enough[: pod.request.gpu_count]
        node.pods.append(pod)
        self.running.append(pod)
        pod.row = row
        pod.began = self.now
        pod.first_start = self.now if pod.first_start is None else pod.first_start
        pod.waited += self.now - pod.pending_since
        pod.ends = self.now + pod.duration
        self.bring_back([other for other in self.parked if other.withheld])

    def fail(self, pod: PodRecord, withheld: bool) -> None:
        if self.arguments.preemption:
            row, victims = self.preemption(pod)
            if row != NOWHERE:
                for victim in victims:
                    self.take_off(victim)
                    victim.ends = None
                    victim.preempted += 1
                    self.enqueue(victim)
                self.place(pod, row, ANY_DEVICE)
                self.room_on(self.nodes[row])
                return
        self.busy_until = self.now + self.arguments.failed_attempt_seconds
        pod.failures += 1
        pod.failed_at = self.now
        pod.withheld = withheld
        self.stamp(pod)
        self.parked.append(pod)
        self.reserve_if_due(pod)

    def finish(self, pod: PodRecord) -> None:
        self.take_off(pod)
        self.room_on(self.nodes[pod.row])

    def take_off(self, pod: PodRecord) -> None:
        self.nodes[pod.row].pods.remove(pod)
        self.running.remove(pod)

    def room_on(self, node: NodeRecord) -> None:
        everyone = self.arguments.futile_attempts
        self.bring_back([pod for pod in self.parked if everyone or pod.withheld or node.has_room(pod)])

    # Preemption.

    def preemption(self, pod: PodRecord) -> tuple[int, list[PodRecord]]:
        nodes = [node for node in self.nodes if node.is_large_enough(pod) and not self.is_withheld(pod, node)]
        wanted = max(len(nodes) // 10, LEAST_PREEMPTION_CANDIDATES)
        offset = int(self.generator.random() * len(nodes))
        found: list[tuple[int, list[PodRecord]]] = []
        for node in nodes[offset:] + nodes[:offset]:
            victims = self.victims_on(pod, node)
            if victims and len(found) < wanted:
                found.append((node.row, victims))
        if not found:
            return NOWHERE, []

        def harm(candidate: tuple[int, list[PodRecord]]) -> tuple[float, ...]:
            victims = candidate[1]
            priorities = [victim.request.priority for victim in victims]
            highest = max(priorities)
            earliest = min(victim.began for victim in victims if victim.request.priority == highest)
            return highest, sum(priority + 2**31 for priority in priorities), len(victims), -earliest

        return min(found, key=harm)

    def victims_on(self, pod: PodRecord, node: NodeRecord) -> list[PodRecord]:
        """Who has to leave, the most important first; nobody where that would not help."""
        lower = [other for other in reversed(node.pods) if other.request.priority < pod.request.priority]
        lower.sort(key=lambda other: (-other.request.priority, other.began))
        staying = [other for other in node.pods if other not in lower]
        if not lower or not node.has_room(pod, staying):
            return []
        victims = []
        for other in lower:
            if node.has_room(pod, [*staying, other]):
                staying.append(other)
            else:
                victims.append(other)
        return victims

    # Reservations.

    def held_by(self, pod: PodRecord) -> NodeRecord | None:
        return next((node for node in self.nodes if node.holder is pod), None)

    def is_withheld(self, pod: PodRecord, node: NodeRecord) -> bool:
        if node.holder is None or node.holder is pod:
            return False
        expected = pod.request.expected_seconds
        return expected == UNKNOWN or self.now + expected > node.held_until

    def reserve_if_due(self, pod: PodRecord) -> None:
        after = self.arguments.reservation_after_seconds
        small = pod.request.gpu_count < self.arguments.reservation_gpus
        if after == 0 or small or self.held_by(pod) or self.now - pod.pending_since < after:
            return
        held = sum(node.holder is not None for node in self.nodes)
        if held >= max(1, math.floor(self.arguments.reservations_at_most * len(self.nodes))):
            return
        free_at = [(self.free_enough_at(pod, node), node.row) for node in self.nodes if node.holder is None]
        soonest, row = min(free_at, default=(math.inf, NOWHERE))
        if soonest < math.inf:
            self.nodes[row].holder, self.nodes[row].held_until = pod, soonest

    def free_enough_at(self, pod: PodRecord, node: NodeRecord) -> float:
        """When enough pods are believed to have ended; infinity for a node that never has room."""

        def believed_end(other: PodRecord) -> float:
            if other.request.expected_seconds == UNKNOWN:
                return self.now + (self.now - other.began)
            return max(other.began + other.request.expected_seconds, self.now)

        for time in sorted({self.now, *map(believed_end, node.pods)}):
            if node.has_room(pod, [other for other in node.pods if believed_end(other) > time]):
                return time
        return math.inf

    def snapshot(self) -> dict[str, Any]:
        """All that can be compared; `snapshot_of` says the same of the simulator's arrays."""
        return {
            "now": self.now,
            "pods": [
                (
                    pod.row,
                    sum(1 << device for device in pod.devices),
                    pod.first_start,
                    pod.ends,
                    pod.waited,
                    pod.preempted,
                )
                for pod in self.pods
            ],
            "on nodes": [[pod.number for pod in reversed(node.pods)] for node in self.nodes],
            "active": [pod.number for pod in sorted(self.active, key=lambda pod: pod.turn)],
            "backing off": [
                (expires, pod.number)
                for expires, pod in sorted(self.backing_off, key=lambda entry: (entry[0], entry[1].turn))
            ],
            "parked": [(pod.number, pod.withheld) for pod in self.parked],
            "failures": {pod.number: (pod.failures, pod.pending_since) for pod in self.pending()},
            "reserved": [(node.holder.number if node.holder else -1, node.held_until) for node in self.nodes],
            "first row": self.first_row,
        }


def snapshot_of(episode: Episode) -> dict[str, Any]:
    """What `Reference.snapshot` says, of the simulator's arrays."""
    pods, counters = episode.pods, episode.counters
    parked = episode.parked[: counters[PARKED]].tolist()
    active, backing_off = entries(episode.active), entries(episode.backoff)
    waiting = [*(pod for _, pod in active), *(pod for _, pod in backing_off), *parked]
    return {
        "now": float(episode.clock[NOW]),
        "pods": list(
            zip(
                pods.node.tolist(),
                pods.taken.tolist(),
                none_for_nan(pods.started),
                none_for_nan(pods.finishes),
                pods.waited.tolist(),
                pods.preempted.tolist(),
                strict=True,
            )
        ),
        "on nodes": [pods_on(episode, row) for row in range(len(episode.cluster.pod_count))],
        "active": [pod for _, pod in active],
        "backing off": backing_off,
        "parked": [(pod, bool(pods.withheld[pod])) for pod in parked],
        "failures": {pod: (int(pods.attempts[pod]), float(pods.pending_since[pod])) for pod in waiting},
        "reserved": list(
            zip(episode.cluster.reserved_for.tolist(), episode.cluster.reserved_until.tolist(), strict=True)
        ),
        "first row": int(counters[FIRST_ROW]),
    }


def none_for_nan(times: np.ndarray) -> list[float | None]:
    return [None if math.isnan(time) else time for time in times.tolist()]


def entries(heap: Heap) -> list[tuple[float, int]]:
    """What is in a heap, as (key, item), in the order in which it leaves."""
    size = heap.size[0]
    columns = (heap.keys, heap.orders, heap.ranks, heap.items)
    return [
        (key, item) for key, _, _, item in sorted(zip(*(column[:size].tolist() for column in columns), strict=True))
    ]


def pods_on(episode: Episode, row: int) -> list[int]:
    """The pods on a node, the one that came last first."""
    pods, pod = [], int(episode.cluster.first_pod[row])
    while pod != NOBODY:
        pods.append(pod)
        pod = int(episode.pods.next_pod[pod])
    return pods
