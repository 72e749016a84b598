"""Pods that come and go in waves, so that the state in which each was placed is known for certain.

Pods leave only when kube-scheduler has decided on all that came, and come only when it knows of all that left. Both
is read from its log.
"""

from collections.abc import Callable, Iterable, Sequence

from tests.cluster.api import PODS, Api, Document
from tests.cluster.processes import wait_for
from tests.cluster.scheduler_log import SchedulerLog

SETTLE_LIMIT_SECONDS = 180.0


class Waves:
    """What has come and gone.

    Attributes:
        api: the API server.
        log: of kube-scheduler.
        pods: every pod that ever came by name, as the API server stored it.
        present: names of those that are on a node.
    """

    def __init__(self, api: Api, log: SchedulerLog) -> None:
        self.api = api
        self.log = log
        self.pods: dict[str, Document] = {}
        self.present: list[str] = []

    def join(self, nodes: Sequence[Document]) -> None:
        """Let nodes join the cluster."""
        for node in nodes:
            self.api.create(node)
        names = {node["metadata"]["name"] for node in nodes}
        self._wait(lambda: names <= self.log.nodes, "kube-scheduler to know the new nodes")

    def arrive(self, pods: Iterable[Document]) -> list[str]:
        """Let pods come and be placed; returns those that found no room, which leave at once."""
        names = []
        for pod in pods:
            stored = self.api.create(pod)
            names.append(stored["metadata"]["name"])
            self.pods[names[-1]] = stored
        self._wait(lambda: all(map(self.log.is_settled, names)), "kube-scheduler to decide on every pod")
        self.present += names
        rejected = [name for name in names if self.log.is_rejected(name)]
        self.leave(rejected)
        return rejected

    def leave(self, names: Sequence[str]) -> None:
        """Let pods leave."""
        for name in names:
            self.api.delete(f"{PODS}/{name}")
        self._wait(lambda: all(map(self.log.has_left, names)), "kube-scheduler to know that pods were deleted")
        gone = set(names)
        self.present = [name for name in self.present if name not in gone]

    def _wait(self, condition: Callable[[], bool], what: str) -> None:
        def look() -> bool:
            self.log.read_on()
            return condition()

        wait_for(look, SETTLE_LIMIT_SECONDS, what)
