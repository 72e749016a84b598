"""From columns of nodes and pods, as traces and generators have them, to a `Population`.

Pods that ask for the same and may run in the same places become one shape. Where a pod may run is given as the number
of a constraint, and per constraint as a mask over the nodes.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Annotated

import numpy as np
from pydantic import Field

from extender.placement import (
    CPU,
    DEFAULT_CPU_MILLI,
    DEFAULT_MEMORY_BYTES,
    GPU,
    MEMORY,
    WHOLE_DEVICE_MILLI,
    BoolArray,
    IntArray,
)
from training.workloads.arrivals import FloatArray, Rhythm, rhythm_of
from training.workloads.base import BASE_RESOURCES, PodShapes, Population, Workload
from training.workloads.tables import TraceError

PODS_PER_NODE = 110  # maxPods, pkg/kubelet/apis/config/v1beta1/defaults.go
UNKNOWN_MODEL = ""
MILLI_PER_CORE = 1000
GIB = 1024**3


@dataclass
class NodePrices:
    """What a node-hour costs where no price is given.

    An assumption, not a price list: round numbers in the order of what public clouds ask for on demand, in no
    particular currency. Costs compare policies; their ratios matter, not their amounts.
    """

    core_hour: Annotated[float, Field(ge=0, description="price of a CPU core for an hour")] = 0.03
    gib_hour: Annotated[float, Field(ge=0, description="price of a GiB of memory for an hour")] = 0.004
    gpu_hour: Annotated[float, Field(ge=0, description="price of a GPU for an hour")] = 1.0

    def of(self, allocatable: IntArray, devices: IntArray) -> FloatArray:
        """The price of an hour of each node.

        Args:
            allocatable: (M, R) int64.
            devices: (M,) int64.

        Returns:
            (M,) float64.

        Example:
            >>> NodePrices(core_hour=0.5, gib_hour=0.1, gpu_hour=2.0).of(np.array([[4000, 2**34, 1000]]), np.array([1]))
            array([5.6])
        """
        cores, gib = allocatable[:, CPU] / MILLI_PER_CORE, allocatable[:, MEMORY] / GIB
        return self.core_hour * cores + self.gib_hour * gib + self.gpu_hour * devices


@dataclass(frozen=True)
class NodeColumns:
    """The nodes of a population.

    Attributes:
        allocatable: (M, R) int64, base units.
        devices: (M,) int64.
        model: name of each node's GPU model, "" where it is not known; all unknown where left out.
        pod_limit: (M,) int64; `PODS_PER_NODE` where left out.
        price: (M,) float64, NaN where it is not known; all unknown where left out.
    """

    allocatable: IntArray
    devices: IntArray
    model: Sequence[str] | None = None
    pod_limit: IntArray | None = None
    price: FloatArray | None = None

    def models(self) -> list[str]:
        """The GPU model's name of each node."""
        return [UNKNOWN_MODEL] * len(self.allocatable) if self.model is None else list(self.model)

    def pod_limits(self) -> IntArray:
        """(M,) int64."""
        return np.full(len(self.allocatable), PODS_PER_NODE) if self.pod_limit is None else self.pod_limit

    def prices(self, assumed: NodePrices | None) -> FloatArray:
        """(M,) float64 per hour, the assumed ones where none is known."""
        otherwise = (assumed or NodePrices()).of(self.allocatable, self.devices)
        return otherwise if self.price is None else np.where(np.isnan(self.price), otherwise, self.price)


@dataclass(frozen=True)
class PodColumns:
    """The pods of a population.

    Attributes:
        request: (P, R) int64, base units; the GPU entry is gpu_count * gpu_milli.
        gpu_count: (P,) int64.
        gpu_milli: (P,) int64, per device, 0 without GPU.
        duration: (P,) float64 seconds.
        priority: (P,) int64.
        nonzero: (P, 2) int64; that of pods with a single container where left out.
        arrival: (P,) float64 seconds since a midnight, in any order; None where it is not known.
        expected: (P,) float64 seconds, the announced duration, 0.0 for none; all 0.0 where left out.
        constraint: (P,) int64, row of `admitted`; 0 where left out.
        admitted: (C, M) bool, the nodes where each constraint allows a pod to run; all where left out.
    """

    request: IntArray
    gpu_count: IntArray
    gpu_milli: IntArray
    duration: FloatArray
    priority: IntArray
    nonzero: IntArray | None = None
    arrival: FloatArray | None = None
    expected: FloatArray | None = None
    constraint: IntArray | None = None
    admitted: BoolArray | None = None


