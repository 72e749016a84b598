"""Where a pod could go, and what a node looks like once it is there.

Nodes are a struct of arrays, so that one expression looks at all of them. Functions with an argument `rows` take an
array of rows, or a single row when the simulator compiles them (see `elementwise`), and answer in kind; both therefore
agree to the last bit. Candidates go on to `features` and `policies`; `occupy` and `release` keep the arrays in step
with the pods.
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from extender.elementwise import where

WHOLE_DEVICE_MILLI = 1000
ABSENT_DEVICE = -1
ANY_DEVICE = -1
CPU, MEMORY, GPU = 0, 1, 2  # positions of the resources every cluster has; further ones follow
GPU_POD_CLASSES = 9  # shares of a device, then 1 … 8 whole devices and more
# What a container without a request counts in scores: pkg/scheduler/util/pod_resources.go.
DEFAULT_CPU_MILLI = 100
DEFAULT_MEMORY_BYTES = 200 * 1024 * 1024

IntArray = NDArray[np.int64]
BoolArray = NDArray[np.bool_]


class NodeArrays(NamedTuple):
    """The nodes of a cluster, a row each.

    Attributes:
        allocatable: (N, R) int64, in base units: CPU in milli, memory in bytes, GPU in thousandths of a device.
        requested: (N, R) int64, the same units, summed over the pods on the node.
        nonzero: (N, 2) int64, CPU and memory summed as kube-scheduler's scores count them: a container without a
            request counts `DEFAULT_CPU_MILLI` and `DEFAULT_MEMORY_BYTES`.
        device_free: (N, D) int64, what is left of each GPU in thousandths; `ABSENT_DEVICE` where there is none.
        gpu_pods: (N, GPU_POD_CLASSES) int64, the GPU pods on the node by `pod_class`.
        model: (N,) int64, the GPU model's number, 0 where it is not known.
        order: (N,) float64, a fixed order of the nodes, from 0 to below 1; a policy that prefers the first among nodes
            that suit a pod equally well fills node after node.
    """

    allocatable: IntArray
    requested: IntArray
    nonzero: IntArray
    device_free: IntArray
    gpu_pods: IntArray
    model: IntArray
    order: NDArray[np.float64]


class PodRequest(NamedTuple):
    """What a pod asks for.

    Attributes:
        request: (R,) int64 in base units; its GPU entry is `gpu_count * gpu_milli`.
        nonzero: (2,) int64, CPU and memory as in `NodeArrays.nonzero`.
        gpu_count: number of devices, 0 for a pod without GPU.
        gpu_milli: thousandths of each device; below 1000 only together with `gpu_count` 1 (a shared device).
        priority: the pod's priority value.
        expected_seconds: how long it is expected to run; 0.0 where nothing is known.
    """

    request: IntArray
    nonzero: IntArray
    gpu_count: int
    gpu_milli: int
    priority: int
    expected_seconds: float


class Candidates(NamedTuple):
    """What a policy scores: a node, or for a pod that shares a device a (node, device) pair.

    Attributes:
        rows: (K,) int64, the node's row.
        devices: (K,) int64, the shared device, `ANY_DEVICE` for pods that share none.
    """

    rows: Any
    devices: Any


def empty_nodes(allocatable: IntArray, devices: IntArray, model: IntArray | None = None) -> NodeArrays:
    """Nodes without pods, in the order in which they are given.

    Args:
        allocatable: (N, R) int64.
        devices: (N,) int64, GPUs of each node.
        model: (N,) int64; unknown where left out.
    """
    count = len(allocatable)
    slots = np.arange(max(int(devices.max(initial=0)), 1))
    return NodeArrays(
        allocatable.copy(),
        np.zeros_like(allocatable),
        np.zeros((count, 2), np.int64),
        np.where(slots < devices[:, None], WHOLE_DEVICE_MILLI, ABSENT_DEVICE),
        np.zeros((count, GPU_POD_CLASSES), np.int64),
        np.zeros(count, np.int64) if model is None else model.copy(),
        np.arange(count) / max(count, 1),
    )


def pod_request(
    request: IntArray,
    gpu_count: int = 0,
    gpu_milli: int = 0,
    priority: int = 0,
    expected_seconds: float = 0.0,
    nonzero: IntArray | None = None,
) -> PodRequest:
    """A pod; where `nonzero` is left out, it has one container."""
    if nonzero is None:
        nonzero = np.where(request[:GPU] > 0, request[:GPU], [DEFAULT_CPU_MILLI, DEFAULT_MEMORY_BYTES])
    return PodRequest(request, nonzero, gpu_count, gpu_milli, priority, expected_seconds)


def shares_device(pod: PodRequest) -> bool:
    """Whether the pod takes a part of one device."""
    return pod.gpu_count == 1 and pod.gpu_milli < WHOLE_DEVICE_MILLI


def pod_class(pod: PodRequest) -> int:
    """A GPU pod's class: 0 if it shares a device, else the number of devices."""
    return 0 if shares_device(pod) else min(pod.gpu_count, GPU_POD_CLASSES - 1)


