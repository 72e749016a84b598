"""The learning problem: one step is one placement decision.

An observation describes the candidates of the pod at the head of the queue, feasible ones only, in the extender's
features; an action is one of them. The reward is the waiting that accrues until the next decision, negative, so that
an episode's return is its total waiting time, plus potential-based shaping by fragmentation, which leaves the optimal
policy as it is. `SimulatorBatch` steps many episodes in one compiled call; `PlacementEnv` is Gymnasium's view of one
episode, `vecenv.BatchedVecEnv` Stable-Baselines3's view of the batch.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any

import gymnasium
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray
from pydantic import Field

from extender.features import feature_count
from training.simulator import stepping
from training.simulator.episodes import allocate, arrays_of, load, view
from training.simulator.scheduling import SchedulerArguments, order_of, settings_of
from training.simulator.state import FORCED, NOW, PLACED, WAITING
from training.simulator.stepping import CLUSTER_FEATURES
from training.workloads.base import Population, Workload
from training.workloads.selection import WorkloadArguments, draw

Observation = dict[str, NDArray[np.float32]]
WorkloadSource = Callable[[np.random.Generator], Workload]

RESETS_AT_MOST = 100


@dataclass
class EnvArguments:
    """The cluster and the episodes that a policy is trained on."""

    nodes: Annotated[int, Field(ge=2, le=20_000, description="nodes of the training cluster")] = 32
    num_resources: Annotated[
        int, Field(ge=2, le=16, description="cpu, memory, gpu and further ones; 2: a cluster without GPUs")
    ] = 3
    pods: Annotated[int, Field(ge=2, le=1_000_000, description="pods of one episode")] = 1500
    lowest_load: Annotated[float, Field(gt=0, le=3, description="an episode's load is drawn from here")] = 0.8
    highest_load: Annotated[float, Field(gt=0, le=3, description="… up to here")] = 1.0
    parallel: Annotated[int, Field(ge=1, le=4096, description="episodes that are stepped in one call")] = 64
    waiting_unit_seconds: Annotated[float, Field(gt=0, description="a pod's waiting for so long is a reward of -1")] = (
        1800.0
    )
    fragmentation_weight: Annotated[
        float, Field(ge=0, description="potential-based shaping: reward of one device saved from uselessness")
    ] = 0.1


def workload_source(arguments: EnvArguments, population: Population, workload: WorkloadArguments) -> WorkloadSource:
    """Draws training episodes: another cluster, other pods and another load each time."""

    def source(generator: np.random.Generator) -> Workload:
        load = generator.uniform(arguments.lowest_load, max(arguments.lowest_load, arguments.highest_load))
        return draw(population, workload, nodes=arguments.nodes, pods=arguments.pods, load=load, generator=generator)

    return source


class SimulatorBatch:
    """Episodes that are stepped together.

    Every finished episode is replaced by a new draw from `source`; each place in the batch has its own generator, so
    what it draws does not depend on the others.

    Attributes:
        features: (E, K, F) float32, the candidates of each episode's decision; K = twice the number of nodes.
        mask: (E, K) float32, 1 for a candidate, 0 for padding.
        cluster: (E, C) float32, the cluster and its queue, for the critic.
        counts: (E,) int64, number of candidates.
        partial: (E,) bool, whether the episode began with random decisions, so that its summary says nothing.
    """

    def __init__(
        self,
        batch: int,
        arguments: EnvArguments,
        source: WorkloadSource,
        discount: float,
        seed: int,
        scheduler: SchedulerArguments | None = None,
    ) -> None:
        """Allocate the arrays; the episodes begin with `reset`.

        Args:
            batch: E, how many episodes.
            arguments: the cluster and the episodes.
            source: draws workloads.
            discount: of the learning problem; shaping needs it.
            seed: of all random draws.
            scheduler: kube-scheduler's settings; its defaults where left out.
        """
        self.size = batch
        self.arguments = arguments
        self.discount = discount
        self._source = source
        self._generators = [np.random.default_rng(sequence) for sequence in np.random.SeedSequence(seed).spawn(batch)]
        sample = source(np.random.default_rng(seed))
        self._scheduler = scheduler or SchedulerArguments()
        self._settings = settings_of(self._scheduler, arguments.nodes)
        self._episodes = allocate(batch, sample)
        limit = 2 * arguments.nodes
        resources = len(sample.resources)
        self.features = np.zeros((batch, limit, feature_count(resources)), np.float32)
        self.mask = np.zeros((batch, limit), np.float32)
        self.cluster = np.zeros((batch, resources + CLUSTER_FEATURES), np.float32)
        self.counts = np.zeros(batch, np.int64)
        self._rows = np.zeros((batch, limit), np.int64)
        self._devices = np.zeros((batch, limit), np.int64)
        slots = self._episodes.cluster.nodes.device_free.shape[-1]
        self._room = stepping.Room(np.zeros(arguments.nodes, np.int64), np.zeros(slots, np.int64))
        self._rewards = np.zeros(batch)
        self._finished = np.zeros(batch, np.bool_)
        self._undrawn = np.random.default_rng(seed)  # only preemption draws, and training episodes have none
        self.partial = np.zeros(batch, np.bool_)
        self.returns = np.zeros(batch)
        self.lengths = np.zeros(batch, np.int64)

    @property
    def observation_space(self) -> spaces.Dict:
        """Bounds are open: features are shares, but an overcommitted node may exceed them."""
        return spaces.Dict(
            {
                name: spaces.Box(-np.inf, np.inf, array.shape[1:], np.float32)
                for name, array in self.observations().items()
            }
        )

    @property
    def action_space(self) -> spaces.Discrete:
        """An index into the candidates; one beyond `counts` parks the pod."""
        return spaces.Discrete(self.features.shape[1])

    def observations(self) -> Observation:
        """The current observations; arrays that the next step overwrites."""
        return {"candidates": self.features, "mask": self.mask, "cluster": self.cluster}

    def reseed(self, index: int, seed: int) -> None:
        """Restart the random draws of one place in the batch."""
        self._generators[index] = np.random.default_rng(seed)

    def reset(self, index: int, skip: int = 0) -> None:
        """Replace an episode by a new one, at its first decision, or later with the ones before taken at random.

        Raises:
            ValueError: many draws in a row left nothing to decide; the cluster is too small for the workload.
        """
        generator = self._generators[index]
        for _ in range(RESETS_AT_MOST):
            workload = self._source(generator)
            order = order_of(workload, self._scheduler.ordering)
            load(view(self._episodes, index), workload, self._settings, order)
            self._play_on(index, np.array([stepping.BEGIN]), skip, generator)
            self.partial[index] = skip > 0
            if self.counts[index] > 0:
                self.returns[index], self.lengths[index] = 0.0, 0
                return
            skip //= 2  # the episode was over before
        raise ValueError(
            f"{RESETS_AT_MOST} episodes of {self.arguments.pods} pods on {self.arguments.nodes} nodes "
            "had no placement to decide: raise env.nodes or env.pods"
        )

    def step(self, actions: NDArray[np.int64]) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        """Carry out one action per episode. Finished ones stay as they are until `reset`.

        Returns:
            rewards (E,) float64 and whether each episode is finished (E,) bool.
        """
        self._play_on(0, np.asarray(actions, np.int64), 0, self._undrawn)
        self.returns += self._rewards
        self.lengths += 1
        return self._rewards.copy(), self._finished.copy()

    def _play_on(self, first: int, actions: NDArray[np.int64], skip: int, generator: np.random.Generator) -> None:
        stepping.step(
            self._episodes,
            first,
            actions,
            skip,
            self.features,
            self.mask,
            self.cluster,
            self._rows,
            self._devices,
            self.counts,
            self._room,
            self._rewards,
            self._finished,
            generator,
            self.arguments.waiting_unit_seconds,
            self.arguments.fragmentation_weight,
            self.discount,
        )

    def summary(self, index: int) -> dict[str, float]:
        """What a finished episode came to."""
        episode = view(self._episodes, index)
        counters, pods = episode.counters, self.arguments.pods
        return {
            "mean_wait_seconds": float(episode.clock[1 + WAITING] / pods),
            "placed": int(counters[PLACED]),
            "forced": int(counters[FORCED]),
            "unfinished": int(pods - counters[PLACED]),
            "seconds": float(episode.clock[NOW]),
        }

    def state(self) -> dict[str, Any]:
        """A copy of everything that `restore` needs to go on exactly here."""
        arrays = {f"episodes/{name}": array.copy() for name, array in arrays_of(self._episodes).items()}
        for name in ("features", "mask", "cluster", "counts", "_rows", "_devices", "partial", "returns", "lengths"):
            arrays[name] = getattr(self, name).copy()
        return {"arrays": arrays, "generators": [generator.bit_generator.state for generator in self._generators]}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on where `state` was taken."""
        episodes = arrays_of(self._episodes)
        for name, array in state["arrays"].items():
            if name.startswith("episodes/"):
                episodes[name.removeprefix("episodes/")][:] = array
            else:
                getattr(self, name)[:] = array
        for generator, generator_state in zip(self._generators, state["generators"], strict=True):
            generator.bit_generator.state = generator_state


