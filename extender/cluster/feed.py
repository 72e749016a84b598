"""What the watch saw, applied to the state: the only writer of what others did.

Objects become events (`seen_node`, `seen_pod`) wherever they were decoded, and `ClusterFeed.apply` digests events on
the event loop. Events can be late or come twice; a version that is not newer than the last one of the same object is
ignored. A list is the truth: `Listed` removes what it did not name.

Source: resource versions compare as integers, KEP-5504 (and did so in practice in every release before).
"""

from collections.abc import Iterable, Sequence
from datetime import datetime
from enum import StrEnum
from typing import NamedTuple

from extender.admission import ANYWHERE, Constraint, Place, constraint_of, names_its_node, place_of, selection_of
from extender.cluster.assume import Assumptions
from extender.cluster.recent import RecentPods
from extender.cluster.requests import (
    RequestError,
    bound_pod_request,
    gpu_model,
    has_ended,
    node_capacity,
    pod_request,
)
from extender.cluster.reservations import Reservations, WaitingPod
from extender.cluster.state import ClusterState
from extender.features_digest import recorded
from extender.placement import IntArray, PodRequest
from extender.telemetry.decision_records import UnaskedRecord
from extender.telemetry.outcomes import Outcomes, Unasked
from extender.wire import Node, ObjectMeta, WatchedPod

REMEMBERED_DELETIONS = 4096  # late events trail a deletion by seconds, and no cluster deletes more in that time


class Kind(StrEnum):
    """What is watched."""

    NODES = "nodes"
    PODS = "pods"


class NodeSeen(NamedTuple):
    """A node exists. `listed`: it comes from a list, which outranks every watch event before it."""

    name: str
    allocatable: IntArray
    devices: int
    model: str
    place: Place
    version: int | None
    listed: bool


class PodSeen(NamedTuple):
    """A pod is on a node (`node`, `request`), or takes nothing yet or any more (`node` is empty).

    `ended`: it will never take anything again. `created`, `began`: when it was created and when it started to run, Unix
    seconds, 0.0 where that is not known or not yet. `waiting`: kube-scheduler found no room for it. `selects`, `named`:
    which nodes it may run on, and what it is called, of a pod that is on one.
    """

    uid: str
    node: str
    request: PodRequest | None
    ended: bool
    version: int | None
    listed: bool
    created: float = 0.0
    began: float = 0.0
    waiting: WaitingPod | None = None
    selects: Constraint = ANYWHERE
    named: "Named | None" = None


class Named(NamedTuple):
    """What a pod is called, and the `schedulerName` that it has."""

    namespace: str
    name: str
    scheduler: str


class Gone(NamedTuple):
    """An object was deleted; `key` is a node's name or a pod's uid."""

    kind: Kind
    key: str
    version: int | None


class Listed(NamedTuple):
    """A list has ended; what it did not name is gone."""

    kind: Kind
    keys: frozenset[str]


Event = NodeSeen | PodSeen | Gone | Listed


def pod_uid(metadata: ObjectMeta) -> str:
    """What identifies the pod: its uid, or namespace/name in files written by hand."""
    return metadata.uid or f"{metadata.namespace}/{metadata.name}"


def version_of(metadata: ObjectMeta) -> int | None:
    """The resource version as a number, None where there is none to compare."""
    text = metadata.resource_version
    return int(text) if text.isdecimal() and len(text) <= 20 else None


def seen_node(node: Node, resources: Sequence[str], listed: bool) -> NodeSeen:
    """The event of a node; raises QuantityError."""
    allocatable, devices = node_capacity(node, resources)
    model = gpu_model(node.metadata.labels)
    place = place_of(node, model)
    return NodeSeen(node.metadata.name, allocatable, devices, model, place, version_of(node.metadata), listed)


def seen_pod(pod: WatchedPod, resources: Sequence[str], listed: bool) -> PodSeen:
    """The event of a pod; raises QuantityError."""
    uid, version, ended = pod_uid(pod.metadata), version_of(pod.metadata), has_ended(pod)
    node = pod.spec.node_name
    if not node or ended:
        waiting = None if ended else _waiting(pod, uid, resources)
        return PodSeen(uid, "", None, ended, version, listed, waiting=waiting)
    created, began = _unix(pod.metadata.creation_timestamp), _unix(pod.status.start_time)
    request, selects = bound_pod_request(pod, resources), selection_of(pod.spec)
    named = Named(pod.metadata.namespace, pod.metadata.name, pod.spec.scheduler_name)
    return PodSeen(uid, node, request, False, version, listed, created, began, selects=selects, named=named)


def _waiting(pod: WatchedPod, uid: str, resources: Sequence[str]) -> WaitingPod | None:
    """The pod as one that waits, if kube-scheduler has said that it found no room for it."""
    said = next((each for each in pod.status.conditions or () if each.type == "PodScheduled"), None)
    if said is None or said.reason != "Unschedulable":
        return None
    try:
        request = pod_request(pod, resources)
    except RequestError:
        return None  # no node will ever do
    since = _unix(said.last_transition_time)
    metadata, spec = pod.metadata, pod.spec
    return WaitingPod(uid, metadata.namespace, metadata.name, request, constraint_of(spec), since, spec.scheduler_name)


def _unix(time: str | None) -> float:
    """Unix seconds of metav1.Time, 0.0 where there is none."""
    if not time:
        return 0.0
    try:
        return datetime.fromisoformat(time).timestamp()
    except ValueError:
        return 0.0  # the API server checks times; a hand-written file may hold anything


