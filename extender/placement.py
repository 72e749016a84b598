"""Where a pod could go, and what a node looks like once it is there.

Nodes are a struct of arrays, so that one expression looks at all of them. Every function here is written in the
subset of numpy that numba compiles: the extender calls it as it stands, the simulator calls the compiled form, and
both therefore agree to the last bit. Candidates go on to `features` and `policies`; `occupy` and `release` keep the
arrays in step with the pods.
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

WHOLE_DEVICE_MILLI = 1000
ABSENT_DEVICE = -1
ANY_DEVICE = -1
CPU, MEMORY, GPU = 0, 1, 2  # positions of the resources every cluster has; further ones follow

IntArray = NDArray[np.int64]
BoolArray = NDArray[np.bool_]


class NodeArrays(NamedTuple):
    """The nodes of a cluster, a row each.

    Attributes:
        allocatable: (N, R) int64, in base units: CPU in milli, memory in bytes, GPU in thousandths of a device.
        requested: (N, R) int64, the same units, summed over the pods on the node.
        device_free: (N, D) int64, what is left of each GPU in thousandths; `ABSENT_DEVICE` where there is none.
    """

    allocatable: IntArray
    requested: IntArray
    device_free: IntArray


class PodRequest(NamedTuple):
    """What a pod asks for.

    Attributes:
        request: (R,) int64 in base units; its GPU entry is `gpu_count * gpu_milli`.
        gpu_count: number of devices, 0 for a pod without GPU.
        gpu_milli: thousandths of each device; below 1000 only together with `gpu_count` 1 (a shared device).
        priority: the pod's priority value.
        expected_seconds: how long it is expected to run; 0.0 where nothing is known.
    """

    request: IntArray
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

    rows: IntArray
    devices: IntArray


def shares_device(pod: PodRequest) -> bool:
    """Whether the pod takes a part of one device."""
    return pod.gpu_count == 1 and pod.gpu_milli < WHOLE_DEVICE_MILLI


def fits_resources(nodes: NodeArrays, pod: PodRequest, rows: IntArray) -> BoolArray:
    """Which rows have room for every resource that the pod asks for, as NodeResourcesFit decides it.

    Source: pkg/scheduler/framework/plugins/noderesources/fit.go (a resource that is not asked for is not compared).

    Returns:
        (len(rows),) bool.
    """
    room = np.ones(rows.shape[0], dtype=np.bool_)
    for resource in range(pod.request.shape[0]):
        amount = pod.request[resource]
        if amount > 0:
            free = nodes.allocatable[rows, resource] - nodes.requested[rows, resource]
            room &= free >= amount
    return room


def list_candidates(nodes: NodeArrays, pod: PodRequest, rows: IntArray, limit: int) -> Candidates:
    """List where the pod fits among `rows`: first each node's tightest choice, then the looser devices of shared nodes.

    Devices of one node with equally much left are interchangeable, so only the first of them is listed. A limit
    therefore only ever cuts away alternatives on nodes which are listed already, as long as it is at least len(rows).

    Args:
        rows: (n,) int64, the nodes to look at.
        limit: at most so many candidates are listed.

    Example:
        >>> nodes = NodeArrays(np.array([[8000, 64, 2000]]), np.array([[0, 0, 300]]), np.array([[700, 1000]]))
        >>> pod = PodRequest(np.array([1000, 1, 500]), 1, 500, 0, 0.0)
        >>> list_candidates(nodes, pod, np.array([0]), 8)
        Candidates(rows=array([0, 0]), devices=array([0, 1]))
    """
    rows = rows[fits_resources(nodes, pod, rows)]
    if pod.gpu_count == 0:
        return Candidates(rows[:limit], np.full(min(rows.shape[0], limit), ANY_DEVICE, dtype=np.int64))

    enough = nodes.device_free[rows] >= pod.gpu_milli
    rows = rows[np.sum(enough, axis=1) >= pod.gpu_count]
    if not shares_device(pod):
        return Candidates(rows[:limit], np.full(min(rows.shape[0], limit), ANY_DEVICE, dtype=np.int64))

    free = nodes.device_free[rows]
    tightest = tightest_devices(free, pod.gpu_milli)
    listed_rows = [rows]
    listed_devices = [tightest]
    for device in range(free.shape[1]):
        distinct = (free[:, device] >= pod.gpu_milli) & (tightest != device)
        for earlier in range(device):
            distinct &= free[:, earlier] != free[:, device]
        if np.any(distinct):
            listed_rows.append(rows[distinct])
            listed_devices.append(np.full(np.sum(distinct), device, dtype=np.int64))
    all_rows = listed_rows[0]
    all_devices = listed_devices[0]
    for position in range(1, len(listed_rows)):
        all_rows = np.concatenate((all_rows, listed_rows[position]))
        all_devices = np.concatenate((all_devices, listed_devices[position]))
    return Candidates(all_rows[:limit], all_devices[:limit])


def tightest_devices(device_free: IntArray, gpu_milli: int) -> IntArray:
    """For each row the device with the least room that still holds `gpu_milli`, the first among equals.

    Args:
        device_free: (K, D) int64.

    Returns:
        (K,) int64, `ANY_DEVICE` where no device has room.
    """
    device_of = np.full(device_free.shape[0], ANY_DEVICE, dtype=np.int64)
    least = np.full(device_free.shape[0], WHOLE_DEVICE_MILLI + 1, dtype=np.int64)
    for device in range(device_free.shape[1]):
        free = device_free[:, device]
        better = (free >= gpu_milli) & (free < least)
        least = np.where(better, free, least)
        device_of = np.where(better, device, device_of)
    return device_of


def devices_after(device_free: IntArray, pod: PodRequest, devices: IntArray) -> IntArray:
    """What each device would have left with the pod placed.

    Whole devices are taken in index order; a pod that finds too few takes those there are.

    Args:
        device_free: (K, D) int64, one row per candidate.
        devices: (K,) int64, the shared device of each candidate.

    Returns:
        (K, D) int64.
    """
    after = device_free.copy()
    if pod.gpu_count == 0:
        return after
    if shares_device(pod):
        for device in range(after.shape[1]):
            after[:, device] -= np.where(devices == device, pod.gpu_milli, 0)
        return after
    wanted = np.full(after.shape[0], pod.gpu_count, dtype=np.int64)
    for device in range(after.shape[1]):
        taken = (wanted > 0) & (after[:, device] >= pod.gpu_milli)
        after[:, device] -= np.where(taken, pod.gpu_milli, 0)
        wanted -= np.where(taken, 1, 0)
    return after


def occupy(nodes: NodeArrays, pod: PodRequest, row: int, device: int) -> int:
    """Put the pod on the node, in place.

    Args:
        device: the shared device; `ANY_DEVICE` lets a sharing pod take the tightest one.

    Returns:
        The devices it took as a bit mask, to be handed to `release`. A pod that somebody else put on a node without
        enough free devices counts in `requested` and takes the devices there are.
    """
    nodes.requested[row] += pod.request
    if pod.gpu_count == 0:
        return 0
    free = nodes.device_free[row : row + 1]
    if shares_device(pod):
        if device == ANY_DEVICE:
            device = tightest_devices(free, pod.gpu_milli)[0]
        if device == ANY_DEVICE or free[0, device] < pod.gpu_milli:
            return 0
        nodes.device_free[row, device] -= pod.gpu_milli
        return 1 << int(device)
    taken = 0
    count = 0
    for index in range(free.shape[1]):
        if count < pod.gpu_count and nodes.device_free[row, index] >= pod.gpu_milli:
            nodes.device_free[row, index] -= pod.gpu_milli
            taken |= 1 << index
            count += 1
    return taken


def release(nodes: NodeArrays, pod: PodRequest, row: int, taken: int) -> None:
    """Take the pod off the node, in place; `taken` is what `occupy` returned."""
    nodes.requested[row] -= pod.request
    for index in range(nodes.device_free.shape[1]):
        if (taken >> index) & 1:
            nodes.device_free[row, index] += pod.gpu_milli


COMPILABLE: tuple[Any, ...] = (
    shares_device,
    fits_resources,
    tightest_devices,
    list_candidates,
    devices_after,
    occupy,
    release,
)
"""What the simulator compiles, callees before callers."""
