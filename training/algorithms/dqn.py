"""DQN on the score network: the scores are the values of the candidates, learned by bootstrapping.

The values of decisions are drawn towards what was received over the next n steps plus the value of the best action from
there, as an older copy of the network sees it. Only candidates count, in acting, at random too, and in choosing the
best action of the next state. Each of these can be switched:

- `double`: the network chooses the next action, its older copy values it (van Hasselt et al. 2016), else the copy does
  both (Mnih et al. 2015);
- `dueling`: the scores only say how much better a candidate is than another, a critic of its own, which also sees the
  queue, says what the state is worth (Wang et al. 2016);
- `n_steps`: how long rewards are followed before a value stands for the rest (Sutton and Barto, chapter 7);
- `prioritized`: draw decisions that were valued wrongly more often (Schaul et al. 2016);
- `exploration`: epsilon-greedy, or a softmax over the values whose entropy is held at a share of what is possible.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Annotated

import numpy as np
import torch
from gymnasium import spaces
from pydantic import Field
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.vec_env import VecEnv
from torch import Tensor, nn

from training.algorithms.approximators import (
    ActionValues,
    Observation,
    best_action,
    log_probabilities,
    valid_actions,
)
from training.algorithms.learner import StepLearner
from training.algorithms.off_policy import ReplayArguments, ReplayLearning, random_action
from training.algorithms.replay_buffer import Batch, PrioritizedReplayBuffer, ReplayBuffer
from training.env import EnvArguments
from training.networks import NetworkArguments

BISECTIONS = 30  # of the exponent of a temperature
COLDEST, HOTTEST = math.log(1e-6), math.log(1e6)


@dataclass
class DQNArguments(ReplayArguments):
    """Arguments of DQN."""

    name: str = "dqn"
    target_interval: Annotated[int, Field(ge=1, description="gradient steps between two copies to the target")] = 200
    double: Annotated[bool, Field(description="the network chooses the next action, its older copy values it")] = True
    dueling: Annotated[bool, Field(description="value of the state plus advantages of the candidates")] = True
    n_steps: Annotated[int, Field(ge=1, le=100, description="rewards that are followed before a value")] = 3
    prioritized: Annotated[bool, Field(description="draw what was valued wrongly more often")] = True
    priority_exponent: Annotated[
        float, Field(ge=0, le=1, description="alpha: 0 draws uniformly, 1 in proportion to the errors")
    ] = 0.6
    importance_exponent: Annotated[
        float, Field(ge=0, le=1, description="beta at the start: correction of the draws' bias; grows to 1")
    ] = 0.4
    exploration: Annotated[
        str, Field(pattern="^(epsilon|boltzmann)$", description="at random now and then, or softmax over the values")
    ] = "epsilon"
    exploration_fraction: Annotated[
        float, Field(gt=0, le=1, description="share of the training over which exploration falls")
    ] = 0.3
    exploration_final: Annotated[
        float,
        Field(ge=0, le=1, description="… from 1 to this: share of random actions, or of the greatest entropy"),
    ] = 0.05

    def contradictions(self, env: EnvArguments) -> Iterator[str]:
        """Memory has to hold what is asked of it."""
        if self.capacity < (self.n_steps + 1) * env.parallel:
            yield (
                f"algorithm.capacity={self.capacity} holds no {self.n_steps} steps and one more (algorithm.n_steps) "
                f"of {env.parallel} episodes (env.parallel)"
            )
        yield from super().contradictions(env)


class ValuePolicy(BasePolicy):
    """Takes the action of the highest value; holds the network and its older copy."""

    def __init__(
        self,
        observation_space: spaces.Space,
        action_space: spaces.Discrete,
        lr_schedule: Callable[[float], float],
        *,
        network_arguments: NetworkArguments,
        dueling: bool,
    ) -> None:
        super().__init__(observation_space, action_space)
        self.values = ActionValues(observation_space, action_space, network_arguments, dueling=dueling)
        self.target = ActionValues(observation_space, action_space, network_arguments, dueling=dueling)
        self.target.load_state_dict(self.values.state_dict())
        self.target.requires_grad_(False)
        self.optimizer = torch.optim.Adam(self.values.parameters(), lr=lr_schedule(1))

    @property
    def network(self) -> nn.Module:
        """What is exported."""
        return self.values.scores.network

    def _predict(self, observation: Observation, deterministic: bool = True) -> Tensor:
        values = self.values(observation)
        return best_action(values, valid_actions(observation, values))


class DQN(ReplayLearning):
    """Deep Q-learning with its usual improvements, each of them a switch of the arguments."""

    policy: ValuePolicy

    def __init__(self, arguments: DQNArguments, network: NetworkArguments, env: VecEnv, seed: int) -> None:
        self.arguments = arguments
        shape = (arguments.capacity, env.observation_space, env.num_envs, arguments.n_steps, arguments.discount, seed)
        super().__init__(
            ValuePolicy,
            env,
            PrioritizedReplayBuffer(*shape, alpha=arguments.priority_exponent)
            if arguments.prioritized
            else ReplayBuffer(*shape),
            arguments,
            policy_kwargs={"network_arguments": network, "dueling": arguments.dueling},
            seed=seed,
        )

    @property
    def progress(self) -> float:
        """Share of the training that is done, 0 … 1."""
        return min(self.num_timesteps / max(self._total_timesteps, 1), 1.0)

    @property
    def exploration_rate(self) -> float:
        """Falls linearly from 1 to `exploration_final`."""
        fallen = min(self.progress / self.arguments.exploration_fraction, 1.0)
        return 1.0 + fallen * (self.arguments.exploration_final - 1.0)

    def explore(self, observation: Observation) -> Tensor:
        """Actions that are mostly good, and sometimes new."""
        values = self.policy.values(observation)
        valid = valid_actions(observation, values)
        if self.arguments.exploration == "boltzmann":
            return torch.multinomial(softmax_of_entropy(values, valid, self.exploration_rate), 1).squeeze(1)
        at_random = torch.rand(len(values)) < self.exploration_rate
        return torch.where(at_random, random_action(valid), best_action(values, valid))

    def train(self, gradient_steps: int, batch_size: int) -> None:
        """Draw the values towards their targets, so many times."""
        policy, arguments = self.policy, self.arguments
        policy.set_training_mode(True)
        self._update_learning_rate(policy.optimizer)
        beta = arguments.importance_exponent + self.progress * (1.0 - arguments.importance_exponent)
        losses = []
        for _ in range(gradient_steps):
            batch = self.replay_buffer.sample(batch_size, beta)
            errors = self.errors(batch)
            loss = (batch.weights * nn.functional.huber_loss(errors, torch.zeros_like(errors), reduction="none")).mean()
            policy.optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(policy.values.parameters(), arguments.max_gradient_norm)
            policy.optimizer.step()
            self.replay_buffer.update_priorities(batch.starts, errors.detach().numpy().astype(np.float64))
            self._n_updates += 1
            if self._n_updates % arguments.target_interval == 0:
                policy.target.load_state_dict(policy.values.state_dict())
            losses.append(loss.item())
        self.logger.record("train/loss", float(np.mean(losses)))
        self.logger.record("train/exploration_rate", self.exploration_rate)
        self.logger.record("train/n_updates", self._n_updates, exclude="tensorboard")

    def errors(self, batch: Batch) -> Tensor:
        """How far the values of the actions that were taken are above their targets; (B,)."""
        values = self.policy.values(batch.observations).gather(1, batch.actions[:, None]).squeeze(1)
        with torch.no_grad():
            targets = batch.returns + batch.discounts * self.next_values(batch.next_observations)
        return values - targets

    def next_values(self, observation: Observation) -> Tensor:
        """What the target network says of the best valid action; (B,)."""
        values = self.policy.target(observation)
        choosing = self.policy.values(observation) if self.arguments.double else values
        best = best_action(choosing, valid_actions(observation, choosing))
        return values.gather(1, best[:, None]).squeeze(1)


def softmax_of_entropy(values: Tensor, valid: Tensor, share: float) -> Tensor:
    """Softmax over valid actions at the temperature at which its entropy is a share of the greatest possible one.

    The temperature is found per state, so that neither the scale of the values nor the number of candidates matters.

    Args:
        values: (B, A).
        valid: (B, A) bool.
        share: 0 … 1, of log(number of valid actions).

    Returns:
        probabilities (B, A), 0 at actions that are not valid.
    """
    wanted = share * valid.sum(dim=1).float().log()
    low, high = torch.full_like(wanted, COLDEST), torch.full_like(wanted, HOTTEST)
    centred = values - values.masked_fill(~valid, -torch.inf).amax(dim=1, keepdim=True)
    for _ in range(BISECTIONS):
        middle = (low + high) / 2
        logs = log_probabilities(centred / middle.exp()[:, None], valid)
        too_certain = -(logs.exp() * logs * valid).sum(dim=1) < wanted
        low, high = torch.where(too_certain, middle, low), torch.where(too_certain, high, middle)
    return log_probabilities(centred / high.exp()[:, None], valid).exp() * valid


def build(arguments: DQNArguments, network: NetworkArguments, env: VecEnv, seed: int) -> StepLearner:
    """A DQN learner on these environments."""
    return StepLearner(DQN(arguments, network, env, seed))