class ClusterFeed:
    """Applies events to the state and settles assumptions.

    Attributes:
        synced: the kinds whose first list is complete.
    """

    def __init__(
        self,
        state: ClusterState,
        assumptions: Assumptions,
        reservations: Reservations | None = None,
        outcomes: Outcomes | None = None,
        recent_pods: RecentPods | None = None,
        scheduler: str = "",
    ) -> None:
        """Begin with nothing seen.

        Args:
            state: what events are applied to.
            assumptions: of that state.
            reservations: told of nodes and of pods that wait, if anything is reserved.
            outcomes: told where pods go and when they leave, if anybody wants to know.
            recent_pods: told of the pods that come, if typical pods are estimated.
            scheduler: the `schedulerName` of the pods that kube-scheduler asks about.
        """
        self._recent_pods = recent_pods
        self._scheduler = scheduler
        self._state = state
        self._assumptions = assumptions
        self._reservations = reservations
        self._outcomes = outcomes
        self._versions = {Kind.NODES: _Versions(), Kind.PODS: _Versions()}
        self.synced: set[Kind] = set()

    @property
    def ready(self) -> bool:
        """Whether nodes and pods have both been listed once."""
        return len(self.synced) == len(Kind)

    def apply(self, events: Iterable[Event]) -> None:
        """Apply the events in their order."""
        for event in events:
            match event:
                case PodSeen():
                    self._pod_seen(event)
                case NodeSeen():
                    if self._versions[Kind.NODES].admit(event.name, event.version, event.listed):
                        self._state.put_node(event.name, event.allocatable, event.devices, event.model)
                        if self._reservations is not None:
                            self._reservations.node_seen(event.place)
                        if self._recent_pods is not None:
                            self._recent_pods.node_seen(event.place.labels, event.model)
                case Gone():
                    self._gone(event)
                case Listed():
                    self._listed(event)

    def _pod_seen(self, event: PodSeen) -> None:
        versions = self._versions[Kind.PODS]
        if not versions.admit(event.uid, event.version, event.listed):
            return
        if event.request is not None:
            self._assumptions.settle(event.uid, event.node)
            self._state.put_pod(event.uid, event.node, event.request, began=event.began)
            if self._recent_pods is not None:
                self._recent_pods.pod_seen(event.uid, event.created, event.request, event.selects)
            if self._outcomes is not None:
                self._outcomes.pod_on(event.uid, event.node, event.created, event.began, self._unasked(event))
        elif event.ended:
            self._assumptions.settle(event.uid, None)
            self._state.remove_pod(event.uid)
            if self._outcomes is not None:
                self._outcomes.pod_left(event.uid)
        elif event.uid not in self._assumptions:
            # A pending pod takes nothing; one that is assumed is about to be bound, and binding is what we wait for.
            self._state.remove_pod(event.uid)
        if self._reservations is not None:
            if event.waiting is not None:
                self._reservations.pod_waits(event.waiting)
            elif event.node or event.ended:
                self._reservations.pod_left(event.uid, event.node)

    def _unasked(self, event: PodSeen) -> Unasked | None:
        """What makes the record of a pod that nobody asked about; None for one that nobody would ask about."""
        named, request = event.named, event.request
        if named is None or request is None or named.scheduler != self._scheduler or names_its_node(event.selects):
            return None

        return lambda now: UnaskedRecord(
            time=now, namespace=named.namespace, pod=named.name, uid=event.uid, **recorded(request)
        )

    def _gone(self, event: Gone) -> None:
        versions = self._versions[event.kind]
        if not versions.admit(event.key, event.version, False):
            return
        versions.retire(event.key)
        if event.kind is Kind.NODES:
            self._state.remove_node(event.key)
            if self._reservations is not None:
                self._reservations.node_left(event.key)
        else:
            self._assumptions.settle(event.key, None)
            self._state.remove_pod(event.key)
            if self._outcomes is not None:
                self._outcomes.pod_left(event.key)
            if self._reservations is not None:
                self._reservations.pod_left(event.key, "")

    def _listed(self, event: Listed) -> None:
        self._versions[event.kind].keep_only(event.keys)
        if event.kind is Kind.NODES:
            for name in self._state.node_names():
                if name not in event.keys:
                    self._state.remove_node(name)
            if self._reservations is not None:
                self._reservations.keep_only_nodes(event.keys)
        else:
            for uid in self._state.pods.keys() - event.keys:
                # An assumed pod may be younger than the list.
                if uid not in self._assumptions:
                    self._state.remove_pod(uid)
                    if self._outcomes is not None:
                        self._outcomes.pod_left(uid)
            if self._reservations is not None:
                self._reservations.keep_only(event.keys)
        self.synced.add(event.kind)


class _Versions:
    """The newest version seen of each object, also of those deleted lately."""

    def __init__(self) -> None:
        self._newest: dict[str, int] = {}
        self._deleted: dict[str, None] = {}

    def admit(self, key: str, version: int | None, listed: bool) -> bool:
        """Whether an event says something new; takes note of it if so."""
        if version is None:
            return True
        if not listed and version <= self._newest.get(key, -1):
            return False
        self._newest[key] = version
        self._deleted.pop(key, None)
        return True

    def retire(self, key: str) -> None:
        """The object was deleted: keep its version for a while, against late events."""
        self._deleted[key] = None
        if len(self._deleted) > REMEMBERED_DELETIONS:
            oldest = next(iter(self._deleted))
            del self._deleted[oldest]
            self._newest.pop(oldest, None)

    def keep_only(self, keys: frozenset[str]) -> None:
        self._newest = {key: version for key, version in self._newest.items() if key in keys}
        self._deleted.clear()
