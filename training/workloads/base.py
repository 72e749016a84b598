"""What a cluster and its pods are to the simulator, and how a workload is drawn from a population.

A `Population` is what is known of a cluster: its nodes, and its pods with their shapes and durations. It comes from a
trace (`openb`) or a generator (`synthetic`). `draw_workload` takes a sample of the nodes and of the pods and spaces
the arrivals so that the bottleneck resource sees the asked-for load; the simulator plays the result.
"""

from dataclasses import dataclass, replace

import numpy as np

from extender.fragmentation import TypicalPods
from extender.placement import CPU, GPU, WHOLE_DEVICE_MILLI, BoolArray, IntArray
from extender.typical import AT_MOST, COVERAGE
from training.workloads.arrivals import ArrivalProcess, FloatArray, Rhythm, arrival_pattern, resample
from training.workloads.estimates import DurationKnowledge, estimated_durations

BASE_RESOURCES = ("cpu", "memory", "gpu")
CPU_AND_MEMORY = 2
RESOURCES_AT_MOST = 16


class NothingFitsError(ValueError):
    """No pod fits on the nodes that were drawn, even when they are empty."""


@dataclass(frozen=True)
class PodShapes:
    """The distinct requests of a workload.

    Attributes:
        request: (S, R) int64, base units; the GPU entry is gpu_count * gpu_milli.
        gpu_count: (S,) int64.
        gpu_milli: (S,) int64, per device, 0 without GPU.
        nonzero: (S, 2) int64, CPU and memory as kube-scheduler's scores count them, see `placement.NodeArrays`.
        models: (S, G) bool, which GPU models the shape admits, numbered as in `Population.models`; column 0, an
            unknown model, is true for a shape that admits any.
    """

    request: IntArray
    gpu_count: IntArray
    gpu_milli: IntArray
    nonzero: IntArray
    models: BoolArray

    def __len__(self) -> int:
        return len(self.gpu_count)

    @property
    def classes(self) -> IntArray:
        """Class of each shape; (S,) int64, see `shape_classes`."""
        return shape_classes(self.gpu_count, self.gpu_milli)

    def fitting_somewhere(self, allocatable: IntArray, devices: IntArray, admits: BoolArray) -> BoolArray:
        """Which shapes fit on at least one of these nodes when it is empty.

        Args:
            allocatable: (N, R) int64.
            devices: (N,) int64.
            admits: (S, N) bool, see `Population.admits`.

        Returns:
            (S,) bool.
        """
        room = admits & (self.gpu_count[:, None] <= devices)
        for resource in range(self.request.shape[1]):
            room &= self.request[:, resource, None] <= allocatable[:, resource]
        return room.any(axis=1)


@dataclass(frozen=True)
class Population:
    """What workloads are drawn from.

    Attributes:
        name: where it comes from, for the run's record.
        resources: names, R of them; the first three are CPU, memory and GPU.
        allocatable: (M, R) int64, the nodes.
        devices: (M,) int64, GPUs of each node.
        models: names of the GPU models; the first is "", for nodes whose model is not known.
        model: (M,) int64, index into models.
        pod_limit: (M,) int64, how many pods a node takes.
        price: (M,) float64, cost of one node-hour.
        shapes: the distinct pod requests.
        admits: (S, M) bool, whether pods of a shape may run on a node: GPU models, selectors and taints in one mask.
        shape: (P,) int64, each observed pod's shape.
        duration: (P,) float64 seconds, each observed pod's duration.
        priority: (P,) int64.
        rhythm: how arrivals are spread.
        arrival: (P,) float64 seconds since a midnight, when each observed pod arrived; None where that is not known.
        expected: (P,) float64 seconds, what each observed pod said of its duration; 0.0 for nothing.
    """

    name: str
    resources: tuple[str, ...]
    allocatable: IntArray
    devices: IntArray
    models: tuple[str, ...]
    model: IntArray
    pod_limit: IntArray
    price: FloatArray
    shapes: PodShapes
    admits: BoolArray
    shape: IntArray
    duration: FloatArray
    priority: IntArray
    rhythm: Rhythm
    arrival: FloatArray | None
    expected: FloatArray


