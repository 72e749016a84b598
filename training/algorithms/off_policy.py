"""What DQN and SAC share beyond Stable-Baselines3's loop: valid actions only, and our own memory.

The loop is `OffPolicyAlgorithm.learn`: step all episodes, remember, learn. Here an algorithm says how it explores and
how it learns from a batch; before `learning_starts` valid actions are taken at random.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
import torch
from gymnasium import spaces
from pydantic import Field
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.utils import obs_as_tensor
from stable_baselines3.common.vec_env import VecEnv
from torch import Tensor

from training.algorithms.approximators import Observation, valid_actions
from training.algorithms.learner import declining
from training.algorithms.replay_buffer import ReplayBuffer
from training.env import EnvArguments


@dataclass
class ReplayArguments:
    """Arguments that both have."""

    name: str = ""
    learning_rate: Annotated[float, Field(gt=0, lt=1, description="Adam's step, decays linearly to a tenth")] = 1e-3
    capacity: Annotated[int, Field(ge=2, description="decisions that are remembered")] = 50_000
    learning_starts: Annotated[int, Field(ge=0, description="decisions at random before learning")] = 1000
    train_interval: Annotated[int, Field(ge=1, description="steps of each episode between two updates")] = 1
    gradient_steps: Annotated[int, Field(ge=1, description="gradient steps of an update")] = 4
    batch_size: Annotated[int, Field(ge=2, description="decisions in one gradient step")] = 256
    discount: Annotated[float, Field(gt=0, le=1, description="gamma")] = 0.99
    max_gradient_norm: Annotated[float, Field(gt=0, description="gradients are clipped to this")] = 10.0

    def timesteps_between_updates(self, env: EnvArguments) -> int:
        """Decisions between two updates."""
        return self.train_interval * env.parallel

    def contradictions(self, env: EnvArguments) -> Iterator[str]:
        """Learning has to start before the memory is full."""
        if self.learning_starts > self.capacity:
            yield f"algorithm.learning_starts={self.learning_starts} is above algorithm.capacity={self.capacity}"


class ReplayLearning(OffPolicyAlgorithm):
    """Off-policy learning over masked discrete actions.

    Args:
        policy: class of the policy.
        env: the environments.
        memory: what is remembered.
        arguments: how much is learned when.
        options: further arguments of `OffPolicyAlgorithm`.
    """

    replay_buffer: ReplayBuffer  # type: ignore[assignment]

    def __init__(
        self, policy: type[BasePolicy], env: VecEnv, memory: ReplayBuffer, arguments: ReplayArguments, **options: Any
    ) -> None:
        super().__init__(
            policy,
            env,
            learning_rate=declining(arguments.learning_rate),
            learning_starts=arguments.learning_starts,
            batch_size=arguments.batch_size,
            train_freq=arguments.train_interval,
            gradient_steps=arguments.gradient_steps,
            gamma=arguments.discount,
            sde_support=False,
            support_multi_env=True,
            supported_action_spaces=(spaces.Discrete,),
            device="cpu",
            **options,
        )
        self.replay_buffer = memory
        self._setup_model()

    def explore(self, observation: Observation) -> Tensor:
        """Actions to learn from, (E,) int64; valid ones."""
        raise NotImplementedError

    def _sample_action(
        self, learning_starts: int, action_noise: Any = None, n_envs: int = 1
    ) -> tuple[np.ndarray, np.ndarray]:
        assert self._last_obs is not None
        observation = obs_as_tensor(self._last_obs, self.device)
        with torch.no_grad():
            if self.num_timesteps < learning_starts:
                actions = random_action(valid_actions(observation, torch.empty(n_envs, int(self.action_space.n))))
            else:
                actions = self.explore(observation)
        chosen = actions.numpy()
        return chosen, chosen

    def _store_transition(
        self,
        replay_buffer: Any,
        buffer_action: np.ndarray,
        new_obs: Any,
        reward: np.ndarray,
        dones: np.ndarray,
        infos: list[dict[str, Any]],
    ) -> None:
        cut_off = np.array([info.get("TimeLimit.truncated", False) for info in infos], np.bool_)
        replay_buffer.add(self._last_obs, buffer_action, reward, dones & ~cut_off, cut_off)
        self._last_obs = new_obs


def random_action(valid: Tensor) -> Tensor:
    """A valid action each, all equally likely; (B, A) bool -> (B,) int64."""
    return torch.multinomial(valid.float(), 1).squeeze(1)
