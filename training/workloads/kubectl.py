"""A real cluster's nodes and pods, as `kubectl get … -o json` prints them.

    kubectl get nodes -o json > FOLDER/nodes.json
    kubectl get pods -A -o json > FOLDER/pods.json

or both in one file: `kubectl get nodes,pods -A -o json > FILE`. Requests are counted as the extender counts them, and
constraints evaluated as kube-scheduler does (`constraints`), with these readings:

- A pod arrives when it was created, and takes its place from `status.startTime` to the end of its last container.
- A pod that still runs has run at least until the latest time in the files, so that is its duration: too short, and
  the longer pods run the more so. A pod that never started, or whose end was not recorded, has the median duration of
  those that ended. The population's name counts both.
- What the API server has already forgotten is not there: finished pods are garbage-collected, so the files are biased
  towards long-running ones unless they are printed often enough and joined.
- Pods of DaemonSets and static pods belong to their node: what they request is taken off it, and they do not arrive.
- The GPU model is the node's label `nvidia.com/gpu.product` or one of its like (`requests.MODEL_LABELS`).
"""

from collections import Counter
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path

import numpy as np

from extender import quantity
from extender.admission import Place, constraint_of, place_of
from extender.cluster import amounts, requests
from extender.cluster.requests import RequestError
from extender.placement import PodRequest
from extender.quantity import QuantityError
from training.workloads.arrivals import DAY_SECONDS, FloatArray
from training.workloads.assembly import PODS_PER_NODE, NodeColumns, NodePrices, PodColumns, assemble, count_unplaceable
from training.workloads.base import BASE_RESOURCES, RESOURCES_AT_MOST, Population
from training.workloads.constraints import admitted_nodes
from training.workloads.kubernetes_objects import RecordedNode, RecordedPod, read_objects
from training.workloads.tables import LARGEST, TraceError

NODE_FILE, POD_FILE = "nodes.json", "pods.json"
OWNERS_TIED_TO_A_NODE = frozenset({"DaemonSet", "Node"})  # a static pod's owner is its node
PODS_RESOURCE = "pods"


def read_population(path: Path, prices: NodePrices | None = None) -> Population:
    """Read nodes and pods that kubectl printed.

    Args:
        path: a file with both, or a folder with `nodes.json` and `pods.json`.
        prices: of the nodes.

    Raises:
        TraceError: a file is missing, or an object in it cannot be read; the message names file, item and field.
    """
    nodes, pods = read_objects([path / NODE_FILE, path / POD_FILE] if path.is_dir() else [path])
    if not nodes or not pods:
        missing = "node" if not nodes else "pod"
        raise TraceError(f"{path}: there is no {missing}: expected what kubectl get nodes,pods -A -o json prints")
    resources = named_resources(path, [pod for _, pod in pods])
    columns, places = node_columns(nodes, pods, resources, is_tied_to_a_node)
    arriving = [(where, pod) for where, pod in pods if not is_tied_to_a_node(pod)]
    if not arriving:
        raise TraceError(f"{path}: every pod belongs to a DaemonSet or is static: there is none to schedule")
    duration, running, unknown = durations(path, [pod for _, pod in arriving])
    wanted = [request_of(where, pod, resources) for where, pod in arriving]
    of_pod, admitted = admitted_nodes([constraint_of(pod.spec) for _, pod in arriving], places)
    population = assemble(
        f"{path}, {len(nodes)} nodes and {len(arriving)} pods as kubectl printed them, {running} of which still ran "
        f"and {unknown} of which have no known duration",
        columns,
        PodColumns(
            np.array([request.request for request in wanted]),
            np.array([request.gpu_count for request in wanted]),
            np.array([request.gpu_milli for request in wanted]),
            duration=duration,
            priority=np.array([request.priority for request in wanted]),
            nonzero=np.array([request.nonzero for request in wanted]),
            arrival=arrivals(arriving),
            expected=np.array([request.expected_seconds for request in wanted]),
            constraint=np.array(of_pod),
            admitted=admitted,
        ),
        resources=resources,
        prices=prices,
    )
    return count_unplaceable(population, path)


def read_nodes(path: Path) -> NodeColumns:
    """Read the nodes only, with the base resources; raises TraceError."""
    nodes, _ = read_objects([path])
    if not nodes:
        raise TraceError(f"{path}: there is no node: expected what kubectl get nodes -o json prints")
    return node_columns(nodes, [], BASE_RESOURCES, is_tied_to_a_node)[0]


def named_resources(path: Path, pods: Sequence[RecordedPod]) -> tuple[str, ...]:
    """The base resources, then whatever else pods request, the most frequently requested first."""
    counts: Counter[str] = Counter()
    for pod in pods:
        for container in pod.spec.containers or ():
            if container.resources is not None:
                counts.update({*(container.resources.requests or ()), *(container.resources.limits or ())})
    for known in (amounts.CPU_NAME, amounts.MEMORY_NAME, requests.DEVICE_RESOURCE, requests.SHARE_RESOURCE):
        counts.pop(known, None)
    further = sorted(counts, key=lambda name: (-counts[name], name))
    if len(further) > RESOURCES_AT_MOST - len(BASE_RESOURCES):
        raise TraceError(
            f"{path}: the pods request {len(further)} resources beside cpu, memory and GPUs ({', '.join(further)}): "
            f"at most {RESOURCES_AT_MOST - len(BASE_RESOURCES)} are supported"
        )
    return (*BASE_RESOURCES, *further)


