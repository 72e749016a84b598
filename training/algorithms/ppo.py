"""PPO on the score network: MaskablePPO of sb3-contrib with a policy whose logits are the candidates' scores.

Infeasible placements are no actions at all: the environment lists feasible candidates only, and the mask removes the
padding from the distribution, in acting and in learning alike. Sources: Schulman et al. 2017 (PPO), Huang and Ontañón
2022 (invalid action masking).
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
import torch
from pydantic import Field
from sb3_contrib import MaskablePPO
from sb3_contrib.common.maskable.distributions import MaskableDistribution
from sb3_contrib.common.maskable.policies import MaskableMultiInputActorCriticPolicy
from stable_baselines3.common.callbacks import BaseCallback
from torch import Tensor

from training.networks import NetworkArguments, ScoreNetwork, ValueHead, score_network
from training.vecenv import BatchedVecEnv

Schedule = Callable[[float], float]


@dataclass
class PPOArguments:
    """Arguments of PPO; the names and meanings are Stable-Baselines3's."""

    name: str = "ppo"
    learning_rate: Annotated[float, Field(gt=0, lt=1, description="Adam's step, decays linearly to a tenth")] = 1e-3
    n_steps: Annotated[int, Field(ge=2, description="steps of each episode between two updates")] = 64
    batch_size: Annotated[int, Field(ge=2, description="decisions in one gradient step")] = 1024
    n_epochs: Annotated[int, Field(ge=1, description="passes over what was collected")] = 4
    discount: Annotated[float, Field(gt=0, le=1, description="gamma")] = 0.995
    gae_lambda: Annotated[float, Field(ge=0, le=1, description="bias against variance of the advantages")] = 0.95
    clip_range: Annotated[float, Field(gt=0, lt=1, description="how far an update may move a probability")] = 0.2
    entropy_coefficient: Annotated[float, Field(ge=0, description="bonus for staying undecided")] = 0.003
    value_coefficient: Annotated[float, Field(ge=0, description="weight of the critic's loss")] = 0.5
    max_gradient_norm: Annotated[float, Field(gt=0, description="gradients are clipped to this")] = 0.5


class ScorePolicy(MaskableMultiInputActorCriticPolicy):
    """Actor and critic for Stable-Baselines3: logits from a `ScoreNetwork`, values from a `ValueHead`."""

    def __init__(self, *args: Any, network_arguments: NetworkArguments, **kwargs: Any) -> None:
        self._network_arguments = network_arguments
        super().__init__(*args, **kwargs)

    def _build(self, lr_schedule: Schedule) -> None:
        spaces = self.observation_space.spaces  # type: ignore[attr-defined]
        features = spaces["candidates"].shape[1]
        self.score_network = score_network(features, self._network_arguments)
        self.value_head = ValueHead(features, spaces["cluster"].shape[0], self._network_arguments)
        self.optimizer = self.optimizer_class(self.parameters(), lr=lr_schedule(1), **self.optimizer_kwargs)

    def forward(
        self, obs: dict[str, Tensor], deterministic: bool = False, action_masks: np.ndarray | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Actions (B,), values (B,) and log-probabilities (B,)."""
        distribution = self.get_distribution(obs, action_masks)
        actions = distribution.get_actions(deterministic=deterministic)
        return actions, self.predict_values(obs), distribution.log_prob(actions)

    def evaluate_actions(
        self, obs: dict[str, Tensor], actions: Tensor, action_masks: Tensor | None = None
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """Values, log-probabilities of the given actions, entropies; (B,) each."""
        distribution = self.get_distribution(obs, action_masks)
        return self.predict_values(obs), distribution.log_prob(actions), distribution.entropy()

    def get_distribution(self, obs: dict[str, Tensor], action_masks: Any = None) -> MaskableDistribution:
        """The distribution over candidates; the observation's own mask removes the padding."""
        candidates, mask = without_padding(obs)
        scores = self.score_network(candidates, mask)
        logits = torch.zeros_like(obs["mask"])
        logits[:, : scores.shape[1]] = scores
        distribution = self.action_dist.proba_distribution(action_logits=logits)
        distribution.apply_masking(obs["mask"] > 0)
        return distribution

    def predict_values(self, obs: dict[str, Tensor]) -> Tensor:
        """The critic's values; (B,)."""
        candidates, mask = without_padding(obs)
        return self.value_head(candidates, mask, obs["cluster"])


def without_padding(obs: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
    """Candidates and mask, cut to the longest list of the batch: most lists fill a fraction of the room."""
    longest = max(int(obs["mask"].sum(dim=1).max()), 1)
    return obs["candidates"][:, :longest], obs["mask"][:, :longest]


def build(arguments: PPOArguments, network: NetworkArguments, env: BatchedVecEnv, seed: int) -> MaskablePPO:
    """A PPO learner on these environments."""
    return MaskablePPO(
        ScorePolicy,
        env,
        learning_rate=lambda remaining: arguments.learning_rate * (0.1 + 0.9 * remaining),
        n_steps=arguments.n_steps,
        batch_size=arguments.batch_size,
        n_epochs=arguments.n_epochs,
        gamma=arguments.discount,
        gae_lambda=arguments.gae_lambda,
        clip_range=arguments.clip_range,
        ent_coef=arguments.entropy_coefficient,
        vf_coef=arguments.value_coefficient,
        max_grad_norm=arguments.max_gradient_norm,
        policy_kwargs={"network_arguments": network},
        seed=seed,
        device="cpu",
    )


def train(learner: MaskablePPO, total_timesteps: int, callback: BaseCallback) -> ScoreNetwork:
    """Learn until `total_timesteps` have been taken in all, those before a resume included; returns the network.

    A learner that was restored has its environments where they were; only one that never saw any starts them.
    """
    fresh = learner._last_obs is None
    learner.learn(total_timesteps - learner.num_timesteps, callback=callback, reset_num_timesteps=fresh)
    network: ScoreNetwork = learner.policy.score_network
    return network
