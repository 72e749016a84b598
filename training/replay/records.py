"""What happened to each pod of a run, as the watch told it, and by the API server's own clock.

Times are seconds since the beginning of the run by one clock, `time.monotonic` where the harness runs: when a pod was
to be submitted, when its request went out and was answered, and when the watch brought the news that it exists, is
bound, runs and has ended. A wait is the difference of two such arrivals of news, so neither another machine's clock nor
the whole seconds of the API server's timestamps come into it. Those are kept beside it, to check it by (`limits`).
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any

import numpy as np

from training.replay.manifests import Manifest
from training.workloads.base import FloatArray

ENDED_PHASES = ("Succeeded", "Failed")


@dataclass(frozen=True)
class Records:
    """P pods; what has not happened is NaN.

    Attributes:
        planned: (P,) when it was to be submitted.
        sent: (P,) when the request that created it went out.
        answered: (P,) when that was answered.
        created: (P,) when the watch told of it.
        bound: (P,) when the watch told that it has a node.
        running: (P,) when the watch told that it runs.
        ended: (P,) when the watch told that it has ended, or was deleted by somebody.
        created_stamp: (P,) the API server's creationTimestamp, whole Unix seconds.
        bound_stamp: (P,) lastTransitionTime of its condition PodScheduled, whole Unix seconds.
        event_stamp: (P,) eventTime of kube-scheduler's event Scheduled, Unix seconds with microseconds.
        sent_wall: (P,) Unix seconds of `sent`, by the clock here.
        answered_wall: (P,) Unix seconds of `answered`.
        bound_wall: (P,) Unix seconds of `bound`.
        node: (P,) row of its node, -1 for none.
        failed: (P,) bool, whether it ended otherwise than by success.
    """

    planned: FloatArray
    sent: FloatArray
    answered: FloatArray
    created: FloatArray
    bound: FloatArray
    running: FloatArray
    ended: FloatArray
    created_stamp: FloatArray
    bound_stamp: FloatArray
    event_stamp: FloatArray
    sent_wall: FloatArray
    answered_wall: FloatArray
    bound_wall: FloatArray
    node: np.ndarray
    failed: np.ndarray

    def __len__(self) -> int:
        return len(self.planned)

    def waiting(self) -> np.ndarray:
        """Which pods exist and have no node."""
        waiting: np.ndarray = ~np.isnan(self.created) & np.isnan(self.bound) & np.isnan(self.ended)
        return waiting

    def to_json(self) -> dict[str, list[float | int | None]]:
        """The arrays as lists, to be kept."""
        return {
            entry.name: [None if value != value else value for value in getattr(self, entry.name).tolist()]
            for entry in fields(self)
        }

    @classmethod
    def from_json(cls, content: Mapping[str, list[Any]]) -> "Records":
        """The reverse of `to_json`."""
        kinds: dict[str, Any] = {"node": np.int64, "failed": np.bool_}
        return cls(**{entry.name: np.array(content[entry.name], kinds.get(entry.name, float)) for entry in fields(cls)})


def empty_records(planned: FloatArray) -> Records:
    """Records of pods to which nothing has happened yet."""
    count = len(planned)
    nothing = {entry.name: np.full(count, np.nan) for entry in fields(Records)}
    return Records(
        **{**nothing, "planned": planned, "node": np.full(count, -1, np.int64), "failed": np.zeros(count, np.bool_)}
    )


def parse_stamp(text: str | None) -> float:
    """A timestamp of the API as Unix seconds; NaN for none.

    Example:
        >>> parse_stamp("1970-01-01T00:01:00Z"), parse_stamp("1970-01-01T00:00:01.250000Z")
        (60.0, 1.25)
    """
    return datetime.fromisoformat(text).timestamp() if text else float("nan")


class Journal:
    """Digests the events of a watch; knows no socket and no clock.

    Attributes:
        records: filled as news arrive.
        strangers: names that were not expected, which nobody should see.
    """

    def __init__(self, records: Records, pods: Mapping[str, int], rows: Mapping[str, int]) -> None:
        """Begin a run.

        Args:
            records: of its pods.
            pods: index of each pod by its name.
            rows: row of each node by its name.
        """
        self.records = records
        self.strangers: set[str] = set()
        self._pods = pods
        self._rows = rows

    def take(self, kind: str, pod: Manifest, at: float, wall: float) -> None:
        """Digest one event.

        Args:
            kind: ADDED, MODIFIED or DELETED; of a list everything is ADDED.
            pod: the pod after it.
            at: seconds since the beginning of the run.
            wall: the same moment in Unix seconds, by the clock here.
        """
        name = pod["metadata"]["name"]
        index = self._pods.get(name)
        if index is None:
            self.strangers.add(name)
            return
        records, status = self.records, pod.get("status", {})
        if np.isnan(records.created[index]):
            records.created[index] = at
            records.created_stamp[index] = parse_stamp(pod["metadata"]["creationTimestamp"])
        node = pod["spec"].get("nodeName")
        if node and np.isnan(records.bound[index]):
            records.bound[index], records.bound_wall[index] = at, wall
            records.node[index] = self._rows.get(node, -1)
            if node not in self._rows:
                self.strangers.add(node)
        if np.isnan(records.bound_stamp[index]):
            for condition in status.get("conditions") or ():
                if condition["type"] == "PodScheduled" and condition["status"] == "True":
                    records.bound_stamp[index] = parse_stamp(condition.get("lastTransitionTime"))
        phase = status.get("phase")
        if phase == "Running" and np.isnan(records.running[index]):
            records.running[index] = at
        if (phase in ENDED_PHASES or kind == "DELETED") and np.isnan(records.ended[index]):
            records.ended[index] = at
            records.failed[index] = phase != "Succeeded"

    def take_event(self, event: Manifest) -> None:
        """Digest an event of kube-scheduler (events.k8s.io/v1, reason Scheduled)."""
        index = self._pods.get(event.get("regarding", {}).get("name", ""))
        if index is not None and event.get("reason") == "Scheduled":
            self.records.event_stamp[index] = parse_stamp(event.get("eventTime"))
