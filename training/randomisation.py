"""Which episodes a policy is trained on: another cluster, other pods and another load each time.

A policy that is to serve any cluster has to see many (domain randomisation, Tobin et al. 2017): clusters of different
sizes, and populations remixed from the known one (`workloads.remix`), of which a run makes a number once and draws from
then on. Both are off by default.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Annotated

import numpy as np
from pydantic import Field

from extender.typical import AT_MOST
from training.rewards import RewardWeights
from training.service_levels import SERVICE_LEVELS
from training.simulator.episodes import DEVICE_SLOTS, Sizes
from training.workloads.base import NothingFitsError, Population, Workload
from training.workloads.recipe import RemixArguments
from training.workloads.remix import remix
from training.workloads.selection import WorkloadArguments, draw

DRAWS_AT_MOST = 100
WorkloadSource = Callable[[np.random.Generator], Workload]


@dataclass
class EnvArguments:
    """The cluster, the episodes and the reward that a policy is trained on."""

    nodes: Annotated[int, Field(ge=2, le=20_000, description="nodes of the training cluster")] = 32
    nodes_lowest: Annotated[
        int,
        Field(ge=0, le=20_000, description="an episode's number of nodes is drawn from here up to env.nodes; 0: fixed"),
    ] = 0
    num_resources: Annotated[
        int, Field(ge=2, le=16, description="cpu, memory, gpu and further ones; 2: a cluster without GPUs")
    ] = 3
    pods: Annotated[int, Field(ge=2, le=1_000_000, description="pods of one episode")] = 1500
    lowest_load: Annotated[float, Field(gt=0, le=3, description="an episode's load is drawn from here")] = 0.8
    highest_load: Annotated[float, Field(gt=0, le=3, description="… up to here")] = 1.0
    remixes: Annotated[
        int,
        Field(ge=0, le=10_000, description="populations made of the workload's for the episodes; 0: it alone is used"),
    ] = 0
    remix: RemixArguments = field(default_factory=RemixArguments)
    parallel: Annotated[int, Field(ge=1, le=4096, description="episodes that are stepped in one call")] = 64
    reward: Annotated[
        str,
        Field(
            pattern="^(shaped|sparse)$",
            description="shaped: an episode's costs are paid as they arise, with a potential added; sparse: at the end",
        ),
    ] = "shaped"
    weights: RewardWeights = field(default_factory=RewardWeights)
    waiting_unit_seconds: Annotated[
        float, Field(gt=0, description="a pod's waiting for so long is a reward of minus env.weights.waiting")
    ] = 1800.0
    fragmentation_weight: Annotated[
        float, Field(ge=0, description="potential-based shaping: reward of one device saved from uselessness")
    ] = 0.1
    service_levels: Annotated[
        dict[int, Annotated[float, Field(ge=0)]],
        Field(description="longest wait that is promised, s, by the lowest priority it is promised to"),
    ] = field(default_factory=lambda: dict(SERVICE_LEVELS))
    violation_limit: Annotated[
        float | None,
        Field(
            ge=0, le=1, description="share of broken promises that a learned price is to keep to; null: no such price"
        ),
    ] = None
    violation_step: Annotated[
        float,
        Field(gt=0, description="how far that price rises while env.parallel episodes break all of their promises"),
    ] = 5.0
    violation_price_at_most: Annotated[
        float, Field(ge=0, description="where it stops rising, should no policy keep the limit")
    ] = 20.0


class EpisodeSource:
    """Draws training episodes.

    Attributes:
        sizes: of the largest episode that can be drawn.
    """

    def __init__(self, arguments: EnvArguments, populations: Sequence[Population], workload: WorkloadArguments) -> None:
        """Draw from these populations, each as often as the others."""
        self._arguments, self._populations, self._workload = arguments, populations, workload
        self.sizes = Sizes(*np.max([_sizes(arguments, population) for population in populations], axis=0).tolist())

    def __call__(self, generator: np.random.Generator) -> Workload:
        """Draw an episode; one whose nodes are too small for every pod is drawn again.

        Raises:
            NothingFitsError: that happened many times in a row.
        """
        for _ in range(DRAWS_AT_MOST - 1):
            try:
                return self._draw(generator)
            except NothingFitsError:  # of few nodes none may have what every pod needs
                continue
        return self._draw(generator)

    def _draw(self, generator: np.random.Generator) -> Workload:
        arguments, population = self._arguments, self._populations[0]
        if len(self._populations) > 1:
            population = self._populations[generator.integers(len(self._populations))]
        nodes = arguments.nodes
        if arguments.nodes_lowest:
            fewest, most = np.log([min(arguments.nodes_lowest, nodes), nodes])
            nodes = round(np.exp(generator.uniform(fewest, most)))
        load = generator.uniform(arguments.lowest_load, max(arguments.lowest_load, arguments.highest_load))
        return draw(population, self._workload, nodes=nodes, pods=arguments.pods, load=load, generator=generator)


def workload_source(
    arguments: EnvArguments, population: Population, workload: WorkloadArguments, seed: int = 0
) -> EpisodeSource:
    """Draws training episodes as the arguments say.

    Args:
        arguments: the episodes.
        population: what is known.
        workload: how pods are drawn from it.
        seed: of the remixes.
    """
    if not arguments.remixes:
        return EpisodeSource(arguments, [population], workload)
    seeds = np.random.SeedSequence(seed).spawn(arguments.remixes)
    populations = [remix(population, arguments.remix, np.random.default_rng(sequence)) for sequence in seeds]
    return EpisodeSource(arguments, populations, workload)


def _sizes(arguments: EnvArguments, population: Population) -> Sizes:
    shapes = population.shapes
    with_gpu = shapes.gpu_count > 0
    return Sizes(
        nodes=arguments.nodes,
        resources=len(population.resources),
        pods=arguments.pods,
        shapes=len(shapes),
        slots=max(DEVICE_SLOTS, int(population.devices.max(initial=0))),
        models=len(population.models),
        cpu_edges=_distinct(shapes.request[with_gpu, :1]),
        levels=_distinct(shapes.gpu_milli[with_gpu, None]),
        groups=_distinct(np.column_stack([shapes.gpu_count, shapes.gpu_milli])[with_gpu]),
    )


def _distinct(rows: np.ndarray) -> int:
    """How many of them typical pods can have."""
    return min(len(np.unique(rows, axis=0)), AT_MOST)
