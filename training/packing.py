"""Packing: how much of a cluster's GPUs is allocated once it has been filled.

Nothing leaves, so that a bad placement is never made good; the published openb runs are of this kind
(`benchmarks.openb`). `PackingObjective` is what evolution strategies climb, `start` is where they begin: at a
formula, and at what free parts of devices are found to be worth. With remixes every episode is of another workload on
another inventory, so that one policy serves many.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated

import numpy as np
import torch
from pydantic import Field
from torch import nn

from extender.fragmentation import TypicalPods
from training.algorithms.es import Fitness, Parameters
from training.algorithms.node_values import estimate, fit
from training.evaluation.filling import gpu_allocated_percent
from training.randomisation import EnvArguments
from training.simulator.scheduling import SchedulerArguments, prepare
from training.value_network import ValueNetwork, play
from training.workloads.base import Population, Workload, typical_pods
from training.workloads.filling import TYPICAL_AT_MOST, filling_workload
from training.workloads.remix import remix

POPULATIONS_KEPT = 256


@dataclass
class PackingArguments:
    """Where the search for a packing policy starts."""

    rounds: Annotated[int, Field(ge=1, description="in which the values of nodes are estimated")] = 6
    episodes: Annotated[int, Field(ge=1, description="clusters that are filled in each round")] = 10
    workloads: Annotated[
        int, Field(ge=1, description="remixed workloads that they are estimated for, if there are remixes")
    ] = 60


class Fills:
    """Draws workloads that fill a cluster: of one population, or each of another remix of it.

    Args:
        population: what is known.
        env: `nodes` of a cluster, from `nodes_lowest` up; how many `remixes`, and how far they go.
        seed: of the remixes.
    """

    def __init__(self, population: Population, env: EnvArguments, seed: int) -> None:
        self._population, self._env, self._seed = population, env, seed
        self._made: dict[int, tuple[Population, TypicalPods]] = {}

    def __call__(self, seed: int) -> Workload:
        """The workload of this seed."""
        generator = np.random.default_rng(seed)
        return self.of(int(generator.integers(max(self._env.remixes, 1))), generator)

    def of(self, number: int, generator: np.random.Generator) -> Workload:
        """A workload of the remix of this number."""
        if number not in self._made:
            population = self._population
            if self._env.remixes:
                population = remix(population, self._env.remix, np.random.default_rng([self._seed, number]))
            if len(self._made) >= POPULATIONS_KEPT:
                del self._made[next(iter(self._made))]
            self._made[number] = population, typical_pods(population.shapes, population.shape, TYPICAL_AT_MOST)
        population, typical = self._made[number]
        nodes = self._env.nodes
        if self._env.nodes_lowest:
            nodes = int(np.exp(generator.uniform(np.log(self._env.nodes_lowest), np.log(nodes + 1))))
        return filling_workload(population, nodes, generator, typical)

    def __getstate__(self) -> dict[str, object]:
        return self.__dict__ | {"_made": {}}  # whoever is handed this makes his own again


class PackingObjective:
    """Share of the GPUs that is allocated in the end, in %."""

    def __init__(self, network: ValueNetwork, fills: Fills) -> None:
        self._network, self._fills = network, fills

    def __call__(self, parameters: Parameters, seeds: Sequence[int]) -> Fitness:
        """Mean allocation of each policy over the clusters of these seeds; (n, D) -> (n,)."""
        allocated = np.zeros((len(parameters), len(seeds)))
        for column, seed in enumerate(seeds):
            workload = self._fills(seed)
            for row, vector in enumerate(parameters):
                nn.utils.vector_to_parameters(torch.from_numpy(vector), self._network.parameters())
                allocated[row, column] = fill(workload, self._network)
        means: Fitness = allocated.mean(axis=1)
        return means


def fill(workload: Workload, network: ValueNetwork) -> float:
    """Fill a cluster by a network; returns the share of its GPUs that is allocated in the end, in %."""
    episode = prepare(workload, SchedulerArguments(ordering="fifo"))
    play(episode, network, workload.typical)
    return gpu_allocated_percent(episode)


def start(
    network: ValueNetwork,
    fills: Fills,
    arguments: PackingArguments,
    remixes: int,
    seed: int,
    report: Callable[[int], None],
) -> None:
    """Teach a network what free parts of devices are worth, and nothing else.

    Args:
        network: that has learned nothing.
        fills: draws clusters to fill.
        arguments: how much of it.
        remixes: how many there are to draw from; 0 for the population as it is.
        seed: of all random draws.
        report: called with the number of workloads that are done.
    """
    estimates = []
    for number in range(min(arguments.workloads, remixes) or 1):
        generator = np.random.default_rng([seed, 3, number])
        estimates.append(
            estimate(
                lambda drawn, number=number: fills.of(number, drawn), generator, arguments.rounds, arguments.episodes
            )
        )
        report(number + 1)
    fit(estimates, network)
