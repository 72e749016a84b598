"""What evolution strategies climb on our workloads: whole episodes, played by the compiled simulator.

A valuing network (`value_network`) is played as it is. Any other is exported once; for every parameter vector the
weights in that policy file are exchanged and the simulator plays the file, as it does in an evaluation. So whatever
`training.export` can write can be searched, and what is searched is what is served.
"""

import tempfile
from collections.abc import Callable, Sequence
from copy import deepcopy
from pathlib import Path

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import numpy_helper
from torch import nn

from extender.policies.onnx import OnnxPolicy
from training import value_network
from training.algorithms.es import Fitness, Parameters
from training.env import EnvArguments, WorkloadSource
from training.export import export_policy
from training.simulator.scheduling import SchedulerArguments, play_policy, prepare
from training.simulator.state import WAITING, Episode
from training.value_network import ValueNetwork
from training.workloads.base import Population, Workload, typical_pods

WORKLOADS_KEPT = 16  # a generation plays the same few again and again
Player = Callable[[Episode, Workload, int], None]
"""Plays an episode of a workload to its end; the number decides what is left to chance."""


class PolicyTemplate:
    """A policy file whose weights can be exchanged.

    Args:
        network: any score network; its weights do not matter.
        population: the workload whose resources and typical pods stand in the file.

    Raises:
        ValueError: the file's weights are not those of the network one by one.
    """

    def __init__(self, network: nn.Module, population: Population) -> None:
        marked = deepcopy(network)
        generator = torch.Generator().manual_seed(0)
        for parameter in marked.parameters():  # weights that cannot be taken for each other
            nn.init.normal_(parameter, std=0.1, generator=generator)
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "policy.onnx"
            export_policy(
                marked,
                path,
                resources=population.resources,
                typical=typical_pods(population.shapes, population.shape),
                models=population.models,
                algorithm="es",
                config_digest="",
                workload=population.name,
            )
            self._content = path.read_bytes()
        named = [(name, parameter.detach().numpy()) for name, parameter in marked.named_parameters()]
        ends = np.cumsum([array.size for _, array in named])
        self._places: dict[str, tuple[int, tuple[int, ...], bool]] = {}  # where a weight lies, its shape, transposed?
        missing = {name for name, _ in named}
        for tensor in onnx.load_from_string(self._content).graph.initializer:
            for (name, array), end in zip(named, ends.tolist(), strict=True):
                transposed = _match(numpy_helper.to_array(tensor), array)
                if transposed is not None:
                    self._places[tensor.name] = (end - array.size, array.shape, transposed)
                    missing.discard(name)
        if missing:
            raise ValueError(f"the exported file does not hold {', '.join(sorted(missing))} as they are")

    def filled(self, parameters: NDArray[np.float32]) -> OnnxPolicy:
        """The policy with these parameters, (D,), in the order of the network's."""
        model = onnx.load_from_string(self._content)
        for tensor in model.graph.initializer:
            if tensor.name in self._places:
                start, shape, transposed = self._places[tensor.name]
                array = parameters[start : start + int(np.prod(shape))].reshape(shape)
                kept = tuple(tensor.dims)
                tensor.CopyFrom(numpy_helper.from_array((array.T if transposed else array).reshape(kept), tensor.name))
        return OnnxPolicy("es", model.SerializeToString())


def _match(exported: NDArray[np.float32], array: NDArray[np.float32]) -> bool | None:
    """Whether an exported weight is the array transposed, None where it is another."""
    if exported.size == array.size and np.array_equal(exported.ravel(), array.ravel()):
        return False
    return True if array.ndim == 2 and np.array_equal(exported, array.T) else None


class QueueingObjective:
    """Minus the waiting of whole episodes, or minus its logarithm.

    Args:
        network: any network of the kind that is searched.
        population: whose resources and typical pods the policy is told.
        source: draws the episodes.
        env: what their waiting is measured in.
        scheduler: kube-scheduler's settings.
        floor: seconds added to the mean wait before the logarithm is taken; 0 for no logarithm.
    """

    def __init__(
        self,
        network: nn.Module,
        population: Population,
        source: WorkloadSource,
        env: EnvArguments,
        scheduler: SchedulerArguments,
        floor: float = 0.0,
    ) -> None:
        self._network = network
        self._template = None if isinstance(network, ValueNetwork) else PolicyTemplate(network, population)
        self._source, self._env, self._scheduler, self._floor = source, env, scheduler, floor
        self._drawn: dict[int, Workload] = {}

    def __call__(self, parameters: Parameters, seeds: Sequence[int]) -> Fitness:
        """Mean fitness of each policy over the episodes of these seeds."""
        workloads = [(seed, self._drawn_of(seed)) for seed in seeds]
        players = [self._player(each) for each in parameters]
        return np.array([np.mean([self._fitness(play, *drawn) for drawn in workloads]) for play in players])

    def mean_wait_seconds(self, fitness: float) -> float:
        """The mean wait of a pod that a fitness stands for."""
        if self._floor:
            return float(np.exp(-fitness)) - self._floor
        return -fitness * self._env.waiting_unit_seconds / self._env.pods

    def _player(self, parameters: NDArray[np.float32]) -> Player:
        if self._template is not None:
            policy = self._template.filled(parameters)
            return lambda episode, workload, seed: play_policy(
                episode, policy, workload.typical, np.random.default_rng(seed)
            )
        network = self._network
        assert isinstance(network, ValueNetwork)

        def play_weighing(episode: Episode, workload: Workload, seed: int) -> None:
            nn.utils.vector_to_parameters(torch.from_numpy(parameters), network.parameters())
            value_network.play(episode, network, workload.typical)

        return play_weighing

    def _fitness(self, play: Player, seed: int, workload: Workload) -> float:
        episode = prepare(workload, self._scheduler)
        play(episode, workload, seed)
        waited = float(episode.clock[1 + WAITING])
        if self._floor:
            return -float(np.log(waited / len(workload) + self._floor))
        return -waited / self._env.waiting_unit_seconds

    def _drawn_of(self, seed: int) -> Workload:
        if seed not in self._drawn:
            if len(self._drawn) >= WORKLOADS_KEPT:
                del self._drawn[next(iter(self._drawn))]
            self._drawn[seed] = self._source(np.random.default_rng(seed))
        return self._drawn[seed]
