"""Workloads for tests: a pod a line by hand, or any by Hypothesis."""

from typing import NamedTuple

import numpy as np
from hypothesis import strategies as st

from extender.fragmentation import TypicalPods
from extender.placement import BoolArray, IntArray
from tests.clusters import GIB, Node, cluster_of, nodes, pod_of, pods, typical_of
from training.workloads.assembly import PODS_PER_NODE, UNKNOWN_MODEL, NodePrices, admitted_models
from training.workloads.base import BASE_RESOURCES, PodShapes, Workload

NOTHING_TYPICAL = typical_of((0, 0, 0, 0.0))


class Pod(NamedTuple):
    """A pod that arrives."""

    arrival: float
    duration: float
    cpu: int = 0
    memory: int = 0
    gpu_count: int = 0
    gpu_milli: int = 0
    priority: int = 0


def workload_of(
    cluster: list[Node],
    arriving: list[Pod],
    typical: TypicalPods = NOTHING_TYPICAL,
    device_slots: int = 8,
    *,
    admits: BoolArray | None = None,
    model: IntArray | None = None,
    pod_limit: IntArray | None = None,
) -> Workload:
    """These pods on these nodes, which start empty.

    Args:
        admits: (pods, nodes) bool; every node admits every pod where left out.
        model: (nodes,) int64, numbers of the GPU models; unknown where left out.
        pod_limit: (nodes,) int64; `PODS_PER_NODE` where left out.
    """
    model = np.zeros(len(cluster), np.int64) if model is None else model
    models = (UNKNOWN_MODEL, *(f"model-{number}" for number in range(1, int(model.max(initial=0)) + 1)))
    admits = np.ones((len(arriving), len(cluster)), np.bool_) if admits is None else admits
    allocatable = cluster_of(*cluster, device_slots=device_slots).allocatable
    devices = np.array([len(node.devices) for node in cluster])
    wanted = [pod_of(pod.cpu, pod.memory, pod.gpu_count, pod.gpu_milli) for pod in arriving]
    return Workload(
        resources=BASE_RESOURCES,
        allocatable=allocatable,
        devices=devices,
        models=models,
        model=model,
        pod_limit=np.full(len(cluster), PODS_PER_NODE) if pod_limit is None else pod_limit,
        price=NodePrices().of(allocatable, devices),
        shapes=PodShapes(
            np.array([pod.request for pod in wanted]),
            np.array([pod.gpu_count for pod in arriving]),
            np.array([pod.gpu_milli for pod in arriving]),
            np.array([pod.nonzero for pod in wanted]),
            admitted_models(admits, model, len(models)),
        ),
        admits=admits,
        shape=np.arange(len(arriving)),
        arrival=np.array([pod.arrival for pod in arriving], float),
        duration=np.array([pod.duration for pod in arriving], float),
        priority=np.array([pod.priority for pod in arriving]),
        expected=np.zeros(len(arriving)),
        typical=typical,
    )


@st.composite
def workloads(draw: st.DrawFn, pods_at_most: int = 25) -> Workload:
    """Workloads on few nodes, tight in time, with many events in the same instant and pods that fit nowhere."""
    cluster = draw(st.lists(nodes(), min_size=1, max_size=4))
    times = sorted(draw(st.lists(st.integers(0, 20), min_size=1, max_size=pods_at_most)))
    arriving = []
    for time in times:
        pod = draw(pods())
        arriving.append(
            Pod(
                time,
                draw(st.integers(1, 15)),
                int(pod.request[0]),
                int(pod.request[1]),
                pod.gpu_count,
                pod.gpu_milli,
                draw(st.sampled_from((0, 0, 1000))),
            )
        )
    return workload_of(cluster, arriving, typical_of((1000, 1, 500, 0.5), (1000, 2, 1000, 0.5)))


def slots(count: int) -> list[Node]:
    """Nodes with room for one pod of 1000 milli each."""
    return [Node(1000, GIB)] * count
