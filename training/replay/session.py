"""A replay's stay in a cluster: allowed in, its nodes made and made ready, everything removed again.

One replay at a time in a cluster: a Lease says who is there, in whichever namespace that is. Who finds one that is no
longer renewed clears away what its holder left, by the label that everything carries; so does the next replay after one
that was killed.
"""

import logging
import secrets
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from http import HTTPStatus

from training.replay.api import Cluster, ClusterError, RefusedError
from training.replay.manifests import Manifest
from training.replay.objects import MARK, RUN_LABEL, Session, priority_classes
from training.replay.records import parse_stamp
from training.workloads.base import Workload

NODES = "/api/v1/nodes"
PODS = "/api/v1/pods"
NAMESPACES = "/api/v1/namespaces"
PRIORITY_CLASSES = "/apis/scheduling.k8s.io/v1/priorityclasses"
LEASES = "/apis/coordination.k8s.io/v1/namespaces/{}/leases"
ALL_LEASES = "/apis/coordination.k8s.io/v1/leases"
LEASE = "stowage-replay"
LEASE_SECONDS = 60
RENEWAL_SECONDS = 15.0
CONNECTIONS = 8
READY_SECONDS = 120.0
GONE_SECONDS = 120.0
POLL_SECONDS = 0.2
SYSTEM_NAMESPACES = frozenset({"kube-system", "kube-public", "kube-node-lease", "local-path-storage", "stowage"})
TIED_TO_A_NODE = frozenset({"DaemonSet", "Node"})
ENDED = frozenset({"Succeeded", "Failed"})

log = logging.getLogger(__name__)


class UnusableError(ClusterError):
    """The cluster cannot be used as it is, or is not ours to use; nothing was made in it."""


def foreign_pods(pods: Sequence[Manifest]) -> list[str]:
    """Pods of others that may compete with a replay for the scheduler: not ended, not of the system, not of a node."""
    return [
        f"{pod['metadata']['namespace']}/{pod['metadata']['name']}"
        for pod in pods
        if MARK not in pod["metadata"].get("labels", {})
        and pod["metadata"]["namespace"] not in SYSTEM_NAMESPACES
        and pod.get("status", {}).get("phase") not in ENDED
        and not any(owner["kind"] in TIED_TO_A_NODE for owner in pod["metadata"].get("ownerReferences", ()))
    ]


class Stay:
    """What a replay has made in a cluster; `leave` removes it.

    Attributes:
        cluster: where.
        session: the label's value, and the namespace.
        foreign: how many pods of others there were when it came.
    """

    def __init__(self, cluster: Cluster, namespace: str, say: Callable[[str], None]) -> None:
        self.session = Session(secrets.token_hex(4), namespace)
        self.foreign = 0
        self.cluster = cluster
        self._say = say
        self._over = threading.Event()
        self._renewing: threading.Thread | None = None

    def look_around(self, among_foreign: bool) -> None:
        """See whether the cluster can be used; nothing is made.

        Args:
            among_foreign: whether it may be while pods of others are there.

        Raises:
            UnusableError: somebody is there.
            ClusterError: the API server cannot be reached.
        """
        refuse_beside_another(self.cluster)
        foreign = foreign_pods(self.cluster.find(PODS))
        if foreign and not among_foreign:
            shown = ", ".join(foreign[:5]) + (", …" if len(foreign) > 5 else "")
            raise UnusableError(
                f"{len(foreign)} pods of others are in the cluster ({shown}): a replay would disturb them; "
                "choose another cluster, or give --among-foreign"
            )
        self.foreign = len(foreign)

    def enter(self) -> None:
        """Come in, and clear away what an earlier replay left.

        Raises:
            ClusterError: the API server refuses what a replay needs.
        """
        cluster, namespace = self.cluster, self.session.namespace
        if (left := leftovers(cluster)) > 0 or leases(cluster):
            self._say(f"an earlier replay left {left} objects behind: removing them")
            remove(cluster, None, namespace)
        if not cluster.exists(f"{NAMESPACES}/{namespace}"):
            cluster.create(
                NAMESPACES,
                {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace, "labels": self._label()}},
            )
        cluster.create(LEASES.format(namespace), self._lease())
        self._renewing = threading.Thread(target=self._renew, name="lease", daemon=True)
        self._renewing.start()

    def join(self, nodes: Sequence[Manifest], workload: Workload) -> None:
        """Make nodes and priority classes, and wait until all nodes are ready.

        Raises:
            ClusterError: KWOK does not make them ready.
        """
        cluster = self.cluster
        for document in priority_classes(self.session, workload):
            try:
                cluster.create(PRIORITY_CLASSES, document)
            except RefusedError as error:
                if error.status != HTTPStatus.CONFLICT:  # of the seed before
                    raise
        with ThreadPoolExecutor(CONNECTIONS) as pool:
            list(pool.map(lambda node: cluster.create(NODES, node), nodes))
        names = {node["metadata"]["name"] for node in nodes}
        deadline = time.monotonic() + READY_SECONDS
        while unready := names - {node["metadata"]["name"] for node in self._nodes() if is_ready(node)}:
            if time.monotonic() > deadline:
                raise ClusterError(
                    f"{len(unready)} of {len(names)} nodes are not ready after {READY_SECONDS:.0f} s: is KWOK running, "
                    "with --manage-nodes-with-annotation-selector=kwok.x-k8s.io/node=fake and the stages of "
                    "manifests/kwok/stages.yaml?"
                )
            time.sleep(POLL_SECONDS)

    def part(self) -> None:
        """Remove pods and nodes, keep the rest for the next ones."""
        remove_pods(self.cluster, self.session)
        self.cluster.delete(NODES, labelSelector=self._selector())
        wait_gone(lambda: len(self._nodes()), "nodes")

    def remove_run(self, run: str) -> None:
        """Remove the pods of a run."""
        remove_pods(self.cluster, self.session, f"{self._selector()},{RUN_LABEL}={run}")

    def leave(self) -> None:
        """Remove everything.

        Raises:
            ClusterError: something stays.
        """
        self._over.set()
        if self._renewing is not None:
            self._renewing.join(RENEWAL_SECONDS)
        remove(self.cluster, self.session.id, self.session.namespace)

    def _nodes(self) -> list[Manifest]:
        return self.cluster.find(NODES, labelSelector=self._selector())

    def _selector(self) -> str:
        return f"{MARK}={self.session.id}"

    def _label(self) -> dict[str, str]:
        return {MARK: self.session.id}

    def _lease(self) -> Manifest:
        now = datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
        return {
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            "metadata": {"name": LEASE, "labels": self._label()},
            "spec": {"holderIdentity": self.session.id, "leaseDurationSeconds": LEASE_SECONDS, "renewTime": now},
        }

    def _renew(self) -> None:
        path = f"{LEASES.format(self.session.namespace)}/{LEASE}"
        while not self._over.wait(RENEWAL_SECONDS):
            try:
                held = self.cluster.request("GET", path).document
                held["spec"] = self._lease()["spec"]
                self.cluster.request("PUT", path, held)
            except ClusterError as error:  # the next time may do; the run itself notices a cluster that is gone
                log.warning("the lease was not renewed: %s", error)