@dataclass(frozen=True)
class Workload:
    """One episode: a cluster, and the pods that arrive there in this order.

    Attributes:
        resources: names, R of them.
        allocatable: (N, R) int64.
        devices: (N,) int64.
        models: names of the GPU models, the first of them "" for unknown.
        model: (N,) int64, index into models.
        pod_limit: (N,) int64, how many pods a node takes.
        price: (N,) float64, cost of one node-hour.
        shapes: the distinct pod requests.
        admits: (S, N) bool, whether pods of a shape may run on a node.
        shape: (P,) int64, index into shapes.
        arrival: (P,) float64 seconds, ascending.
        duration: (P,) float64 seconds.
        priority: (P,) int64, higher first.
        expected: (P,) float64 seconds, the duration that the scheduler is told; 0.0 for unknown.
        typical: what usually arrives, for the fragmentation feature.
    """

    resources: tuple[str, ...]
    allocatable: IntArray
    devices: IntArray
    models: tuple[str, ...]
    model: IntArray
    pod_limit: IntArray
    price: FloatArray
    shapes: PodShapes
    admits: BoolArray
    shape: IntArray
    arrival: FloatArray
    duration: FloatArray
    priority: IntArray
    expected: FloatArray
    typical: TypicalPods

    def __len__(self) -> int:
        return len(self.shape)


def draw_workload(
    population: Population,
    *,
    nodes: int,
    pods: int,
    load: float,
    process: ArrivalProcess,
    shortest_seconds: float,
    longest_seconds: float,
    generator: np.random.Generator,
    knowledge: DurationKnowledge = DurationKnowledge.NONE,
    recent: int = 0,
) -> Workload:
    """Draw a cluster and a sequence of pods.

    Pods are drawn with replacement, shape and duration together; with `ArrivalProcess.TRACE` also order and spacing,
    in whole days. Those that fit on none of the drawn nodes even when these are empty, or are admitted by none of them,
    are never drawn. Arrivals are spaced so that requested work per second is `load` times the capacity of the resource
    that is scarcest for this sample.

    Args:
        population: where nodes and pods come from.
        nodes: how many nodes; without replacement as long as the population has enough.
        pods: how many pods.
        load: offered load of the bottleneck resource, 1.0 = its whole capacity.
        process: how the pods arrive.
        shortest_seconds: durations are clipped to at least this.
        longest_seconds: and to at most this.
        generator: the only source of randomness.
        knowledge: what the scheduler knows of the durations.
        recent: from how many pods, drawn as those that arrive, the typical pods are estimated, as they are in a
            cluster, where nobody knows the population; 0: from all that the population has.

    Raises:
        NothingFitsError: no pod of the population fits on the drawn nodes.
        ValueError: arrivals are to be as in the trace and the population has none.
    """
    count = len(population.allocatable)
    rows = generator.choice(count, size=nodes, replace=nodes > count)
    allocatable, devices = population.allocatable[rows], population.devices[rows]
    admits = population.admits[:, rows]
    fitting = population.shapes.fitting_somewhere(allocatable, devices, admits)
    eligible = np.flatnonzero(fitting[population.shape])
    if len(eligible) == 0:
        raise NothingFitsError(
            f"none of the pods of {population.name} fits on any of the {nodes} drawn nodes; draw more nodes"
        )
    if process is ArrivalProcess.TRACE:
        if population.arrival is None:
            raise ValueError(f"{population.name} has no arrival times: process=trace needs a recorded trace")
        drawn, shares = resample(population.arrival, eligible, pods, generator)
    else:
        drawn = generator.choice(eligible, size=pods)
    shape = population.shape[drawn]
    duration = np.clip(population.duration[drawn], shortest_seconds, longest_seconds)

    work = population.shapes.request[shape].T @ duration  # (R,) units times seconds
    seconds = np.max(work / np.maximum(allocatable.sum(axis=0), 1)) / load
    if process is not ArrivalProcess.TRACE:
        shares = arrival_pattern(pods, seconds, process, population.rhythm, generator)
    match knowledge:
        case DurationKnowledge.NONE:
            expected = np.zeros(pods)
        case DurationKnowledge.EXACT:
            expected = duration.copy()
        case DurationKnowledge.RECORDED:
            expected = population.expected[drawn]
        case DurationKnowledge.ESTIMATED:
            history = np.clip(population.duration, shortest_seconds, longest_seconds)
            expected = estimated_durations(shape, population.shape, history, population.shapes.classes, generator)
    observed = population.shape
    if recent and process is ArrivalProcess.TRACE and population.arrival is not None:
        observed = population.shape[resample(population.arrival, eligible, recent, generator)[0]]
    elif recent:
        observed = population.shape[generator.choice(eligible, size=recent)]
    return Workload(
        resources=population.resources,
        allocatable=allocatable,
        devices=devices,
        models=population.models,
        model=population.model[rows],
        pod_limit=population.pod_limit[rows],
        price=population.price[rows],
        shapes=population.shapes,
        admits=admits,
        shape=shape,
        arrival=seconds * shares,
        duration=duration,
        priority=population.priority[drawn],
        expected=expected,
        typical=typical_pods(population.shapes, observed),
    )


