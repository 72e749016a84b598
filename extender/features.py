"""What a policy sees of a candidate: the node as it would be with the pod on it, and what changed.

The only implementation of the features. The extender calls these functions as plain numpy, the simulator compiles the
same ones with numba, so training and serving cannot drift apart. Every number is a share of something (of the node, of
a device, of the cluster), hence a policy trained on a few dozen nodes can serve thousands. `policies.onnx` feeds the
rows to the network; `feature_names` is written into every policy file and compared when it is loaded.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from extender.placement import (
    CPU,
    GPU,
    WHOLE_DEVICE_MILLI,
    Candidates,
    IntArray,
    NodeArrays,
    PodRequest,
    devices_after,
    shares_device,
)

SCHEMA_VERSION = 1
DEVICES_AT_MOST = 8.0  # scale of device counts: the largest GPU node of openb, and of most machines sold
LONGEST_LOG_SECONDS = np.log1p(7 * 86400.0)  # expected durations are on a log scale that reaches 1 at a week
PRIORITY_SCALE = 1e9  # HighestUserDefinablePriority, pkg/apis/scheduling/types.go

FloatArray = NDArray[np.float64]
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


class TypicalPods(NamedTuple):
    """The pods that a workload usually brings: what free capacity is good for is measured against them.

    Source: FGD, "Beware of Fragmentation" (USENIX ATC'23), section 4.

    Attributes:
        cpu: (T,) int64 milli.
        gpu_count: (T,) int64.
        gpu_milli: (T,) int64, per device; 0 for pods without GPU.
        share: (T,) float64, how often each occurs; sums to 1.
    """

    cpu: IntArray
    gpu_count: IntArray
    gpu_milli: IntArray
    share: FloatArray


def feature_names(resources: Sequence[str]) -> tuple[str, ...]:
    """Names of the columns of `placement_features`, in order, for clusters with these resources."""
    per_resource = tuple(
        f"{resource}/{part}" for resource in resources for part in ("free-before", "free-after", "share-taken")
    )
    return per_resource + NODE_FEATURES + POD_FEATURES


def feature_count(resource_count: int) -> int:
    """Number of columns of `placement_features`."""
    return 3 * resource_count + len(NODE_FEATURES) + len(POD_FEATURES)


def free_fractions(allocatable: IntArray, requested: IntArray) -> FloatArray:
    """Free share of one resource on each node, 0 where the node has none of it or it is overcommitted; (K,)."""
    fractions: FloatArray = np.maximum(allocatable - requested, 0) / np.maximum(allocatable, 1)
    return fractions


def imbalances(allocatable: IntArray, requested: IntArray) -> FloatArray:
    """How unevenly a node's resources are used: the standard deviation of their used shares, in 0 .. 0.5.

    Source: pkg/scheduler/framework/plugins/noderesources/balanced_allocation.go.

    Args:
        allocatable: (K, R) int64.
        requested: (K, R) int64.

    Returns:
        (K,) float64.
    """
    present = np.zeros(allocatable.shape[0])
    total = np.zeros(allocatable.shape[0])
    squares = np.zeros(allocatable.shape[0])
    for resource in range(allocatable.shape[1]):
        capacity = allocatable[:, resource]
        used = np.where(capacity > 0, np.minimum(requested[:, resource] / np.maximum(capacity, 1), 1.0), 0.0)
        present += np.where(capacity > 0, 1.0, 0.0)
        total += used
        squares += used * used
    present = np.maximum(present, 1.0)
    mean = total / present
    return np.sqrt(np.maximum(squares / present - mean * mean, 0.0))


def fragmentation(cpu_free: IntArray, device_free: IntArray, typical: TypicalPods) -> FloatArray:
    """GPU capacity on each node that the next typical pod cannot use, in expectation.

    For a typical pod that the node could serve, that is the parts of devices smaller than it needs; for one that it
    could not serve (too few devices, or too little CPU), and for one without GPU, it is everything.
    Source: FGD, "Beware of Fragmentation" (USENIX ATC'23), section 4.

    Args:
        cpu_free: (K,) int64 milli.
        device_free: (K, D) int64 thousandths of a device.

    Returns:
        (K,) float64 in thousandths of a device.

    Example:
        >>> one_device = TypicalPods(np.array([4000]), np.array([1]), np.array([1000]), np.array([1.0]))
        >>> fragmentation(np.array([8000, 2000]), np.array([[1000, 400], [1000, 400]]), one_device)
        array([ 400., 1400.])
    """
    free = np.maximum(device_free, 0)
    left = np.sum(free, axis=1)
    wasted = np.zeros(device_free.shape[0])
    size = np.int64(-1)
    fitting = np.zeros(device_free.shape[0], dtype=np.int64)
    remainder = left
    for index in range(typical.share.shape[0]):
        if typical.gpu_milli[index] == 0:
            wasted += typical.share[index] * left
            continue
        if typical.gpu_milli[index] != size:  # shapes of one size follow each other: see order_typical_pods
            size = typical.gpu_milli[index]
            large = device_free >= size
            fitting = np.sum(np.where(large, 1, 0), axis=1)
            remainder = left - np.sum(np.where(large, free, 0), axis=1)
        servable = (fitting >= typical.gpu_count[index]) & (cpu_free >= typical.cpu[index])
        wasted += typical.share[index] * np.where(servable, remainder, left)
    return wasted


def order_typical_pods(typical: TypicalPods) -> TypicalPods:
    """Put shapes that ask for parts of one size next to each other, which lets `fragmentation` look once per size."""
    order = np.argsort(typical.gpu_milli, kind="stable")
    return TypicalPods(typical.cpu[order], typical.gpu_count[order], typical.gpu_milli[order], typical.share[order])


def placement_features(
    nodes: NodeArrays, pod: PodRequest, candidates: Candidates, typical: TypicalPods
) -> FeatureArray:
    """Describe each candidate by its node after the placement, and by what the placement changes.

    Returns:
        (K, F) float32; the columns are `feature_names`.
    """
    rows = candidates.rows
    count = rows.shape[0]
    resources = nodes.allocatable.shape[1]
    features = np.zeros((count, 3 * resources + len(NODE_FEATURES) + len(POD_FEATURES)), dtype=np.float32)
    allocatable = nodes.allocatable[rows]
    before = nodes.requested[rows]
    after = before + pod.request
    for resource in range(resources):
        capacity = allocatable[:, resource]
        features[:, 3 * resource] = free_fractions(capacity, before[:, resource])
        features[:, 3 * resource + 1] = free_fractions(capacity, after[:, resource])
        features[:, 3 * resource + 2] = np.minimum(pod.request[resource] / np.maximum(capacity, 1), 1.0)

    device_before = nodes.device_free[rows]
    device_after = devices_after(device_before, pod, candidates.devices)
    whole_before = np.zeros(count)
    whole_after = np.zeros(count)
    largest = np.zeros(count, dtype=np.int64)
    for device in range(device_before.shape[1]):
        whole_before += np.where(device_before[:, device] == WHOLE_DEVICE_MILLI, 1.0, 0.0)
        whole_after += np.where(device_after[:, device] == WHOLE_DEVICE_MILLI, 1.0, 0.0)
        largest = np.maximum(largest, device_after[:, device])
    wasted_before = fragmentation(allocatable[:, CPU] - before[:, CPU], device_before, typical)
    wasted_after = fragmentation(allocatable[:, CPU] - after[:, CPU], device_after, typical)

    node = 3 * resources
    features[:, node] = whole_before / DEVICES_AT_MOST
    features[:, node + 1] = whole_after / DEVICES_AT_MOST
    features[:, node + 2] = largest / WHOLE_DEVICE_MILLI
    features[:, node + 3] = imbalances(allocatable, before)
    features[:, node + 4] = imbalances(allocatable, after)
    features[:, node + 5] = np.where(np.sum(before, axis=1) == 0, 1.0, 0.0)
    features[:, node + 6] = wasted_before / (DEVICES_AT_MOST * WHOLE_DEVICE_MILLI)
    features[:, node + 7] = (wasted_after - wasted_before) / WHOLE_DEVICE_MILLI

    several = pod.gpu_count > 1
    shared = shares_device(pod)
    features[:, node + 8] = 1.0 if pod.gpu_count == 0 else 0.0
    features[:, node + 9] = 1.0 if shared else 0.0
    features[:, node + 10] = 1.0 if pod.gpu_count == 1 and not shared else 0.0
    features[:, node + 11] = 1.0 if several else 0.0
    features[:, node + 12] = pod.request[GPU] / (DEVICES_AT_MOST * WHOLE_DEVICE_MILLI)
    features[:, node + 13] = min(max(pod.priority / PRIORITY_SCALE, -1.0), 1.0)
    features[:, node + 14] = min(np.log1p(max(pod.expected_seconds, 0.0)) / LONGEST_LOG_SECONDS, 1.0)
    return features


COMPILABLE: tuple[Any, ...] = (
    free_fractions,
    imbalances,
    fragmentation,
    placement_features,
)
"""What the simulator compiles, callees before callers."""