def fits(nodes: NodeArrays, pod: PodRequest, rows: Any) -> Any:
    """Whether the pod has room: every resource that it asks for, as NodeResourcesFit decides it, and devices.

    Source: pkg/scheduler/framework/plugins/noderesources/fit.go (a resource that is not asked for is not compared).
    """
    room = rows >= 0
    for resource in range(pod.request.shape[0]):
        amount = pod.request[resource]
        if amount > 0:
            room = room & (nodes.allocatable[rows, resource] - nodes.requested[rows, resource] >= amount)
    if pod.gpu_count > 0:
        enough = 0 * rows
        for device in range(nodes.device_free.shape[1]):
            enough = enough + where(nodes.device_free[rows, device] >= pod.gpu_milli, 1, 0)
        room = room & (enough >= pod.gpu_count)
    return room


def tightest_device(nodes: NodeArrays, pod: PodRequest, rows: Any) -> Any:
    """The device with the least room that still holds the pod's share, the first among equals.

    `ANY_DEVICE` where no device has room.
    """
    found = 0 * rows + ANY_DEVICE
    least = 0 * rows + (WHOLE_DEVICE_MILLI + 1)
    for device in range(nodes.device_free.shape[1]):
        free = nodes.device_free[rows, device]
        better = (free >= pod.gpu_milli) & (free < least)
        least = where(better, free, least)
        found = where(better, device, found)
    return found


def is_alternative(nodes: NodeArrays, pod: PodRequest, rows: Any, device: int, tightest: Any) -> Any:
    """Whether the device is another choice than the tightest: it has room, and no earlier one has equally much left."""
    free = nodes.device_free[rows, device]
    distinct = (free >= pod.gpu_milli) & (tightest != device)
    for earlier in range(device):
        distinct = distinct & (nodes.device_free[rows, earlier] != free)
    return distinct


def list_candidates(nodes: NodeArrays, pod: PodRequest, rows: IntArray, limit: int) -> Candidates:
    """List where the pod fits among `rows`: first each node's tightest choice, then the looser devices of shared nodes.

    Devices of one node with equally much left are interchangeable, so only the first of them is listed. A limit
    therefore only ever cuts away alternatives on nodes which are listed already, as long as it is at least len(rows).
    The simulator lists in the same order (`training.simulator.event_loop`).

    Args:
        rows: (n,) int64, the nodes to look at.
        limit: at most so many candidates are listed.

    Example:
        >>> nodes = empty_nodes(np.array([[8000, 64, 2000]]), np.array([2]))
        >>> pod = pod_request(np.array([1000, 1, 300]), gpu_count=1, gpu_milli=300)
        >>> occupy(nodes, pod, row=0, device=0)
        1
        >>> list_candidates(nodes, pod, np.array([0]), 8)
        Candidates(rows=array([0, 0]), devices=array([0, 1]))
    """
    rows = rows[fits(nodes, pod, rows)]
    if not shares_device(pod):
        return Candidates(rows[:limit], np.full(min(len(rows), limit), ANY_DEVICE))
    tightest = tightest_device(nodes, pod, rows)
    listed_rows, listed_devices = [rows], [tightest]
    for device in range(nodes.device_free.shape[1]):
        looser = rows[is_alternative(nodes, pod, rows, device, tightest)]
        listed_rows.append(looser)
        listed_devices.append(np.full(len(looser), device))
    return Candidates(np.concatenate(listed_rows)[:limit], np.concatenate(listed_devices)[:limit])