def assemble(
    name: str,
    nodes: NodeColumns,
    pods: PodColumns,
    *,
    rhythm: Rhythm | None = None,
    resources: tuple[str, ...] = BASE_RESOURCES,
    prices: NodePrices | None = None,
) -> Population:
    """Collect the distinct shapes, number the GPU models, and fill in what is not given.

    Args:
        name: where the population comes from.
        nodes: M of them.
        pods: P of them.
        rhythm: how arrivals are spread; that of the pods' own arrivals where left out.
        resources: names of the R columns.
        prices: of nodes without a price of their own.

    Raises:
        ValueError: neither a rhythm nor arrivals are given.
    """
    if rhythm is None:
        if pods.arrival is None:
            raise ValueError(f"{name}: neither arrivals nor a rhythm")
        rhythm = rhythm_of(pods.arrival)
    count = len(nodes.allocatable)
    constraint = np.zeros(len(pods.request), np.int64) if pods.constraint is None else pods.constraint
    admitted = np.ones((1, count), np.bool_) if pods.admitted is None else pods.admitted
    nonzero = with_defaults(pods.request) if pods.nonzero is None else pods.nonzero

    requests = np.column_stack([pods.request[:, [CPU, MEMORY]], pods.gpu_count, pods.gpu_milli])
    keys = np.column_stack([requests, pods.request[:, GPU + 1 :], nonzero, constraint])
    _, first, shape = np.unique(keys, axis=0, return_index=True, return_inverse=True)
    pod_limit = nodes.pod_limits()
    admits = admitted[constraint[first]] & (pod_limit > 0)

    names = nodes.models()
    models = (UNKNOWN_MODEL, *sorted(set(names) - {UNKNOWN_MODEL}))
    model = np.array([models.index(name) for name in names], np.int64)
    return Population(
        name=name,
        resources=resources,
        allocatable=nodes.allocatable,
        devices=nodes.devices,
        models=models,
        model=model,
        pod_limit=pod_limit,
        price=nodes.prices(prices),
        shapes=PodShapes(
            request=pods.request[first],
            gpu_count=pods.gpu_count[first],
            gpu_milli=pods.gpu_milli[first],
            nonzero=nonzero[first],
            models=admitted_models(admits, model, len(models)),
        ),
        admits=admits,
        shape=shape.reshape(-1),
        duration=pods.duration,
        priority=pods.priority,
        rhythm=rhythm,
        arrival=pods.arrival,
        expected=np.zeros(len(pods.duration)) if pods.expected is None else pods.expected,
    )


def on_nodes(population: Population, nodes: NodeColumns, name: str, prices: NodePrices | None = None) -> Population:
    """The pods of a population for other nodes.

    Args:
        population: its pods may run wherever the GPU model is one that they admit.
        nodes: M of them.
        name: of the nodes, for the population's.
        prices: of nodes without a price of their own.

    Raises:
        ValueError: pods say by more than GPU models where they may run.
    """
    shapes = population.shapes
    by_model = shapes.models[:, population.model] & (population.pod_limit > 0)
    if not np.array_equal(by_model, population.admits):
        raise ValueError(
            f"{population.name}: selectors or taints say where pods may run, which mean nothing on {name}: expected a "
            "workload in which only GPU models do"
        )
    names = nodes.models()
    models = (*population.models, *sorted(set(names) - set(population.models)))
    further = np.repeat(shapes.models[:, :1], len(models) - len(population.models), axis=1)
    admitted = np.concatenate([shapes.models, further], axis=1)
    model = np.array([models.index(each) for each in names], np.int64)
    pod_limit = nodes.pod_limits()
    return replace(
        population,
        name=f"{population.name}, on {name}",
        allocatable=nodes.allocatable,
        devices=nodes.devices,
        models=models,
        model=model,
        pod_limit=pod_limit,
        price=nodes.prices(prices),
        shapes=replace(shapes, models=admitted),
        admits=admitted[:, model] & (pod_limit > 0),
    )


def with_all_nodes(workload: Workload, population: Population) -> Workload:
    """A workload on all nodes of its population, with these in the population's order."""
    names = ("allocatable", "devices", "model", "pod_limit", "price", "admits")
    return replace(workload, **{name: getattr(population, name) for name in names})


def count_unplaceable(population: Population, source: object) -> Population:
    """Say in the population's name how many of its pods fit on none of its nodes, even empty ones.

    Args:
        population: what was read.
        source: what it was read from, for the message.

    Raises:
        TraceError: not a single pod fits.
    """
    shapes, allocatable, devices = population.shapes, population.allocatable, population.devices
    fitting = shapes.fitting_somewhere(allocatable, devices, population.admits)[population.shape]
    if not fitting.any():
        raise TraceError(
            f"{source}: none of the {len(fitting)} pods fits on any of the {len(devices)} nodes, even empty ones "
            "(by requests, GPU models, selectors and taints)"
        )
    count = int((~fitting).sum())
    return replace(population, name=f"{population.name}, {count} of which fit on no node") if count else population


def with_defaults(request: IntArray) -> IntArray:
    """CPU and memory of pods with one container as kube-scheduler's scores count them; (P, 2) int64."""
    return np.where(request[:, :GPU] > 0, request[:, :GPU], [DEFAULT_CPU_MILLI, DEFAULT_MEMORY_BYTES])


def admitted_models(admits: BoolArray, model: IntArray, models: int) -> BoolArray:
    """Which GPU models the shapes admit: those of which they admit a node.

    Args:
        admits: (S, M) bool.
        model: (M,) int64.
        models: how many models there are, G.

    Returns:
        (S, G) bool; column 0 is true where every other model is admitted, or a node whose model is not known.
    """
    admitted = np.zeros((len(admits), models), np.bool_)
    for index in range(models):
        admitted[:, index] = admits[:, model == index].any(axis=1)
    if models > 1:
        admitted[:, 0] |= admitted[:, 1:].all(axis=1)
    return admitted


def columns_of_nodes(
    rows: Sequence[tuple[int, int, int]], memory_unit: int, model: Sequence[str] | None = None
) -> NodeColumns:
    """Nodes given as (cpu milli, memory, GPU count)."""
    table = np.asarray(rows, dtype=np.int64)
    return NodeColumns(table * np.array([1, memory_unit, WHOLE_DEVICE_MILLI]), table[:, 2].copy(), model)


def request_columns(rows: Sequence[tuple[int, int, int, int]], memory_unit: int) -> tuple[IntArray, IntArray, IntArray]:
    """Request (P, 3), GPU count and milli (P,) of pods given as (cpu milli, memory, GPU count, GPU milli each)."""
    cpu, memory, gpu_count, gpu_milli = np.asarray(rows, dtype=np.int64).T
    return np.column_stack([cpu, memory * memory_unit, gpu_count * gpu_milli]), gpu_count.copy(), gpu_milli.copy()
