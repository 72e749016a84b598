"""The learning problem: one step is one placement decision.

An observation describes the candidates of the pod at the head of the queue, feasible ones only, in the extender's
features; an action is one of them. The reward is minus the waiting that accrues until the next decision, so that an
episode's return is its total waiting time, plus potential-based shaping by fragmentation, which leaves the optimal
policy as it is; `rewards` tells of other terms, `randomisation` of the episodes. `SimulatorBatch` steps many episodes
in one compiled call; `PlacementEnv` is Gymnasium's view of one episode, `vecenv.BatchedVecEnv` Stable-Baselines3's view
of the batch.
"""

from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from extender.features import feature_count
from training.randomisation import EnvArguments, EpisodeSource, WorkloadSource, workload_source
from training.rewards import ascended
from training.service_levels import promised_waits
from training.simulator import stepping
from training.simulator.episodes import allocate, load, sizes_of
from training.simulator.scheduling import SchedulerArguments, order_of, settings_of
from training.simulator.state import FORCED, NOW, PLACED, WAITING
from training.simulator.stepping import CLUSTER_FEATURES
from training.simulator.views import arrays_of, view

Observation = dict[str, NDArray[np.float32]]

RESETS_AT_MOST = 100
STATE = (
    *("features", "mask", "cluster", "counts", "_rows", "_devices", "partial", "returns", "lengths"),
    *("_finished", "_owed", "_promised", "_promises", "multiplier"),
)


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
        multiplier: (1,) float64, the learned price of a broken promise; 0 without `violation_limit`.
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
            source: draws workloads; a plain function draws them all of one size.
            discount: of the learning problem; shaping needs it.
            seed: of all random draws.
            scheduler: kube-scheduler's settings; its defaults where left out.
        """
        self.size = batch
        self.arguments = arguments
        self.discount = discount
        self._source = source
        self._generators = [np.random.default_rng(sequence) for sequence in np.random.SeedSequence(seed).spawn(batch)]
        sizes = source.sizes if isinstance(source, EpisodeSource) else sizes_of(source(np.random.default_rng(seed)))
        self._scheduler = scheduler or SchedulerArguments()
        self._episodes = allocate(batch, sizes)
        limit = 2 * arguments.nodes
        resources = sizes.resources
        self.features = np.zeros((batch, limit, feature_count(resources)), np.float32)
        self.mask = np.zeros((batch, limit), np.float32)
        self.cluster = np.zeros((batch, resources + CLUSTER_FEATURES), np.float32)
        self.counts = np.zeros(batch, np.int64)
        self._rows = np.zeros((batch, limit), np.int64)
        self._devices = np.zeros((batch, limit), np.int64)
        self._room = stepping.Room(np.zeros(arguments.nodes, np.int64), np.zeros(sizes.slots, np.int64))
        self._rewards, self._owed = np.zeros(batch), np.zeros(batch)
        self._promised = np.full((batch, sizes.pods), np.inf)
        self._promises = np.zeros(3, np.int64)  # since the price was last adapted: broken, given, in so many episodes
        self.multiplier = np.zeros(1)
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
        if self._finished[index] and not self.partial[index]:
            self._promises += *self._broken_promises(index), 1
        generator = self._generators[index]
        for _ in range(RESETS_AT_MOST):
            workload = self._source(generator)
            settings = settings_of(self._scheduler, len(workload.allocatable))
            load(view(self._episodes, index), workload, settings, order_of(workload, self._scheduler.ordering))
            self._promised[index] = promised_waits(workload.priority, self.arguments.service_levels)
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
        """Carry out one action per episode. Finished ones stay as they are until `reset`, with a reward of 0.

        Returns:
            rewards (E,) float64 and whether each episode is finished (E,) bool.
        """
        over = self._finished.copy()
        self._play_on(0, np.asarray(actions, np.int64), 0, self._undrawn)
        self.lengths += ~over
        self.returns += self._rewards
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
            self._owed,
            self._finished,
            generator,
            self._promised,
            self._terms(),
        )

    def _terms(self) -> stepping.Terms:
        arguments, weights = self.arguments, self.arguments.weights
        return stepping.Terms(
            unit=arguments.waiting_unit_seconds,
            waiting=weights.waiting,
            allocation=weights.allocation,
            cost=weights.cost,
            violations=weights.violations + float(self.multiplier[0]),
            fragmentation=weights.fragmentation,
            potential=arguments.fragmentation_weight,
            discount=self.discount,
            sparse=arguments.reward == "sparse",
        )

    def _broken_promises(self, index: int) -> tuple[int, int]:
        """How many pods of a finished episode waited longer than promised, and how many were promised anything."""
        pods, now = self._episodes.pods, self._episodes.clock[index, NOW]
        arrived = pods.arrival[index] <= now
        waits = np.isnan(pods.finishes[index]) & arrived
        waited = pods.waited[index] + np.where(waits, now - pods.pending_since[index], 0.0)
        given = np.isfinite(self._promised[index]) & arrived
        return int(np.sum(given & (waited > self._promised[index]))), int(np.sum(given))

    def adapt_multiplier(self) -> None:
        """Adapt the price of a broken promise to the episodes that ended since the last time; between two rollouts."""
        limit, (broken, given, episodes) = self.arguments.violation_limit, self._promises.tolist()
        if limit is not None and given:
            # By episodes, so that it does not depend on how many rollouts an algorithm makes of them.
            step, at_most = self.arguments.violation_step * episodes / self.size, self.arguments.violation_price_at_most
            self.multiplier[0] = ascended(float(self.multiplier[0]), broken / given, limit, step, at_most)
            self._promises[:] = 0

    def summary(self, index: int) -> dict[str, float]:
        """What a finished episode came to."""
        episode = view(self._episodes, index)
        counters, pods = episode.counters, self.arguments.pods
        broken, given = self._broken_promises(index)
        return {
            "mean_wait_seconds": float(episode.clock[1 + WAITING] / pods),
            "placed": int(counters[PLACED]),
            "forced": int(counters[FORCED]),
            "unfinished": int(pods - counters[PLACED]),
            "seconds": float(episode.clock[NOW]),
            "violations": broken / max(given, 1),
            "violation_multiplier": float(self.multiplier[0]),
        }

    def state(self) -> dict[str, Any]:
        """A copy of everything that `restore` needs to go on exactly here."""
        arrays = {f"episodes/{name}": array.copy() for name, array in arrays_of(self._episodes).items()}
        for name in STATE:
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
        >>> from training.workloads.selection import WorkloadArguments
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


__all__ = ["EnvArguments", "PlacementEnv", "SimulatorBatch", "WorkloadSource", "workload_source"]
