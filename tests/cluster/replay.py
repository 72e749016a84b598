"""Lets the pods of a workload arrive, notes where each was bound, and clears away those that have run their course.

A pod that has succeeded stays for a while before it is deleted, as Jobs leave theirs: it is on its node still, and
takes nothing.
"""

import time
from collections.abc import Callable, Sequence

from tests.cluster.api import PODS, Api
from tests.cluster.workload import Arrival

SWEEP_SECONDS = 0.25
LINGER_SECONDS = 2.0


class Replay:
    """A workload on its way through the cluster.

    Attributes:
        created: names of the pods by uid, in the order of creation.
        placements: the node of each pod that was bound, by uid.
        gone: uids of the pods that were deleted.
    """

    def __init__(self, api: Api, arrivals: Sequence[Arrival]) -> None:
        self._api = api
        self._upcoming = list(reversed(arrivals))
        self._started = time.monotonic()
        self.created: dict[str, str] = {}
        self.placements: dict[str, str] = {}
        self.gone: set[str] = set()
        self._succeeded: dict[str, float] = {}  # when it was seen, by uid

    def run_until(self, condition: Callable[[], bool], limit_seconds: float) -> None:
        """Go on until the condition holds; between calls the cluster goes on, but nobody arrives.

        Raises:
            AssertionError: the limit passed; the message says how far the pods came.
        """
        deadline = time.monotonic() + limit_seconds
        while not condition():
            assert time.monotonic() < deadline, (
                f"after {limit_seconds:g} s {len(self._upcoming)} pods are still to come; of {len(self.created)} "
                f"created {len(self.placements)} were bound and {len(self.gone)} have left"
            )
            self._create_due()
            self._sweep()
            time.sleep(SWEEP_SECONDS)

    def all_arrived_and_bound(self) -> bool:
        """Whether every pod has been created and bound."""
        return not self._upcoming and len(self.placements) == len(self.created)

    def all_left(self) -> bool:
        """Whether every pod has been created, has been bound and is deleted."""
        return self.all_arrived_and_bound() and len(self.gone) == len(self.created)

    def running_on(self) -> set[str]:
        """The nodes that hold a pod of the workload now."""
        return {node for uid, node in self.placements.items() if uid not in self.gone}

    def collect_orphans(self, node: str) -> None:
        """Delete the pods of a node that is gone, as the pod garbage collector of a whole control plane does."""
        for uid, place in self.placements.items():
            if place == node and uid not in self.gone:
                self._delete(uid)

    def _create_due(self) -> None:
        while self._upcoming and self._upcoming[-1].at_seconds <= time.monotonic() - self._started:
            created = self._api.create(self._upcoming.pop().pod)
            self.created[created["metadata"]["uid"]] = created["metadata"]["name"]

    def _sweep(self) -> None:
        for pod in self._api.list_pods():
            uid = pod["metadata"]["uid"]
            if uid not in self.created:
                continue
            if "nodeName" in pod["spec"]:
                self.placements[uid] = pod["spec"]["nodeName"]
            if pod["status"]["phase"] == "Succeeded" and uid not in self.gone:
                seen = self._succeeded.setdefault(uid, time.monotonic())
                if time.monotonic() - seen > LINGER_SECONDS:
                    self._delete(uid)

    def _delete(self, uid: str) -> None:
        self._api.delete(f"{PODS}/{self.created[uid]}")
        self.gone.add(uid)
