"""The decisions of kube-scheduler's log once more: the same pods on the same nodes, scored by our rules.

`scheduler_log` says in which order pods were placed and left; the nodes are filled in that order with the code that
simulator and extender use, and at each decision the rule of the same name scores every node that kube-scheduler
scored. What kube-scheduler's other plugins add is left aside; `Comparison.chosen_is_best` fails if it ever decides.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import msgspec
import numpy as np

from extender.cluster.requests import BASE_RESOURCES, bound_pod_request, node_capacity, pod_request
from extender.placement import ANY_DEVICE, GPU, Candidates, IntArray, PodRequest, empty_nodes, fits, occupy, release
from extender.policies.heuristics import HEURISTICS
from extender.wire import Node, Pod
from tests.cluster.api import Document
from tests.cluster.scheduler_log import Attempt, Departure

MODELLED_PLUGINS = ("NodeResourcesFit", "NodeResourcesBalancedAllocation")


class Comparison(NamedTuple):
    """One decision of kube-scheduler beside ours.

    Attributes:
        scoring: the profile, which is the name of our rule.
        differences: a line for each node on which the two disagree.
        chosen_is_best: whether no node has a higher score of ours than the one that kube-scheduler chose.
        nodes: number of nodes that were scored.
        fullness: of CPU and memory, the larger share of the whole cluster that was requested.
    """

    pod: str
    scoring: str
    differences: tuple[str, ...]
    chosen_is_best: bool
    nodes: int
    fullness: float


class ReplayedCluster:
    """Nodes that are filled as kube-scheduler filled them."""

    def __init__(self, nodes: Sequence[Document]) -> None:
        decoded = [msgspec.convert(node, Node, strict=False) for node in nodes]
        capacity, devices = zip(*(node_capacity(node, BASE_RESOURCES) for node in decoded), strict=True)
        self.names = [node.metadata.name for node in decoded]
        self.nodes = empty_nodes(np.array(capacity), np.array(devices))
        self._row_of = {name: row for row, name in enumerate(self.names)}
        self._pod_limit = np.array([int((node.status.allocatable or {})["pods"]) for node in decoded])
        self._pods = np.zeros(len(decoded), np.int64)
        self._placed: dict[str, tuple[PodRequest, int, int]] = {}

    def place(self, name: str, request: PodRequest, node: str) -> None:
        """Put a pod on a node."""
        row = self._row_of[node]
        self._placed[name] = request, row, occupy(self.nodes, request, row, ANY_DEVICE)
        self._pods[row] += 1

    def remove(self, name: str) -> None:
        """Take a pod off its node, if it is on one."""
        if name in self._placed:
            request, row, taken = self._placed.pop(name)
            release(self.nodes, request, row, taken)
            self._pods[row] -= 1

    def feasible(self, request: PodRequest) -> IntArray:
        """The rows of the nodes on which the pod has room."""
        rows = np.arange(len(self.names))
        feasible: IntArray = rows[fits(self.nodes, request, rows) & (self._pods < self._pod_limit)]
        return feasible

    def scores(self, rule: str, request: PodRequest, rows: IntArray) -> dict[str, int]:
        """The rule's score of each of these nodes."""
        scores = HEURISTICS[rule].scores(self.nodes, request, Candidates(rows, np.full(len(rows), ANY_DEVICE)))
        return {self.names[row]: int(score) for row, score in zip(rows, scores, strict=True)}

    def fullness(self) -> float:
        """Of CPU and memory, the larger share of all nodes that is requested."""
        requested, allocatable = self.nodes.requested[:, :GPU], self.nodes.allocatable[:, :GPU]
        return float((requested.sum(axis=0) / allocatable.sum(axis=0)).max())


def compare(
    nodes: Sequence[Document], pods: Mapping[str, Document], events: Iterable[Attempt | Departure]
) -> list[Comparison]:
    """Score every decision that kube-scheduler scored, in its order.

    Args:
        nodes: as the API server has them.
        pods: by name, as the API server stored them (it completes requests from limits).
        events: what happened, in order.
    """
    cluster = ReplayedCluster(nodes)
    comparisons = []
    for event in events:
        if isinstance(event, Departure):
            cluster.remove(event.pod)
            continue
        pod = pods[event.pod]
        if event.totals:
            comparisons.append(_compare(cluster, pod["spec"]["schedulerName"], _request_as_scored(pod), event))
        if event.node is not None:
            cluster.place(event.pod, bound_request_of(pod), event.node)
    return comparisons


def request_of(pod: Document) -> PodRequest:
    """What a pod asks for."""
    return pod_request(msgspec.convert(pod, Pod, strict=False), BASE_RESOURCES)


def bound_request_of(pod: Document) -> PodRequest:
    """What a pod counts for once it is on a node."""
    return bound_pod_request(msgspec.convert(pod, Pod, strict=False), BASE_RESOURCES)


def _request_as_scored(pod: Document) -> PodRequest:
    """What the pod asks for where it is scored; without a total for the whole pod the same as where it is counted.

    NodeResourcesFit scores such a pod by its containers: NewFit (plugins/noderesources/fit.go, 1.36) leaves
    `enablePodLevelResources` of its scorer false, and calculatePodResourceRequest (resource_allocation.go) skips the
    total then. Filtering, the sums of a node and BalancedAllocation go by the total.
    """
    of_containers = pod | {"spec": {name: value for name, value in pod["spec"].items() if name != "resources"}}
    return request_of(pod)._replace(nonzero=request_of(of_containers).nonzero)


def _compare(cluster: ReplayedCluster, scoring: str, request: PodRequest, attempt: Attempt) -> Comparison:
    ours = cluster.scores(scoring, request, cluster.feasible(request))
    theirs = {
        node: sum(attempt.scores.get(plugin, {}).get(node, 0) for plugin in MODELLED_PLUGINS) for node in attempt.totals
    }
    return Comparison(
        attempt.pod,
        scoring,
        tuple(
            f"{attempt.pod} by {scoring} on {node}: {theirs.get(node, 'infeasible')} to kube-scheduler, "
            f"{ours.get(node, 'infeasible')} to us"
            for node in sorted(ours.keys() | theirs.keys())
            if ours.get(node) != theirs.get(node)
        ),
        attempt.node in ours and ours[attempt.node] == max(ours.values()),
        len(theirs),
        cluster.fullness(),
    )
