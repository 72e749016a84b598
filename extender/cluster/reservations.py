"""Who has reserved which node: pods that wait, and what `filter` withholds for them.

`cluster.feed` tells which pods wait, start and go, and what nodes are like; `review` grants what is due and ends what
is over, a slice of the nodes at a time, so that requests get in between; `server.http` asks what is withheld. The rule
is in `extender.reservations`. Times are Unix seconds throughout: they are compared with what the API server says of
pods, and they survive a restart. So does everything here: since when a pod waits is in its own status, and what was
granted is handed to `report`, which writes it to a file, and comes back by `restore`.
"""

from collections.abc import Callable, Iterable, Iterator
from enum import StrEnum
from typing import NamedTuple

import msgspec
import numpy as np

from extender.admission import Constraint, Place
from extender.cluster.state import UNKNOWN_ROW, ClusterState
from extender.placement import PodRequest
from extender.reservations import NEVER, ReservationRule, RunningPod, believed_end, delays, free_enough_at

NODES_PER_TURN = 64  # a millisecond or two of the event loop
SECONDS_BETWEEN_SEARCHES = 10.0  # for a pod that no node could hold, or none that is not reserved already

WallClock = Callable[[], float]
"""Unix seconds."""


class WaitingPod(NamedTuple):
    """A pod for which kube-scheduler found no room.

    Attributes:
        since: when it was told so first, Unix seconds.
        scheduler: the `schedulerName` of the pod.
    """

    uid: str
    namespace: str
    name: str
    request: PodRequest
    constraint: Constraint
    since: float
    scheduler: str


class Reservation(msgspec.Struct, frozen=True):
    """A node that is kept for a pod.

    Attributes:
        uid: the pod's.
        namespace: the pod's.
        pod: its name.
        node: the node's name.
        gpus: how many the pod waits for.
        made: when it was granted, Unix seconds.
        until: when the node is believed to be free enough; who ends before may use it.
        expires: when it lapses at the latest.
    """

    uid: str
    namespace: str
    pod: str
    node: str
    gpus: int
    made: float
    until: float
    expires: float


class Ending(StrEnum):
    """What becomes of reservations; `MADE` is the beginning."""

    MADE = "made"
    USED = "used"  # the pod started on the node
    ELSEWHERE = "elsewhere"  # the pod started on another one
    GONE = "gone"  # the pod was deleted, or ended without having started
    NODE_GONE = "node_gone"
    EXPIRED = "expired"