class PlacementEnv(gymnasium.Env[Observation, np.int64]):
    """One episode at a time, for Gymnasium.

    Example:
        >>> from training.workloads.synthetic import generate_population
        >>> arguments = EnvArguments(nodes=8, pods=50)
        >>> population = generate_population(np.random.default_rng(0))
        >>> env = PlacementEnv(arguments, workload_source(arguments, population, WorkloadArguments()))
        >>> observation, _ = env.reset(seed=1)
        >>> observation["candidates"].shape, observation["mask"].shape
        ((16, 24), (16,))
    """

    metadata = {"render_modes": []}  # noqa: RUF012 (Gymnasium's own attribute)

    def __init__(self, arguments: EnvArguments, source: WorkloadSource, discount: float = 0.99) -> None:
        self._batch = SimulatorBatch(1, arguments, source, discount, seed=0)
        self.observation_space = self._batch.observation_space
        self.action_space = self._batch.action_space

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """Draw a new episode and play it to its first decision."""
        super().reset(seed=seed)
        if seed is not None:
            self._batch.reseed(0, seed)
        self._batch.reset(0)
        return self._observation(), {}

    def step(self, action: np.int64) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        """Place the pod on a candidate; an action that names none leaves it unschedulable for now."""
        rewards, finished = self._batch.step(np.array([action]))
        info = self._batch.summary(0) if finished[0] else {}
        return self._observation(), float(rewards[0]), bool(finished[0]), False, info

    def action_masks(self) -> NDArray[np.bool_]:
        """Which actions name a candidate; (K,) bool. The name is sb3-contrib's."""
        return self._batch.mask[0] > 0

    def _observation(self) -> Observation:
        return {name: array[0].copy() for name, array in self._batch.observations().items()}
