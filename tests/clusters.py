"""Clusters and pods for tests: one node a line by hand, or any by Hypothesis."""

from typing import NamedTuple

import numpy as np
from hypothesis import strategies as st

from extender.fragmentation import TypicalPods
from extender.placement import (
    ABSENT_DEVICE,
    ANY_DEVICE,
    DEFAULT_CPU_MILLI,
    DEFAULT_MEMORY_BYTES,
    GPU_POD_CLASSES,
    WHOLE_DEVICE_MILLI,
    NodeArrays,
    PodRequest,
    empty_nodes,
    pod_request,
)

GIB = 1024**3
PARTS = (100, 250, 300, 500, 700, 1000)  # few sizes, so that devices with equally much left are common
SILENT_CONTAINER = np.array([DEFAULT_CPU_MILLI, DEFAULT_MEMORY_BYTES])  # one that asks for nothing, as scores count it


class Node(NamedTuple):
    """A node with what is in use on it.

    Attributes:
        cpu: milli.
        memory: bytes.
        devices: what is left of each, in thousandths.
        cpu_used: milli, requested by the pods on it.
        memory_used: bytes.
        silent: containers on it that ask for nothing.
        gpu_pods: the class of each GPU pod on it.
        model: number of its GPU model.
    """

    cpu: int
    memory: int
    devices: tuple[int, ...] = ()
    cpu_used: int = 0
    memory_used: int = 0
    silent: int = 0
    gpu_pods: tuple[int, ...] = ()
    model: int = 0


def cluster_of(*nodes: Node, device_slots: int = 8) -> NodeArrays:
    """The arrays of these nodes."""
    device_free = np.full((len(nodes), device_slots), ABSENT_DEVICE)
    for row, node in enumerate(nodes):
        device_free[row, : len(node.devices)] = node.devices
    capacity = [len(node.devices) * WHOLE_DEVICE_MILLI for node in nodes]
    allocatable = np.array([(node.cpu, node.memory, gpu) for node, gpu in zip(nodes, capacity, strict=True)])
    requested = np.array(
        [(node.cpu_used, node.memory_used, gpu - sum(node.devices)) for node, gpu in zip(nodes, capacity, strict=True)]
    )
    empty = empty_nodes(
        allocatable, np.array([len(node.devices) for node in nodes]), np.array([node.model for node in nodes])
    )
    return empty._replace(
        requested=requested,
        nonzero=requested[:, :2] + np.array([node.silent * SILENT_CONTAINER for node in nodes]),
        device_free=device_free,
        gpu_pods=np.array([[node.gpu_pods.count(kind) for kind in range(GPU_POD_CLASSES)] for node in nodes]),
    )


def pod_of(
    cpu: int = 0, memory: int = 0, gpu_count: int = 0, gpu_milli: int = 0, priority: int = 0, seconds: float = 0.0
) -> PodRequest:
    """A pod that asks for CPU, memory and devices."""
    return pod_request(np.array([cpu, memory, gpu_count * gpu_milli]), gpu_count, gpu_milli, priority, seconds)


def typical_of(*pods: tuple[int, int, int, float], admits: list[list[bool]] | None = None) -> TypicalPods:
    """Typical pods given as (cpu, GPU count, milli of each GPU, share).

    Args:
        pods: the typical pods.
        admits: for each of them, which GPU models it may run on; where left out there is one model, which suits all.
    """
    cpu, gpu_count, gpu_milli, share = zip(*pods, strict=True)
    models = np.ones((len(pods), 1), np.bool_) if admits is None else np.array(admits, np.bool_)
    return TypicalPods(np.array(cpu), np.array(gpu_count), np.array(gpu_milli), np.array(share), models)


def copy_of(nodes: NodeArrays) -> NodeArrays:
    return NodeArrays(*(array.copy() for array in nodes))


