"""Stable-Baselines3's view of a batch of episodes: one compiled call steps them all."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from stable_baselines3.common.vec_env import VecEnv

from training.env import EnvArguments, SimulatorBatch, WorkloadSource
from training.simulator.scheduling import SchedulerArguments


class BatchedVecEnv(VecEnv):
    """A VecEnv over `SimulatorBatch`; finished episodes are replaced at once, as the interface asks.

    Args:
        arguments: the cluster and the episodes; `parallel` of them.
        source: draws the episodes.
        discount: of the algorithm, for potential-based shaping.
        seed: same seed, same episodes.
        stagger: let the first episodes begin at different points, so that the batch does not fill its clusters and
            finish in step; these first episodes are left out of `infos`.
        scheduler: kube-scheduler's settings; its defaults where left out.
    """

    render_mode = None

    def __init__(
        self,
        arguments: EnvArguments,
        source: WorkloadSource,
        discount: float,
        seed: int,
        stagger: bool = False,
        scheduler: SchedulerArguments | None = None,
    ) -> None:
        self.batch = SimulatorBatch(arguments.parallel, arguments, source, discount, seed, scheduler)
        self._actions = np.zeros(arguments.parallel, np.int64)
        self._stagger = stagger
        super().__init__(arguments.parallel, self.batch.observation_space, self.batch.action_space)

    def reset(self) -> dict[str, np.ndarray]:
        """Start every episode anew."""
        for index in range(self.num_envs):
            self.batch.reset(index, skip=index * self.batch.arguments.pods // self.num_envs if self._stagger else 0)
        return self.observations()

    def observations(self) -> dict[str, np.ndarray]:
        """Copies of the current observations, (E, …) each."""
        return {name: array.copy() for name, array in self.batch.observations().items()}

    def step_async(self, actions: np.ndarray) -> None:
        """Remember the actions for `step_wait`."""
        self._actions = actions

    def step_wait(self) -> tuple[dict[str, np.ndarray], np.ndarray, np.ndarray, list[dict[str, Any]]]:
        """Step all episodes; `infos` of finished ones carry `terminal_observation`, `episode` and the summary."""
        rewards, finished = self.batch.step(self._actions)
        infos: list[dict[str, Any]] = [{} for _ in range(self.num_envs)]
        for index in np.flatnonzero(finished):
            infos[index] = {
                "terminal_observation": {
                    name: array[index].copy() for name, array in self.batch.observations().items()
                },
            }
            if not self.batch.partial[index]:
                infos[index]["episode"] = {"r": self.batch.returns[index], "l": int(self.batch.lengths[index])}
                infos[index].update(self.batch.summary(index))
            self.batch.reset(index)
        return self.observations(), rewards, finished, infos

    def action_masks(self) -> np.ndarray:
        """Which actions name a candidate; (E, K) bool."""
        return self.batch.mask > 0

    def close(self) -> None:
        """Nothing is held beyond memory."""

    def get_attr(self, attr_name: str, indices: int | Sequence[int] | None = None) -> list[Any]:
        """The batch has one value for all episodes.

        Raises:
            AttributeError: there is no such attribute.
        """
        return [getattr(self, attr_name)] * len(list(self._get_indices(indices)))

    def set_attr(self, attr_name: str, value: Any, indices: int | Sequence[int] | None = None) -> None:
        """Set an attribute of the whole batch."""
        setattr(self, attr_name, value)

    def env_method(
        self, method_name: str, *method_args: Any, indices: int | Sequence[int] | None = None, **method_kwargs: Any
    ) -> list[Any]:
        """Call a method of the batch and hand out each episode's part of the result."""
        results = getattr(self, method_name)(*method_args, **method_kwargs)
        return [results[index] for index in self._get_indices(indices)]

    def env_is_wrapped(self, wrapper_class: type, indices: int | Sequence[int] | None = None) -> list[bool]:
        """No episode is wrapped."""
        return [False] * len(list(self._get_indices(indices)))
