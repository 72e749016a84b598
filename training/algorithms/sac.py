"""Discrete SAC on the score network: the scores are the logits of a policy that stays as undecided as it is told to.

With finitely many actions every expectation over the policy is a sum over the candidates, so nothing is sampled but the
behaviour: the value of a state, the actor's loss and the temperature's. Two critics, each with an older copy that
follows it slowly, value the actions, and the smaller value counts. The temperature is learned so that the policy's
entropy is a share of log(number of candidates), whatever their number. The actor is what is exported. Sources:
Haarnoja et al. 2018 (SAC), Christodoulou 2019 (discrete actions).
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Annotated

import torch
from gymnasium import spaces
from pydantic import Field
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.utils import polyak_update
from stable_baselines3.common.vec_env import VecEnv
from torch import Tensor, nn

from training.algorithms.approximators import (
    ActionScores,
    ActionValues,
    Observation,
    best_action,
    log_probabilities,
    valid_actions,
)
from training.algorithms.learner import StepLearner
from training.algorithms.off_policy import ReplayArguments, ReplayLearning
from training.algorithms.replay_buffer import Batch, ReplayBuffer
from training.env import EnvArguments
from training.networks import NetworkArguments


@dataclass
class SACArguments(ReplayArguments):
    """Arguments of discrete SAC."""

    name: str = "sac"
    target_rate: Annotated[float, Field(gt=0, le=1, description="how fast the critics' copies follow them")] = 0.01
    initial_temperature: Annotated[float, Field(gt=0, description="weight of the entropy at the start")] = 0.1
    target_entropy_ratio: Annotated[
        float, Field(ge=0, lt=1, description="entropy that is aimed at, as a share of log(number of candidates)")
    ] = 0.2

    def contradictions(self, env: EnvArguments) -> Iterator[str]:
        """Memory has to hold what is asked of it."""
        if self.capacity < 2 * env.parallel:
            yield f"algorithm.capacity={self.capacity} holds no two steps of {env.parallel} episodes (env.parallel)"
        yield from super().contradictions(env)


class SoftPolicy(BasePolicy):
    """Actor, twin critics with their copies, and temperature."""

    def __init__(
        self,
        observation_space: spaces.Space,
        action_space: spaces.Discrete,
        lr_schedule: Callable[[float], float],
        *,
        network_arguments: NetworkArguments,
        initial_temperature: float,
    ) -> None:
        super().__init__(observation_space, action_space)

        def critics() -> nn.ModuleList:
            # Dueling, so that what the queue makes of a state need not be learned by the scores of its candidates.
            return nn.ModuleList(
                ActionValues(observation_space, action_space, network_arguments, dueling=True) for _ in range(2)
            )

        self.actor = ActionScores(observation_space, action_space, network_arguments)
        self.critics, self.targets = critics(), critics()
        self.targets.load_state_dict(self.critics.state_dict())
        self.targets.requires_grad_(False)
        self.log_temperature = nn.Parameter(torch.tensor(math.log(initial_temperature)))
        self.actor_optimizer = torch.optim.Adam(self.actor.parameters(), lr=lr_schedule(1))
        self.critic_optimizer = torch.optim.Adam(self.critics.parameters(), lr=lr_schedule(1))
        self.temperature_optimizer = torch.optim.Adam([self.log_temperature], lr=lr_schedule(1))

    @property
    def network(self) -> nn.Module:
        """What is exported."""
        return self.actor.network

    def logs(self, observation: Observation) -> tuple[Tensor, Tensor]:
        """Logarithms of the actions' probabilities (B, A), 0 where not valid, and which are valid (B, A)."""
        scores = self.actor(observation)
        valid = valid_actions(observation, scores)
        return log_probabilities(scores, valid), valid

    def _predict(self, observation: Observation, deterministic: bool = False) -> Tensor:
        logs, valid = self.logs(observation)
        if deterministic:
            return best_action(logs, valid)
        return torch.multinomial(logs.exp() * valid, 1).squeeze(1)