@st.composite
def nodes(draw: st.DrawFn, models: int = 1) -> Node:
    """A node in any state that pods could have left it in; most have room."""
    cpu, memory = draw(st.sampled_from((0, 2, 8, 8))) * 1000, draw(st.sampled_from((0, 2, 8, 8))) * GIB
    free_device = st.sampled_from((0, 300, 500, 700, 1000, 1000))
    in_use = st.sampled_from((0, 0, 0.25, 0.5, 1))
    devices = draw(st.lists(free_device, max_size=4))
    cpu_used, memory_used = int(draw(in_use) * cpu), int(draw(in_use) * memory)
    silent = draw(st.sampled_from((0, 0, 1, 7)))
    classes = st.lists(st.sampled_from((0, 0, 1, 2, 3)), max_size=3)
    gpu_pods = draw(classes) if any(left < WHOLE_DEVICE_MILLI for left in devices) else ()
    model = draw(st.integers(0, models - 1))
    return Node(cpu, memory, tuple(devices), cpu_used, memory_used, silent, tuple(gpu_pods), model)


def clusters(at_most: int = 5, models: int = 1) -> st.SearchStrategy[NodeArrays]:
    """Clusters of at least one node, with room for four devices on each, of so many GPU models."""
    return st.lists(nodes(models), min_size=1, max_size=at_most).map(lambda drawn: cluster_of(*drawn, device_slots=4))


@st.composite
def pods(draw: st.DrawFn) -> PodRequest:
    """Pods without GPU, with part of a device, with one device and with several; most fit on an empty node."""
    gpu_count = draw(st.sampled_from((0, 1, 1, 2, 3)))
    gpu_milli = draw(st.sampled_from(PARTS)) if gpu_count == 1 else WHOLE_DEVICE_MILLI * (gpu_count > 0)
    pod = pod_of(
        draw(st.sampled_from((0, 500, 1000, 2000, 6000))),
        draw(st.sampled_from((0, 1, 2, 6))) * GIB // 2,
        gpu_count,
        gpu_milli,
        draw(st.sampled_from((-1000, 0, 1000, 2_000_000_000))),
        draw(st.sampled_from((0.0, 60.0, 1e9))),
    )
    silent = draw(st.sampled_from((0, 0, 1, 2)))  # beside a container that says all, be it that it wants nothing
    return pod._replace(nonzero=pod.request[:2] + silent * SILENT_CONTAINER)


@st.composite
def typical_pods(draw: st.DrawFn, models: int = 1) -> TypicalPods:
    """Typical pods in any order, sizes mixed; with several GPU models, most are admitted by some of them only."""
    drawn = draw(st.lists(st.tuples(pods(), st.integers(1, 9)), min_size=1, max_size=6))
    total = sum(count for _, count in drawn)
    sizes = [(int(pod.request[0]), pod.gpu_count, pod.gpu_milli, count / total) for pod, count in drawn]
    if models == 1:
        return typical_of(*sizes)
    masks = st.lists(st.booleans(), min_size=models, max_size=models)
    return typical_of(*sizes, admits=[draw(masks) for _ in sizes])


def every_choice(cluster: NodeArrays, pod: PodRequest, rows: list[int]) -> tuple[list, list]:
    """Where a pod fits, the slow and obvious way: the tightest (row, device) of each node, and the looser ones.

    Of devices with equally much left the first stands for all.
    """
    tightest, looser = [], []
    for row in rows:
        free = cluster.allocatable[row] - cluster.requested[row]
        if any(amount > room for amount, room in zip(pod.request, free, strict=True) if amount > 0):
            continue
        enough = [device for device, left in enumerate(cluster.device_free[row]) if left >= pod.gpu_milli]
        if len(enough) < pod.gpu_count:
            continue
        if pod.gpu_count != 1 or pod.gpu_milli == WHOLE_DEVICE_MILLI:
            tightest.append((row, ANY_DEVICE))
            continue
        first_with: dict[int, int] = {}
        for device in enough:
            first_with.setdefault(int(cluster.device_free[row, device]), device)
        levels = sorted(first_with)
        tightest.append((row, first_with[levels[0]]))
        looser += [(row, first_with[level]) for level in levels[1:]]
    return tightest, looser
