"""What a policy sees of a candidate: the node as it would be with the pod on it, and what changed.

The only implementation of the features. The extender calls these functions on arrays of candidates, the simulator
compiles the same ones for single candidates (see `elementwise`), so training and serving cannot drift apart. Every
number is a share of something (of the node, of a device, of the cluster), hence a policy trained on a few dozen nodes
can serve thousands. `policies.onnx` feeds the rows to the network; `feature_names` is written into every policy file
and compared when it is loaded.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from extender.elementwise import where
from extender.fragmentation import FragmentationTables, fragmentation
from extender.placement import (
    CPU,
    GPU,
    WHOLE_DEVICE_MILLI,
    Candidates,
    NodeArrays,
    PodRequest,
    devices_after,
    shares_device,
)

SCHEMA_VERSION = 2
DEVICES_AT_MOST = 8.0  # scale of device counts: the largest GPU node of openb, and of most machines sold
LONGEST_LOG_SECONDS = np.log1p(7 * 86400.0)  # expected durations are on a log scale that reaches 1 at a week
PRIORITY_SCALE = 1e9  # HighestUserDefinablePriority, pkg/apis/scheduling/types.go

FeatureArray = NDArray[np.float32]

NODE_FEATURES = (
    "node/whole-devices-before",
    "node/whole-devices-after",
    "node/largest-part-after",
    "node/imbalance-before",
    "node/imbalance-after",
    "node/empty-before",
    "node/fragmentation-before",
    "node/fragmentation-change",
)
POD_FEATURES = (
    "pod/cpu-only",
    "pod/shares-device",
    "pod/one-device",
    "pod/several-devices",
    "pod/gpu",
    "pod/priority",
    "pod/expected-seconds",
)


def feature_names(resources: Sequence[str]) -> tuple[str, ...]:
    """Names of the columns of `placement_features`, in order, for clusters with these resources."""
    per_resource = tuple(
        f"{resource}/{part}" for resource in resources for part in ("free-before", "free-after", "share-taken")
    )
    return per_resource + NODE_FEATURES + POD_FEATURES


def feature_count(resource_count: int) -> int:
    """Number of columns of `placement_features`."""
    return 3 * resource_count + len(NODE_FEATURES) + len(POD_FEATURES)


def placement_features(
    nodes: NodeArrays, pod: PodRequest, candidates: Candidates, tables: FragmentationTables
) -> FeatureArray:
    """Describe each candidate by its node after the placement, and by what the placement changes.

    Args:
        tables: the workload's typical pods.

    Returns:
        (K, F) float32; the columns are `feature_names`.
    """
    count = len(candidates.rows)
    features = np.empty((feature_count(nodes.allocatable.shape[1]), count), dtype=np.float32)
    after = np.empty((nodes.device_free.shape[1], count), dtype=np.int64)
    describe(nodes, pod, candidates, tables, after, features)
    return np.ascontiguousarray(features.T)


def describe(
    nodes: NodeArrays, pod: PodRequest, candidates: Candidates, tables: FragmentationTables, after: Any, features: Any
) -> None:
    """`placement_features` for one candidate or for many, into arrays that are there already.

    Args:
        after: (D, K) int64 for K candidates, (D,) for a single one; receives the devices with the pod placed.
        features: (F, K) float32, or (F,); receives the features.
    """
    rows = candidates.rows
    resources = nodes.allocatable.shape[1]
    before_imbalance = imbalance(nodes, pod, rows, 0)
    after_imbalance = imbalance(nodes, pod, rows, 1)
    empty = rows >= 0
    for resource in range(resources):
        capacity = nodes.allocatable[rows, resource]
        used = nodes.requested[rows, resource]
        amount = pod.request[resource]
        features[3 * resource] = free_fraction(capacity, used)
        features[3 * resource + 1] = free_fraction(capacity, used + amount)
        features[3 * resource + 2] = np.minimum(amount / np.maximum(capacity, 1), 1.0)
        empty = empty & (used == 0)

    devices_after(nodes, pod, candidates, after)
    whole_before = 0 * rows
    whole_after = 0 * rows
    largest = 0 * rows
    for device in range(nodes.device_free.shape[1]):
        whole_before = whole_before + where(nodes.device_free[rows, device] == WHOLE_DEVICE_MILLI, 1, 0)
        whole_after = whole_after + where(after[device] == WHOLE_DEVICE_MILLI, 1, 0)
        largest = np.maximum(largest, after[device])
    cpu_free = nodes.allocatable[rows, CPU] - nodes.requested[rows, CPU]
    model = nodes.model[rows]
    wasted_before = fragmentation(tables, model, cpu_free, nodes.device_free[rows].T)
    wasted_after = fragmentation(tables, model, cpu_free - pod.request[CPU], after)

    node = 3 * resources
    features[node] = whole_before / DEVICES_AT_MOST
    features[node + 1] = whole_after / DEVICES_AT_MOST
    features[node + 2] = largest / WHOLE_DEVICE_MILLI
    features[node + 3] = before_imbalance
    features[node + 4] = after_imbalance
    features[node + 5] = where(empty, 1.0, 0.0)
    features[node + 6] = wasted_before / (DEVICES_AT_MOST * WHOLE_DEVICE_MILLI)
    features[node + 7] = (wasted_after - wasted_before) / WHOLE_DEVICE_MILLI

    shares = shares_device(pod)
    features[node + 8] = 1.0 if pod.gpu_count == 0 else 0.0
    features[node + 9] = 1.0 if shares else 0.0
    features[node + 10] = 1.0 if pod.gpu_count == 1 and not shares else 0.0
    features[node + 11] = 1.0 if pod.gpu_count > 1 else 0.0
    features[node + 12] = pod.request[GPU] / (DEVICES_AT_MOST * WHOLE_DEVICE_MILLI)
    features[node + 13] = min(max(pod.priority / PRIORITY_SCALE, -1.0), 1.0)
    features[node + 14] = min(np.log1p(max(pod.expected_seconds, 0.0)) / LONGEST_LOG_SECONDS, 1.0)


def free_fraction(allocatable: Any, requested: Any) -> Any:
    """Free share of a resource, 0 where the node has none of it or it is overcommitted."""
    return np.maximum(allocatable - requested, 0) / np.maximum(allocatable, 1)


def imbalance(nodes: NodeArrays, pod: PodRequest, rows: Any, times: int) -> Any:
    """How unevenly a node's resources are used with the pod on it so many times: 0 .. 0.5.

    That is the standard deviation of the used shares of the resources that the node has.
    Source: pkg/scheduler/framework/plugins/noderesources/balanced_allocation.go.
    """
    present = 0 * rows
    total = 0.0 * rows
    squares = 0.0 * rows
    for resource in range(nodes.allocatable.shape[1]):
        capacity = nodes.allocatable[rows, resource]
        requested = nodes.requested[rows, resource] + times * pod.request[resource]
        used = where(capacity > 0, np.minimum(requested / np.maximum(capacity, 1), 1.0), 0.0)
        present = present + where(capacity > 0, 1, 0)
        total = total + used
        squares = squares + used * used
    present = np.maximum(present, 1)
    mean = total / present
    return np.sqrt(np.maximum(squares / present - mean * mean, 0.0))


COMPILABLE: tuple[Any, ...] = (free_fraction, imbalance, describe)
"""What the simulator compiles, callees before callers."""
