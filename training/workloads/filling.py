"""Workloads that fill a cluster: pods arrive and none leaves, until far more is wanted than there is.

How much of the GPUs is allocated in the end is what packing is about; the published openb runs are of this kind. Here
the pods come in an order of their own each time, drawn from a population, so that nothing is learned from the orders
that a benchmark plays.
"""

import numpy as np

from extender.fragmentation import TypicalPods
from extender.placement import GPU
from training.workloads.base import Population, Workload, typical_pods

TYPICAL_AT_MOST = 128
ARRIVED_DEMAND = 1.3  # times the capacity, as in the published runs
UNBOUNDED = 1 << 40  # pods a node takes: the published runs have no limit


def filling_workload(
    population: Population, nodes: int, generator: np.random.Generator, typical: TypicalPods | None = None
) -> Workload:
    """Draw nodes, and pods until they ask for `ARRIVED_DEMAND` times the GPUs of these.

    Pods are drawn with replacement, one arrives a second. Those that fit on none of the nodes are never drawn.

    Args:
        population: where nodes and pods come from.
        nodes: how many nodes; without replacement as long as the population has enough.
        generator: the only source of randomness.
        typical: what usually arrives; found from the population where left out.

    Raises:
        ValueError: the drawn nodes have no GPU, or no pod that fits on them wants one.
    """
    count = len(population.allocatable)
    rows = np.sort(generator.choice(count, size=nodes, replace=nodes > count))
    admits = population.admits[:, rows]
    fitting = population.shapes.fitting_somewhere(population.allocatable[rows], population.devices[rows], admits)
    eligible = population.shape[fitting[population.shape]]
    demand = population.shapes.request[:, GPU]
    wanted = ARRIVED_DEMAND * float(population.allocatable[rows, GPU].sum())
    if wanted <= 0 or demand[eligible].sum() <= 0:
        raise ValueError(f"{population.name}: nothing to pack: no GPU on the {nodes} nodes drawn, or no pod wants one")
    mean = float(demand[eligible].mean())
    shape = np.zeros(0, np.int64)
    while demand[shape].sum() < wanted:
        shape = np.append(shape, generator.choice(eligible, size=int(wanted / mean * 1.1) + 100))
    shape = shape[: int(np.searchsorted(np.cumsum(demand[shape]), wanted)) + 1]
    return never_leaving(population, rows, shape, typical)


def never_leaving(
    population: Population, rows: np.ndarray, shape: np.ndarray, typical: TypicalPods | None = None
) -> Workload:
    """Pods that arrive one a second in the given order and never leave.

    Args:
        population: where they come from.
        rows: (N,) int64, the nodes.
        shape: (P,) int64, the pods' shapes in order of arrival.
        typical: what usually arrives; found from the population where left out.
    """
    return Workload(
        resources=population.resources,
        allocatable=population.allocatable[rows],
        devices=population.devices[rows],
        models=population.models,
        model=population.model[rows],
        pod_limit=np.full(len(rows), UNBOUNDED),
        price=population.price[rows],
        shapes=population.shapes,
        admits=np.ascontiguousarray(population.admits[:, rows]),
        shape=shape,
        arrival=np.arange(len(shape), dtype=np.float64),
        duration=np.full(len(shape), np.inf),
        priority=np.zeros(len(shape), np.int64),
        expected=np.zeros(len(shape)),
        typical=typical or typical_pods(population.shapes, population.shape, TYPICAL_AT_MOST),
    )
