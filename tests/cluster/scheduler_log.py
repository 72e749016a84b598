"""What kube-scheduler says of its decisions: which nodes it scored how, for which pod, and in which order.

It logs each node's score at verbosity 10 of `schedule_one.go`, and each pod that leaves at verbosity 3 of
`eventhandlers.go`; `VMODULE` asks for these and no more, because `--v=10` also prints every byte of every request.
All lines of one attempt come from one goroutine, so attempts are in the order in which they were made, and a pod
occupies its node from the end of its own attempt on (it is assumed there; the binding comes later).

Source: pkg/scheduler/schedule_one.go, pkg/scheduler/eventhandlers.go.
"""

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

VMODULE = "schedule_one=10,eventhandlers=3"

_LINE = re.compile(rb'\w+\.go:\d+\] "([^"]+)"(.*)')
_ATTEMPT = b"Attempting to schedule pod"
_PLUGIN = b"Plugin scored node for pod"
_TOTAL = b"Calculated node's final score for pod"
_BOUND = b"Successfully bound pod to node"
_NO_FIT = b"Unable to schedule pod; no fit; waiting"
_BOUND_LEFT = b"Delete event for scheduled pod"
_QUEUED_LEFT = b"Delete event for unscheduled pod"  # also when a pod leaves the queue because it was bound
_NODE = b"Add event for node"
_OF_PODS = frozenset((_ATTEMPT, _PLUGIN, _TOTAL, _BOUND, _NO_FIT, _BOUND_LEFT, _QUEUED_LEFT))
_VALUE = re.compile(rb'(\w+)="?([^" ]*)"?')


@dataclass
class Attempt:
    """One attempt to place a pod.

    Attributes:
        scores: each plugin's scores by node, times its weight; a plugin that skipped the pod is absent.
        totals: their sum by node; empty where kube-scheduler did not score, as with a single feasible node.
        node: where the pod was bound.
        rejected: whether no node had room.
    """

    pod: str
    scores: dict[str, dict[str, int]] = field(default_factory=dict)
    totals: dict[str, int] = field(default_factory=dict)
    node: str | None = None
    rejected: bool = False


class Departure(NamedTuple):
    """A pod that was deleted."""

    pod: str


class SchedulerLog:
    """The log, as far as it has been read.

    Attributes:
        events: attempts and departures, in their order.
        nodes: names of the nodes that were ever added.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offset = 0
        self.events: list[Attempt | Departure] = []
        self.nodes: set[str] = set()
        self._last: dict[str, Attempt] = {}
        self._left: set[str] = set()

    def read_on(self) -> None:
        """Read what has been written since the last time."""
        with self._path.open("rb") as log:
            log.seek(self._offset)
            text = log.read()
        whole = text.rfind(b"\n") + 1  # the last line may still be on its way
        self._offset += whole
        for line in text[:whole].splitlines():
            self.digest(line)

    def digest(self, line: bytes) -> None:
        """Take in one line."""
        match = _LINE.search(line)
        if match is None:
            return
        values = {name.decode(): value.decode() for name, value in _VALUE.findall(match[2])}
        if match[1] == _NODE:
            self.nodes.add(values["node"])
        elif match[1] in _OF_PODS:
            self._digest_of_pod(match[1], values["pod"].removeprefix("default/"), values)

    def _digest_of_pod(self, message: bytes, pod: str, values: dict[str, str]) -> None:
        if message == _ATTEMPT:
            self._last[pod] = Attempt(pod)
            self.events.append(self._last[pod])
        elif message == _PLUGIN:
            self._last[pod].scores.setdefault(values["plugin"], {})[values["node"]] = int(values["score"])
        elif message == _TOTAL:
            self._last[pod].totals[values["node"]] = int(values["score"])
        elif message == _BOUND:
            self._last[pod].node = values["node"]
        elif message == _NO_FIT:
            self._last[pod].rejected = True
        elif message == _BOUND_LEFT or self.is_rejected(pod):
            self.events.append(Departure(pod))
            self._left.add(pod)

    def is_settled(self, pod: str) -> bool:
        """Whether the pod's last attempt has come to an end."""
        return self.is_rejected(pod) or (pod in self._last and self._last[pod].node is not None)

    def is_rejected(self, pod: str) -> bool:
        """Whether no node had room for the pod at its last attempt."""
        return pod in self._last and self._last[pod].rejected

    def has_left(self, pod: str) -> bool:
        """Whether kube-scheduler knows that the pod was deleted."""
        return pod in self._left
