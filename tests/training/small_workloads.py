"""Workloads for tests: a pod a line by hand, or any by Hypothesis."""

from typing import NamedTuple

import numpy as np
from hypothesis import strategies as st

from extender.fragmentation import TypicalPods
from extender.placement import WHOLE_DEVICE_MILLI, BoolArray, IntArray
from tests.clusters import GIB, PARTS, Node, cluster_of, pod_of, typical_of
from training.workloads.assembly import PODS_PER_NODE, UNKNOWN_MODEL, NodePrices, admitted_models
from training.workloads.base import BASE_RESOURCES, ArrivalProcess, PodShapes, Workload, draw_workload
from training.workloads.synthetic import generate_population

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
    expected: float = 0.0


def openb_like(nodes: int, pods: int, load: float, seed: int) -> Workload:
    """Nodes and pods of the built-in generator."""
    return draw_workload(
        generate_population(np.random.default_rng(0)),
        nodes=nodes,
        pods=pods,
        load=load,
        process=ArrivalProcess.POISSON,
        shortest_seconds=30,
        longest_seconds=7200,
        generator=np.random.default_rng(seed),
    )


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

    Pods that ask for the same and may go to the same nodes are of one shape.

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
    kinds = [
        (*pod.request.tolist(), pod.gpu_count, pod.gpu_milli, *mask.tolist())
        for pod, mask in zip(wanted, admits, strict=True)
    ]
    first = [kinds.index(kind) for kind in dict.fromkeys(kinds)]
    shape_of = {kinds[index]: number for number, index in enumerate(first)}
    return Workload(
        resources=BASE_RESOURCES,
        allocatable=allocatable,
        devices=devices,
        models=models,
        model=model,
        pod_limit=np.full(len(cluster), PODS_PER_NODE) if pod_limit is None else pod_limit,
        price=NodePrices().of(allocatable, devices),
        shapes=PodShapes(
            np.array([wanted[index].request for index in first]),
            np.array([wanted[index].gpu_count for index in first]),
            np.array([wanted[index].gpu_milli for index in first]),
            np.array([wanted[index].nonzero for index in first]),
            admitted_models(admits[first], model, len(models)),
        ),
        admits=admits[first],
        shape=np.array([shape_of[kind] for kind in kinds]),
        arrival=np.array([pod.arrival for pod in arriving], float),
        duration=np.array([pod.duration for pod in arriving], float),
        priority=np.array([pod.priority for pod in arriving]),
        expected=np.array([pod.expected for pod in arriving], float),
        typical=typical,
    )


@st.composite
def workloads(draw: st.DrawFn, pods_at_most: int = 25, nodes_at_most: int = 4) -> Workload:
    """Workloads on few nodes, crowded, with many events in the same instant and some pods that fit nowhere.

    There are few shapes, some of which not every node admits, nodes that take few pods, and two GPU models. Times are
    quarters of seconds, so that sums of them are exact. Only sizes are drawn by Hypothesis, which draws many small
    things rather than one that is crowded; the rest is drawn by numpy, pod by pod.
    """
    node_count = draw(st.integers(1, nodes_at_most))
    pod_count = pods_at_most - draw(st.integers(0, pods_at_most - 1))
    kind_count, seconds = draw(st.integers(1, 5)), draw(st.sampled_from((15, 5, 1)))
    generator = np.random.default_rng(draw(st.integers(0, 1 << 32)))
    cluster = [
        Node(
            int(generator.choice((1000, 2000, 2000, 4000))),
            int(generator.choice((1, 2, 4, 4))) * GIB,
            (WHOLE_DEVICE_MILLI,) * int(generator.choice((0, 1, 2, 2, 3))),
            model=int(generator.integers(2)),
        )
        for _ in range(node_count)
    ]
    kinds = []
    for _ in range(kind_count):
        gpu_count = int(generator.choice((0, 0, 1, 1, 1, 2, 2, 3)))
        gpu_milli = int(generator.choice(PARTS)) if gpu_count == 1 else WHOLE_DEVICE_MILLI * (gpu_count > 0)
        cpu, memory = int(generator.choice((0, 500, 1000, 2000))), int(generator.choice((0, 0, 1, 2))) * GIB
        admits = generator.random(node_count) < generator.choice((0.7, 1.0, 1.0))
        kinds.append((Pod(0, 0, cpu, memory, gpu_count, gpu_milli), admits))
    arriving, masks = [], []
    for time in np.sort(generator.integers(0, 4 * seconds, pod_count)):
        wanted, admits = kinds[generator.integers(kind_count)]
        duration = int(generator.integers(1, 60)) / 4
        priority = int(generator.choice((0, 0, 5, 1000, -5)))
        expected = float(generator.choice((0.0, duration, duration, 2.0)))
        arriving.append(wanted._replace(arrival=int(time) / 4, duration=duration, priority=priority, expected=expected))
        masks.append(admits)
    return workload_of(
        cluster,
        arriving,
        typical_of((1000, 1, 500, 0.5), (1000, 2, 1000, 0.5), admits=[[True, True], [True, False]]),
        admits=np.array(masks),
        model=np.array([node.model for node in cluster]),
        pod_limit=generator.choice((1, 2, 3, PODS_PER_NODE), node_count),
    )


def slots(count: int) -> list[Node]:
    """Nodes with room for one pod of 1000 milli each."""
    return [Node(1000, GIB)] * count