def node_columns(
    nodes: Sequence[tuple[str, RecordedNode]],
    pods: Sequence[tuple[str, RecordedPod]],
    resources: tuple[str, ...],
    stays: Callable[[RecordedPod], bool],
) -> tuple[NodeColumns, list[Place]]:
    """The nodes, less pods that stay there and have not ended, and what constraints look at; raises TraceError."""
    allocatable = np.zeros((len(nodes), len(resources)), np.int64)
    devices, pod_limit = np.zeros((2, len(nodes)), np.int64)
    places = []
    rows: dict[str, int] = {}
    for row, (where, node) in enumerate(nodes):
        name = node.metadata.name
        if not name or name in rows:
            raise TraceError(f"{where}: metadata.name: {name!r} where a name that occurs once was expected")
        rows[name] = row
        try:
            allocatable[row], devices[row] = requests.node_capacity(node, resources)
            listed = (node.status.allocatable or {}).get(PODS_RESOURCE, PODS_PER_NODE)
            nano = amounts.nano_list({PODS_RESOURCE: listed})[PODS_RESOURCE]
        except QuantityError as error:
            raise TraceError(f"{where}: status.allocatable: {error}") from error
        pod_limit[row] = min(quantity.to_base(nano), LARGEST)
        places.append(place_of(node, requests.gpu_model(node.metadata.labels)))
    for where, pod in pods:
        row = rows.get(pod.spec.node_name or "", -1)
        if row >= 0 and stays(pod) and not requests.has_ended(pod):
            allocatable[row] -= request_of(where, pod, resources).request
            pod_limit[row] -= 1
    columns = NodeColumns(
        np.maximum(allocatable, 0), devices, [place.model for place in places], np.maximum(pod_limit, 0)
    )
    return columns, places


def is_tied_to_a_node(pod: RecordedPod) -> bool:
    """Whether the pod belongs to its node rather than being placed."""
    return any(owner.kind in OWNERS_TIED_TO_A_NODE for owner in pod.metadata.owner_references or ())


def request_of(where: str, pod: RecordedPod, resources: tuple[str, ...]) -> PodRequest:
    """What the pod asks for, counted as the extender counts; raises TraceError."""
    try:
        try:
            return requests.pod_request(pod, resources)
        except RequestError:  # it was admitted to a real cluster, so it is counted as one that is on a node
            return requests.bound_pod_request(pod, resources)
    except QuantityError as error:
        raise TraceError(f"{where}: spec: {error}") from error


def arrivals(pods: Sequence[tuple[str, RecordedPod]]) -> FloatArray:
    """Seconds since the midnight (UTC) before the first creation; (P,) float64; raises TraceError."""
    for where, pod in pods:
        if pod.metadata.creation_timestamp is None:
            raise TraceError(f"{where}: metadata.creationTimestamp: missing where a time was expected")
    created = np.array([pod.metadata.creation_timestamp.timestamp() for _, pod in pods])  # type: ignore[union-attr]
    return created - created.min() // DAY_SECONDS * DAY_SECONDS


def durations(path: Path, pods: Sequence[RecordedPod]) -> tuple[FloatArray, int, int]:
    """How long the pods ran.

    Returns:
        (P,) float64 seconds; how many still ran; and how many have the median of those whose start is known.

    Raises:
        TraceError: no pod says when it started.
    """
    starts = [pod.status.start_time for pod in pods]
    ends = [end_of(pod) for pod in pods]
    created = [pod.metadata.creation_timestamp for pod in pods]
    latest = max((time.timestamp() for time in (*starts, *ends, *created) if time is not None), default=0.0)
    seconds = np.full(len(pods), np.nan)
    running = 0
    for index, (pod, start, end) in enumerate(zip(pods, starts, ends, strict=True)):
        if start is None or (requests.has_ended(pod) and end is None):
            continue
        running += end is None
        seconds[index] = max((latest if end is None else end.timestamp()) - start.timestamp(), 0.0)
    unknown = np.isnan(seconds)
    if unknown.all():
        raise TraceError(f"{path}: no pod has a status.startTime, so nothing is known of durations")
    ended = np.array([end is not None for end in ends]) & ~unknown
    seconds[unknown] = np.median(seconds[ended] if ended.any() else seconds[~unknown])
    return seconds, running, int(unknown.sum())


def end_of(pod: RecordedPod) -> datetime | None:
    """When the last container of an ended pod finished; None where it still runs or where that is not recorded."""
    if not requests.has_ended(pod):
        return None
    finished = [
        status.state.terminated.finished_at
        for status in pod.status.container_statuses or ()
        if status.state.terminated is not None and status.state.terminated.finished_at is not None
    ]
    return max(finished, default=None)