class SAC(ReplayLearning):
    """Soft actor-critic over masked discrete actions."""

    policy: SoftPolicy

    def __init__(self, arguments: SACArguments, network: NetworkArguments, env: VecEnv, seed: int) -> None:
        self.arguments = arguments
        super().__init__(
            SoftPolicy,
            env,
            ReplayBuffer(arguments.capacity, env.observation_space, env.num_envs, 1, arguments.discount, seed),
            arguments,
            policy_kwargs={"network_arguments": network, "initial_temperature": arguments.initial_temperature},
            seed=seed,
        )

    def explore(self, observation: Observation) -> Tensor:
        """Actions as likely as the policy makes them."""
        return self.policy._predict(observation, deterministic=False)

    def train(self, gradient_steps: int, batch_size: int) -> None:
        """Improve critics, actor and temperature, so many times."""
        policy = self.policy
        policy.set_training_mode(True)
        optimizers = [policy.critic_optimizer, policy.actor_optimizer, policy.temperature_optimizer]
        self._update_learning_rate(optimizers)
        for _ in range(gradient_steps):
            batch = self.replay_buffer.sample(batch_size)
            critic_loss = self.critic_loss(batch)
            self._descend(policy.critic_optimizer, critic_loss)
            actor_loss, temperature_loss, entropy = self.policy_losses(batch.observations)
            self._descend(policy.actor_optimizer, actor_loss)
            self._descend(policy.temperature_optimizer, temperature_loss)
            polyak_update(policy.critics.parameters(), policy.targets.parameters(), self.arguments.target_rate)
            self._n_updates += 1
        self.logger.record("train/critic_loss", critic_loss.item())
        self.logger.record("train/actor_loss", actor_loss.item())
        self.logger.record("train/entropy", entropy.item())
        self.logger.record("train/temperature", policy.log_temperature.exp().item())
        self.logger.record("train/n_updates", self._n_updates, exclude="tensorboard")

    def _descend(self, optimizer: torch.optim.Optimizer, loss: Tensor) -> None:
        parameters = optimizer.param_groups[0]["params"]
        for parameter, gradient in zip(parameters, torch.autograd.grad(loss, parameters), strict=True):
            parameter.grad = gradient
        nn.utils.clip_grad_norm_(parameters, self.arguments.max_gradient_norm)
        optimizer.step()

    def critic_loss(self, batch: Batch) -> Tensor:
        """Mean square of both critics' distances from the soft value of what came next."""
        with torch.no_grad():
            targets = batch.returns + batch.discounts * self.soft_value(batch.next_observations)
        taken = batch.actions[:, None]
        values = [critic(batch.observations).gather(1, taken).squeeze(1) for critic in self.policy.critics]
        return torch.stack([nn.functional.mse_loss(each, targets) for each in values]).sum()

    def soft_value(self, observation: Observation) -> Tensor:
        """Expected value of the policy's action by the more cautious copy, and its entropy; (B,)."""
        logs, valid = self.policy.logs(observation)
        values = torch.minimum(*(target(observation) for target in self.policy.targets))
        return (logs.exp() * valid * (values - self.policy.log_temperature.exp() * logs)).sum(dim=1)

    def policy_losses(self, observation: Observation) -> tuple[Tensor, Tensor, Tensor]:
        """Losses of actor and temperature, and the mean entropy; scalars."""
        logs, valid = self.policy.logs(observation)
        probabilities = logs.exp() * valid
        with torch.no_grad():
            values = torch.minimum(*(critic(observation) for critic in self.policy.critics))
        temperature = self.policy.log_temperature.exp()
        actor_loss = (probabilities * (temperature.detach() * logs - values)).sum(dim=1).mean()
        entropy = -(probabilities * logs).sum(dim=1).detach()
        wanted = self.arguments.target_entropy_ratio * valid.sum(dim=1).float().log()
        # Along the logarithm, so that a small temperature moves as fast as a large one.
        return actor_loss, self.policy.log_temperature * (entropy - wanted).mean(), entropy.mean()


def build(arguments: SACArguments, network: NetworkArguments, env: VecEnv, seed: int) -> StepLearner:
    """A SAC learner on these environments."""
    return StepLearner(SAC(arguments, network, env, seed))