class Reservations:
    """The reservations of one cluster."""

    def __init__(
        self,
        state: ClusterState,
        rule: ReservationRule,
        scheduler: str,
        clock: WallClock,
        report: Callable[[Ending, Reservation], None],
    ) -> None:
        """Nobody waits yet.

        Args:
            scheduler: only pods with this `schedulerName` reserve.
            report: called for each reservation that is made or ends, after the change.
        """
        self._state = state
        self._rule = rule
        self._scheduler = scheduler
        self._clock = clock
        self._report = report
        self._waiting: dict[str, WaitingPod] = {}
        self._not_before: dict[str, float] = {}  # uid -> when another node may be looked for
        self._places: dict[str, Place] = {}
        self._held: dict[str, Reservation] = {}  # by uid
        self._holder: dict[str, str] = {}  # node -> uid
        self._search: Iterator[None] | None = None

    def __len__(self) -> int:
        """Number of reservations."""
        return len(self._held)

    def held(self) -> list[Reservation]:
        """All reservations, oldest first."""
        return list(self._held.values())

    def of(self, namespace: str, pod: str) -> Reservation | None:
        """What the pod has reserved."""
        return next((each for each in self._held.values() if (each.namespace, each.pod) == (namespace, pod)), None)

    def on(self, node: str) -> Reservation | None:
        """The reservation of the node."""
        holder = self._holder.get(node)
        return self._held[holder] if holder is not None else None

    def restore(self, held: Iterable[Reservation]) -> None:
        """Take over what was granted before a restart; what has lapsed or contradicts itself is left out."""
        for reservation in held:
            if (
                reservation.expires > self._clock()
                and reservation.uid not in self._held
                and reservation.node not in self._holder
            ):
                self._held[reservation.uid] = reservation
                self._holder[reservation.node] = reservation.uid

    def pod_waits(self, pod: WaitingPod) -> None:
        """Kube-scheduler found no room for the pod."""
        if pod.scheduler == self._scheduler and self._rule.admits(pod.request):
            self._waiting[pod.uid] = pod

    def pod_left(self, uid: str, node: str) -> None:
        """The pod waits no longer: it is on `node`, or gone where that is empty."""
        self._waiting.pop(uid, None)
        self._not_before.pop(uid, None)
        reservation = self._held.get(uid)
        if reservation is not None:
            placed = Ending.USED if node == reservation.node else Ending.ELSEWHERE
            self._end(reservation, placed if node else Ending.GONE)

    def keep_only(self, uids: frozenset[str]) -> None:
        """A list named these pods; any other is gone."""
        for uid in (self._waiting.keys() | self._held.keys()) - uids:
            self.pod_left(uid, "")

    def node_seen(self, place: Place) -> None:
        """The node exists, with these labels and taints."""
        self._places[place.name] = place

    def node_left(self, node: str) -> None:
        """The node is gone."""
        self._places.pop(node, None)
        reservation = self.on(node)
        if reservation is not None:
            self._end(reservation, Ending.NODE_GONE)

    def keep_only_nodes(self, nodes: frozenset[str]) -> None:
        """A list named these nodes; any other is gone."""
        for node in (self._places.keys() | self._holder.keys()) - nodes:
            self.node_left(node)

    def withheld(self, uid: str, request: PodRequest, nodes: Iterable[str]) -> dict[str, str]:
        """Reason by name, of the nodes that are kept for others and that this pod would not leave in time."""
        if not self._holder:
            return {}
        now = self._clock()
        reasons = {}
        for node in nodes:
            holder = self._holder.get(node)
            if holder is not None and holder != uid:
                kept = self._held[holder]
                if kept.expires > now and delays(kept.until, request.expected_seconds, now):
                    reasons[node] = (
                        f"the node is reserved for pod {kept.namespace}/{kept.pod}, which waits for {kept.gpus} GPUs"
                    )
        return reasons

    def review(self) -> bool:
        """End what has lapsed, and go on looking for what is due, `NODES_PER_TURN` nodes; whether there is more."""
        now = self._clock()
        for reservation in [each for each in self._held.values() if each.expires <= now]:
            self._not_before[reservation.uid] = now + self._rule.after_seconds
            self._end(reservation, Ending.EXPIRED)
        if self._search is None:
            due = self._due(now)
            if due is None:
                return False
            self._search = self._look_for(due)
        if next(self._search, self) is self:
            self._search = None
        return True

    def _due(self, now: float) -> WaitingPod | None:
        """Who has waited longest of those that may reserve and have not."""
        due = [
            (pod.since, pod.uid)
            for pod in self._waiting.values()
            if pod.uid not in self._held
            and self._rule.is_due(now - pod.since)
            and now >= self._not_before.get(pod.uid, now)
        ]
        return self._waiting[min(due)[1]] if due else None

    def _look_for(self, pod: WaitingPod) -> Iterator[None]:
        """Reserve the node that is free enough soonest; yields whenever others should have a turn."""
        nodes = self._state.arrays
        rows = np.flatnonzero(
            np.all(nodes.allocatable >= pod.request.request, axis=1)
            & (np.sum(nodes.device_free >= 0, axis=1) >= pod.request.gpu_count)
        )
        best, soonest = "", NEVER
        names = sorted(self._state.name_of(int(row)) for row in rows)  # the same order after a restart
        for number, name in enumerate(names):
            if number and number % NODES_PER_TURN == 0:
                yield
            free_at = self._free_at(pod, name)
            if free_at < soonest:
                best, soonest = name, free_at
        now = self._clock()
        if pod.uid not in self._waiting or pod.uid in self._held:
            return
        if not best or self._state.row_of(best) == UNKNOWN_ROW or best in self._holder:
            self._not_before[pod.uid] = now + SECONDS_BETWEEN_SEARCHES
            return
        made = Reservation(
            uid=pod.uid,
            namespace=pod.namespace,
            pod=pod.name,
            node=best,
            gpus=pod.request.gpu_count,
            made=now,
            until=soonest,
            expires=now + self._rule.ttl_seconds,
        )
        self._held[pod.uid] = made
        self._holder[best] = pod.uid
        self._report(Ending.MADE, made)

    def _free_at(self, pod: WaitingPod, node: str) -> float:
        row = self._state.row_of(node)
        place = self._places.get(node)
        if row == UNKNOWN_ROW or place is None or node in self._holder or not pod.constraint.admits(place):
            return NEVER
        now = self._clock()
        running = [
            RunningPod(other.request, other.taken, believed_end(other.began, other.request.expected_seconds, now))
            for other in self._state.pods_on(node)
        ]
        return free_enough_at(self._state.arrays, row, pod.request, running, now)

    def _end(self, reservation: Reservation, ending: Ending) -> None:
        del self._held[reservation.uid]
        del self._holder[reservation.node]
        self._report(ending, reservation)
