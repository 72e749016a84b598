"""PPO on the score network: MaskablePPO of sb3-contrib with a policy whose logits are the candidates' scores.

Infeasible placements are no actions at all: the environment lists feasible candidates only, and the mask removes the
padding from the distribution, in acting and in learning alike. Sources: Schulman et al. 2017 (PPO), Huang and Ontañón
2022 (invalid action masking).
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import Field
from sb3_contrib import MaskablePPO
from sb3_contrib.common.maskable.distributions import MaskableDistribution
from sb3_contrib.common.maskable.policies import MaskableActorCriticPolicy
from stable_baselines3.common.vec_env import VecEnv
from torch import Tensor, nn

from training.algorithms.approximators import ActionScores, Observation, StateValue, valid_actions
from training.algorithms.learner import StepLearner, declining
from training.env import EnvArguments
from training.networks import NetworkArguments

Schedule = Callable[[float], float]
NEVER = -1e8  # logit of what is no candidate; sb3-contrib's own


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

    def timesteps_between_updates(self, env: EnvArguments) -> int:
        """Decisions of a rollout."""
        return self.n_steps * env.parallel

    def contradictions(self, env: EnvArguments) -> Iterator[str]:
        """A rollout has to come apart into batches that have a spread."""
        rollout = self.timesteps_between_updates(env)
        if self.batch_size > rollout or rollout % self.batch_size == 1:
            yield (
                f"algorithm.batch_size={self.batch_size} does not divide the {rollout} decisions of a rollout "
                "(algorithm.n_steps times env.parallel) into batches of two or more"
            )


class ScorePolicy(MaskableActorCriticPolicy):
    """Actor and critic: logits from `ActionScores`, values from a `StateValue`."""

    def __init__(self, *args: Any, network_arguments: NetworkArguments, **kwargs: Any) -> None:
        self._network_arguments = network_arguments
        super().__init__(*args, **kwargs)

    def _build(self, lr_schedule: Schedule) -> None:
        self.actor = ActionScores(self.observation_space, self.action_space, self._network_arguments)
        self.critic = StateValue(self.observation_space, self._network_arguments)
        self.optimizer = self.optimizer_class(self.parameters(), lr=lr_schedule(1), **self.optimizer_kwargs)

    @property
    def network(self) -> nn.Module:
        """What is exported."""
        return self.actor.network

    def forward(
        self, obs: Observation, deterministic: bool = False, action_masks: Any = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Actions (B,), values (B,) and log-probabilities (B,)."""
        distribution = self.get_distribution(obs, action_masks)
        actions = distribution.get_actions(deterministic=deterministic)
        return actions, self.predict_values(obs), distribution.log_prob(actions)

    def evaluate_actions(
        self, obs: Observation, actions: Tensor, action_masks: Tensor | None = None
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """Values, log-probabilities of the given actions, entropies; (B,) each."""
        distribution = self.get_distribution(obs, action_masks)
        return self.predict_values(obs), distribution.log_prob(actions), distribution.entropy()

    def get_distribution(self, obs: Observation, action_masks: Any = None) -> MaskableDistribution:
        """The distribution over valid actions; the observation itself says which they are."""
        logits = self.actor(obs)
        valid = valid_actions(obs, logits)
        # Masked before they are normalised, too: what stands at padding would cost precision and get a gradient.
        distribution = self.action_dist.proba_distribution(action_logits=logits.masked_fill(~valid, NEVER))
        distribution.apply_masking(valid)
        return distribution

    def predict_values(self, obs: Observation) -> Tensor:
        """The critic's values; (B,)."""
        return self.critic(obs)


def build(arguments: PPOArguments, network: NetworkArguments, env: VecEnv, seed: int) -> StepLearner:
    """A PPO learner on these environments."""
    algorithm = MaskablePPO(
        ScorePolicy,
        env,
        learning_rate=declining(arguments.learning_rate),
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
    return StepLearner(algorithm, use_masking=False)  # the observation carries its mask