def shape_classes(gpu_count: IntArray, gpu_milli: IntArray) -> IntArray:
    """Class of each shape: 0 without GPU, 1 part of a device, 2 one device, 3 several; (S,) int64."""
    conditions = [gpu_count == 0, gpu_count > 1, gpu_milli < WHOLE_DEVICE_MILLI]
    return np.select(conditions, [0, 3, 1], default=2).astype(np.int64)


def typical_pods(shapes: PodShapes, shape: IntArray, at_most: int = AT_MOST) -> TypicalPods:
    """The most frequent shapes that together make up 95 % of the pods, most frequent first until then.

    Source: the rule of the FGD paper's simulator; shapes are told apart by CPU, GPU and GPU models only.

    Args:
        shapes: the distinct requests.
        shape: (P,) int64, the shape of each pod.
        at_most: a cap on the number of shapes.
    """
    occurring, first_pod, pods = np.unique(shape, return_index=True, return_counts=True)
    keys = np.column_stack([shapes.request[:, CPU], shapes.gpu_count, shapes.gpu_milli, shapes.models])[occurring]
    distinct, alike = np.unique(keys, axis=0, return_inverse=True)
    counts, first = np.zeros(len(distinct), np.int64), np.full(len(distinct), len(shape))
    np.add.at(counts, alike.reshape(-1), pods)
    np.minimum.at(first, alike.reshape(-1), first_pod)  # of equally frequent ones the first to arrive comes first
    order = np.lexsort((first, -counts))
    covered = np.cumsum(counts[order])
    taken = order[: min(int(np.searchsorted(covered, COVERAGE * len(shape))) + 1, at_most)]
    cpu, gpu_count, gpu_milli, *models = distinct[taken].T.copy()
    return TypicalPods(
        cpu, gpu_count, gpu_milli, counts[taken] / counts[taken].sum(), np.stack(models, axis=1).astype(np.bool_)
    )


def with_resources(population: Population, count: int, generator: np.random.Generator) -> Population:
    """Widen a population to `count` resources, or narrow it.

    Further resources (licences, network or storage units) are 1,000 units a node; a pod's share of them follows its
    share of CPU with log-normal scatter, so that requests are correlated as they are in practice. Two resources are a
    cluster without GPUs and the pods that ask for none: the arrays keep the GPU column, all zero.

    Raises:
        ValueError: fewer than 2 or more than 16, or 2 where every pod asks for a GPU.
    """
    known = len(BASE_RESOURCES)
    if not CPU_AND_MEMORY <= count <= RESOURCES_AT_MOST:
        raise ValueError(
            f"a cluster has {CPU_AND_MEMORY} to {RESOURCES_AT_MOST} resources (cpu, memory, gpu, further ones), "
            f"not {count}"
        )
    if count == CPU_AND_MEMORY:
        population, count = without_gpus(population), known
    further = count - known
    names = tuple(f"example.com/resource-{index}" for index in range(known + 1, count + 1))
    units = np.full((len(population.allocatable), further), 1000, dtype=np.int64)
    share = population.shapes.request[:, CPU] / np.median(population.allocatable[:, CPU])
    scatter = generator.lognormal(0.0, 0.5, size=(len(population.shapes), further))
    wanted = np.clip(share[:, None] * scatter * 1000, 1, 1000).astype(np.int64)
    return replace(
        population,
        resources=BASE_RESOURCES + names,
        allocatable=np.concatenate([population.allocatable[:, :known], units], axis=1),
        shapes=replace(
            population.shapes,
            request=np.concatenate([population.shapes.request[:, :known], wanted], axis=1),
        ),
    )


def without_further_resources(population: Population, count: int) -> Population:
    """The first `count` resources, at least those that every cluster has."""
    return replace(
        population,
        resources=population.resources[:count],
        allocatable=population.allocatable[:, :count],
        shapes=replace(population.shapes, request=population.shapes.request[:, :count]),
    )


def without_gpus(population: Population) -> Population:
    """The nodes without their devices, and the pods that ask for none.

    Raises:
        ValueError: every pod asks for a GPU.
    """
    kept = population.shapes.gpu_count[population.shape] == 0
    if not kept.any():
        raise ValueError(f"every pod of {population.name} asks for a GPU: there is none for a cluster without GPUs")
    allocatable = population.allocatable.copy()
    allocatable[:, GPU] = 0
    return replace(
        population,
        allocatable=allocatable,
        devices=np.zeros_like(population.devices),
        shape=population.shape[kept],
        duration=population.duration[kept],
        priority=population.priority[kept],
        arrival=None if population.arrival is None else population.arrival[kept],
        expected=population.expected[kept],
    )
