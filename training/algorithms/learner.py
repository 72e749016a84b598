"""What a run sees of an algorithm: something that trains a network, tells how it goes, and can be interrupted.

Every algorithm's `build` returns a `Learner`. A run is its `Follower` and is told when there is something to show, and
when nothing is half done: between two updates a learner's `state` is exact, and one that is built anew and restored
from it ends in the same weights as one that was never interrupted. `StepLearner` is the learner of the algorithms that
stand on Stable-Baselines3.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.logger import Logger
from torch import nn

from training.env import EnvArguments
from training.vecenv import BatchedVecEnv


class Episode(NamedTuple):
    """What a training episode came to; NaN where that was not counted."""

    gain: float  # its return
    mean_wait_seconds: float
    violations: float = np.nan  # share of the promises that it broke
    violation_multiplier: float = np.nan  # the learned price of a broken promise when it ended


class Follower(Protocol):
    """Who follows a training."""

    def between_updates(self) -> None:
        """Nothing is half done now: the only moment at which the learner's state is exact."""

    def stepped(self, finished: Sequence[Episode]) -> None:
        """Decisions have been taken; these episodes ended with them."""

    def collected(self) -> None:
        """The decisions for the next update are complete."""


class Learner(Protocol):
    """What trains a network.

    Attributes:
        logger: figures recorded here go to TensorBoard.
    """

    logger: Logger

    @property
    def timesteps(self) -> int:
        """Decisions taken so far, those before an interruption included."""

    @property
    def network(self) -> nn.Module:
        """What is exported."""

    @property
    def held_out(self) -> Episode | None:
        """What a learner that looks for its best network itself found in the held-out episodes, just now."""

    def train(self, total_timesteps: int, follower: Follower) -> None:
        """Learn until so many decisions have been taken in all, those before an interruption included."""

    def state(self) -> dict[str, Any]:
        """All that `restore` needs to go on exactly here: tensors, numbers and strings in lists and dicts."""

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on where `state` was taken, after being built with the same arguments."""


class Arguments(Protocol):
    """What a run wants to know of any algorithm's arguments, which are a dataclass."""

    name: str

    def timesteps_between_updates(self, env: EnvArguments) -> int:
        """Decisions between two updates, and so between two moments at which a run can be interrupted."""

    def contradictions(self, env: EnvArguments) -> Iterator[str]:
        """What cannot be true together, in words."""


def declining(rate: float) -> Callable[[float], float]:
    """A learning rate that declines linearly to a tenth, as a function of the share of the training that remains."""
    return lambda remaining: rate * (0.1 + 0.9 * remaining)


class StepLearner:
    """The learner of an algorithm of Stable-Baselines3, whose policy names its `network`.

    Args:
        algorithm: its policy's optimizers are attributes of the policy; a `replay_buffer` of it has a state of its own.
        options: further arguments of the algorithm's `learn`.
    """

    def __init__(self, algorithm: BaseAlgorithm, **options: Any) -> None:
        self.algorithm = algorithm
        self._options = options

    @property
    def logger(self) -> Logger:
        """Where the algorithm records its figures."""
        return self.algorithm.logger

    @logger.setter
    def logger(self, logger: Logger) -> None:
        self.algorithm.set_logger(logger)

    @property
    def timesteps(self) -> int:
        """Decisions taken so far."""
        return self.algorithm.num_timesteps

    @property
    def network(self) -> nn.Module:
        """What is exported."""
        network: nn.Module = self.algorithm.policy.network
        return network

    @property
    def held_out(self) -> None:
        """Who follows has to look."""

    def train(self, total_timesteps: int, follower: Follower) -> None:
        """Learn until so many decisions have been taken in all.

        A learner that was restored has its environments where they were; only one that never saw any starts them.
        """
        self.algorithm.learn(
            total_timesteps - self.timesteps,
            callback=_Callback(follower),
            log_interval=None,
            reset_num_timesteps=self.algorithm._last_obs is None,
            **self._options,
        )

    def state(self) -> dict[str, Any]:
        """Networks, optimizers, memory, environments and random numbers."""
        algorithm, environments = self.algorithm, self._environments.batch.state()
        _, keys, position, has_gauss, cached = np.random.get_state()  # Stable-Baselines3 shuffles with it
        memory = getattr(algorithm, "replay_buffer", None)
        return {
            "timesteps": algorithm.num_timesteps,
            "updates": algorithm._n_updates,
            "policy": algorithm.policy.state_dict(),
            "optimizers": {name: optimizer.state_dict() for name, optimizer in self._optimizers()},
            "memory": memory.state() if memory is not None else None,
            "episode_starts": torch.from_numpy(np.asarray(algorithm._last_episode_starts)),
            "environments": {name: torch.from_numpy(array) for name, array in environments["arrays"].items()},
            "generators": environments["generators"],
            "torch_random": torch.get_rng_state(),
            "numpy_random": [torch.from_numpy(keys.astype(np.int64)), position, has_gauss, cached],
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on where `state` was taken."""
        algorithm = self.algorithm
        algorithm.num_timesteps, algorithm._n_updates = state["timesteps"], state["updates"]
        algorithm.policy.load_state_dict(state["policy"])
        for name, optimizer in self._optimizers():
            optimizer.load_state_dict(state["optimizers"][name])
        if state["memory"] is not None:
            algorithm.replay_buffer.restore(state["memory"])
        self._environments.batch.restore(
            {
                "arrays": {name: tensor.numpy() for name, tensor in state["environments"].items()},
                "generators": state["generators"],
            }
        )
        algorithm._last_obs = self._environments.observations()
        algorithm._last_episode_starts = state["episode_starts"].numpy()
        torch.set_rng_state(state["torch_random"])
        keys, position, has_gauss, cached = state["numpy_random"]
        np.random.set_state(("MT19937", keys.numpy().astype(np.uint32), position, has_gauss, cached))

    @property
    def _environments(self) -> BatchedVecEnv:
        env = self.algorithm.get_env()
        if not isinstance(env, BatchedVecEnv):
            raise TypeError(f"only a run on a BatchedVecEnv can be interrupted, this one is on {type(env).__name__}")
        return env

    def _optimizers(self) -> Iterator[tuple[str, torch.optim.Optimizer]]:
        for name, value in vars(self.algorithm.policy).items():
            if isinstance(value, torch.optim.Optimizer):
                yield name, value


class _Callback(BaseCallback):
    """Passes on to a follower what Stable-Baselines3 tells."""

    def __init__(self, follower: Follower) -> None:
        super().__init__()
        self._follower = follower

    def _on_rollout_start(self) -> None:
        self._follower.between_updates()

    def _on_step(self) -> bool:
        self._follower.stepped(
            [
                Episode(
                    float(info["episode"]["r"]),
                    *(float(info.get(key, np.nan)) for key in Episode._fields[1:]),
                )
                for info in self.locals["infos"]
                if "episode" in info
            ]
        )
        return True

    def _on_rollout_end(self) -> None:
        if isinstance(self.training_env, BatchedVecEnv):
            self.training_env.batch.adapt_multiplier()
        self._follower.collected()