def leases(cluster: Cluster) -> list[Manifest]:
    """The leases of replays, in all namespaces: what they make is not confined to theirs, and nor is `remove`."""
    return cluster.find(ALL_LEASES, fieldSelector=f"metadata.name={LEASE}")


def refuse_beside_another(cluster: Cluster) -> None:
    """See that no replay works in the cluster.

    Raises:
        UnusableError: one does, in whichever namespace.
        ClusterError: the API server cannot be reached.
    """
    for held in leases(cluster):
        if (age := lease_age(held, time.time())) < LEASE_SECONDS:
            raise UnusableError(
                f"another replay ({held['spec'].get('holderIdentity')}) works in namespace "
                f"{held['metadata']['namespace']} of this cluster: it said so {max(age, 0):.0f} s ago; wait until it "
                f"has ended, or, if it was killed, until that is {LEASE_SECONDS} s"
            )


def lease_age(lease: Manifest, now: float) -> float:
    """Seconds since a lease was renewed."""
    return now - parse_stamp(lease["spec"].get("renewTime") or lease["metadata"]["creationTimestamp"])


def is_ready(node: Manifest) -> bool:
    """Whether pods can be placed on the node."""
    conditions = node.get("status", {}).get("conditions", ())
    taints = node["spec"].get("taints") or ()
    return any(each["type"] == "Ready" and each["status"] == "True" for each in conditions) and all(
        taint["key"] == MARK for taint in taints
    )


def leftovers(cluster: Cluster) -> int:
    """How many objects of any replay there are."""
    return sum(len(cluster.find(path, labelSelector=MARK)) for path in (PODS, NODES, PRIORITY_CLASSES, NAMESPACES))


def remove(cluster: Cluster, session: str | None, namespace: str) -> None:
    """Remove what a session made, or all of them.

    Raises:
        ClusterError: something stays.
    """
    selector = MARK if session is None else f"{MARK}={session}"
    spaces = {pod["metadata"]["namespace"] for pod in cluster.find(PODS, labelSelector=selector)} | {namespace}
    for space in sorted(spaces):
        remove_pods(cluster, Session(session or "", space), selector)
    for path in (NODES, PRIORITY_CLASSES):
        cluster.delete(path, labelSelector=selector)
    for lease in leases(cluster):
        if session in (None, lease["spec"].get("holderIdentity")):
            cluster.delete(f"{LEASES.format(lease['metadata']['namespace'])}/{LEASE}")
    for made in cluster.find(NAMESPACES, labelSelector=selector):
        cluster.delete(f"{NAMESPACES}/{made['metadata']['name']}")
    wait_gone(lambda: sum(len(cluster.find(path, labelSelector=selector)) for path in (NODES, NAMESPACES)), "objects")


def remove_pods(cluster: Cluster, session: Session, selector: str | None = None) -> None:
    """Delete pods at once, and wait until they are gone; raises ClusterError if they stay."""
    selector = selector or f"{MARK}={session.id}"
    cluster.delete(session.pods, grace_seconds=0, labelSelector=selector)
    wait_gone(lambda: len(cluster.find(session.pods, labelSelector=selector)), "pods")


def wait_gone(count: Callable[[], int], what: str) -> None:
    """Wait until nothing is left; raises ClusterError if something is."""
    deadline = time.monotonic() + GONE_SECONDS
    while left := count():
        if time.monotonic() > deadline:
            raise ClusterError(
                f"{left} {what} are still there {GONE_SECONDS:.0f} s after they were deleted; remove them with "
                f"--clean-up, or by their label {MARK}"
            )
        time.sleep(POLL_SECONDS)
