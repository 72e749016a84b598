"""Real nodes that a replay's pods go to, instead of nodes that are made for KWOK to answer for.

They are left as they are: pods name the nodes that they may go to, and run a container that sleeps as long as the pod
is to run.
"""

from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np

from extender.cluster.requests import DEVICE_RESOURCE, SHARE_RESOURCE
from extender.placement import GPU, WHOLE_DEVICE_MILLI
from training.replay.api import Cluster, RefusedError
from training.replay.manifests import Manifest
from training.replay.objects import MARK, Ground
from training.replay.session import NODES, PODS, UnusableError, is_ready
from training.workloads.assembly import NodeColumns
from training.workloads.base import Population, Workload
from training.workloads.kubectl import node_columns
from training.workloads.kubernetes_objects import RecordedNode, RecordedPod
from training.workloads.tables import TraceError

HOSTNAME = "kubernetes.io/hostname"
NOBODY = 65532
SHOWN = 3


@dataclass(frozen=True)
class RealNodes:
    """Nodes of a cluster, with what is free of them.

    Attributes:
        names: of the nodes.
        hostnames: their labels `kubernetes.io/hostname`.
        columns: what pods of a replay can have of them.
        whole_devices: whether they offer GPUs as devices, not as thousandths.
        image: of the containers; it has `sleep`.
    """

    names: tuple[str, ...]
    hostnames: tuple[str, ...]
    columns: NodeColumns
    whole_devices: bool
    image: str

    def refuse_shares(self, population: Population) -> None:
        """See that the nodes have what pods ask for.

        Args:
            population: on these nodes.

        Raises:
            ValueError: pods that would fit share devices, and nodes offer whole ones only.
        """
        shapes = population.shapes
        shares = (shapes.gpu_count > 0) & (shapes.gpu_milli < WHOLE_DEVICE_MILLI)
        shares &= shapes.fitting_somewhere(population.allocatable, population.devices, population.admits)
        if self.whole_devices and np.any(shares[population.shape]):
            raise ValueError(
                f"pods of {population.name} take parts of GPUs, and the nodes offer whole ones ({DEVICE_RESOURCE}): "
                f"expected nodes that offer {SHARE_RESOURCE}, or a workload whose pods take whole devices"
            )

    def ground(self, workload: Workload) -> Ground:
        """The nodes for a workload, whose rows they are."""
        return Ground(
            self.names, [], [self._placing(mask) for mask in workload.admits], self._running, self.whole_devices
        )

    def _placing(self, admitted: np.ndarray) -> Manifest:
        values = [self.hostnames[row] for row in np.flatnonzero(admitted)]
        chosen = {"matchExpressions": [{"key": HOSTNAME, "operator": "In", "values": values}]}
        required = {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [chosen]}}
        return {"affinity": {"nodeAffinity": required}}

    def _running(self, seconds: float) -> Manifest:
        return {
            "image": self.image,
            "imagePullPolicy": "IfNotPresent",
            "command": ["sleep", f"{seconds:.3f}"],
            "securityContext": {
                "runAsNonRoot": True,
                "runAsUser": NOBODY,
                "allowPrivilegeEscalation": False,
                "capabilities": {"drop": ["ALL"]},
                "seccompProfile": {"type": "RuntimeDefault"},
            },
        }


def find_real_nodes(cluster: Cluster, selector: str, resources: tuple[str, ...], image: str) -> RealNodes:
    """The nodes that a selector finds, less what pods of others have of them.

    Args:
        cluster: where.
        selector: of their labels.
        resources: names of the columns.
        image: of the containers of pods that run there.

    Raises:
        UnusableError: there are none, pods cannot be placed on one of them, or the selector is none.
        ClusterError: the API server cannot be reached.
    """
    try:
        found = sorted(cluster.find(NODES, labelSelector=selector), key=lambda node: str(node["metadata"]["name"]))
    except RefusedError as error:
        raise UnusableError(f"--real-nodes {selector}: {error}") from error
    if not found:
        raise UnusableError(f"--real-nodes: no node of the cluster has the labels {selector!r}")
    _refuse("is not ready, cordoned or tainted", [node for node in found if not is_ready(node)])
    _refuse(f"has no label {HOSTNAME}", [node for node in found if HOSTNAME not in node["metadata"].get("labels", {})])
    names = tuple(str(node["metadata"]["name"]) for node in found)
    nodes = [(f"node {node['metadata']['name']}", _read(node, RecordedNode)) for node in found]
    pods = [
        (f"pod {pod['metadata']['namespace']}/{pod['metadata']['name']}", _read(pod, RecordedPod))
        for pod in cluster.find(PODS)
        if MARK not in pod["metadata"].get("labels", {})
    ]
    try:
        columns, _ = node_columns(nodes, pods, resources, lambda _: True)
    except TraceError as error:
        raise UnusableError(str(error)) from error
    free = np.minimum(columns.devices, columns.allocatable[:, GPU] // WHOLE_DEVICE_MILLI)
    columns = NodeColumns(columns.allocatable, free, columns.model, columns.pod_limit)
    hostnames = tuple(str(node["metadata"]["labels"][HOSTNAME]) for node in found)
    shared, whole = (
        [name for name, node in zip(names, found, strict=True) if resource in node["status"]["allocatable"]]
        for resource in (SHARE_RESOURCE, DEVICE_RESOURCE)
    )
    if shared and whole:
        raise UnusableError(
            f"--real-nodes: some nodes offer {SHARE_RESOURCE} ({shared[0]}), others {DEVICE_RESOURCE} ({whole[0]}), "
            "and a pod can only ask for one: choose nodes that offer the same"
        )
    return RealNodes(names, hostnames, columns, not shared, image)


def _refuse(what: str, nodes: list[Manifest]) -> None:
    if nodes:
        shown = ", ".join(node["metadata"]["name"] for node in nodes[:SHOWN]) + (", …" if len(nodes) > SHOWN else "")
        raise UnusableError(f"--real-nodes: {len(nodes)} of the nodes cannot be used, each {what}: {shown}")


def _read(document: Manifest, kind: Any) -> Any:
    try:
        return msgspec.convert(document, kind)
    except msgspec.ValidationError as error:
        raise UnusableError(f"{document['metadata']['name']}: {error}") from error