def devices_after(nodes: NodeArrays, pod: PodRequest, candidates: Candidates, after: Any) -> None:
    """Write what each device would have left with the pod placed; `ABSENT_DEVICE` stays.

    Whole devices are taken in index order; a pod that finds too few takes those there are.

    Args:
        after: (D, K) int64 for K candidates, (D,) for a single one.
    """
    rows = candidates.rows
    shares = shares_device(pod)
    wanted = 0 * rows + pod.gpu_count
    for device in range(nodes.device_free.shape[1]):
        free = nodes.device_free[rows, device]
        taken = ((candidates.devices == device) & shares) | ((wanted > 0) & (free >= pod.gpu_milli) & (not shares))
        wanted = wanted - where(taken, 1, 0)
        after[device] = free - where(taken, pod.gpu_milli, 0)


def occupy(nodes: NodeArrays, pod: PodRequest, row: int, device: int) -> int:
    """Put the pod on the node, in place.

    Args:
        device: the shared device; `ANY_DEVICE` lets a sharing pod take the tightest one.

    Returns:
        The devices it took as a bit mask, to be handed to `release`. A pod that somebody else put on a node without
        enough free devices counts in `requested` and takes the devices there are.
    """
    _count(nodes, pod, row, 1)
    if pod.gpu_count == 0:
        return 0
    if shares_device(pod):
        if device == ANY_DEVICE:
            device = tightest_device(nodes, pod, row)
        if device == ANY_DEVICE or nodes.device_free[row, device] < pod.gpu_milli:
            return 0
        nodes.device_free[row, device] -= pod.gpu_milli
        return 1 << int(device)
    taken = 0
    count = 0
    for index in range(nodes.device_free.shape[1]):
        if count < pod.gpu_count and nodes.device_free[row, index] >= pod.gpu_milli:
            nodes.device_free[row, index] -= pod.gpu_milli
            taken |= 1 << index
            count += 1
    return taken


def release(nodes: NodeArrays, pod: PodRequest, row: int, taken: int) -> None:
    """Take the pod off the node, in place; `taken` is what `occupy` returned."""
    _count(nodes, pod, row, -1)
    for index in range(nodes.device_free.shape[1]):
        if (taken >> index) & 1:
            nodes.device_free[row, index] += pod.gpu_milli


def return_to(nodes: NodeArrays, pod: PodRequest, row: int, taken: int) -> None:
    """Undo `release`: put the pod back on the node, on the devices that it had."""
    _count(nodes, pod, row, 1)
    for index in range(nodes.device_free.shape[1]):
        if (taken >> index) & 1:
            nodes.device_free[row, index] -= pod.gpu_milli


def _count(nodes: NodeArrays, pod: PodRequest, row: int, sign: int) -> None:
    for resource in range(pod.request.shape[0]):
        nodes.requested[row, resource] += sign * pod.request[resource]
    for resource in range(GPU):
        nodes.nonzero[row, resource] += sign * pod.nonzero[resource]
    if pod.gpu_count > 0:
        nodes.gpu_pods[row, pod_class(pod)] += sign


COMPILABLE: tuple[Any, ...] = (
    shares_device,
    pod_class,
    fits,
    tightest_device,
    is_alternative,
    devices_after,
    _count,
    occupy,
    release,
    return_to,
)
"""What the simulator compiles, callees before callers."""
