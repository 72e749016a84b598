from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from tests.training.algorithms.exact import SPREAD, ExactVecEnv
from tests.training.algorithms.following import Silent
from training.algorithms.replay_buffer import Batch
from training.algorithms.sac import SAC, SACArguments, build
from training.networks import NetworkArguments

OBSERVATION = {"candidates": torch.zeros(1, 3, 3), "mask": torch.tensor([[1.0, 1, 0]])}
QUARTER = [[0.0, float(np.log(3.0)), 50.0]]  # logits of 1/4 and 3/4; the third is no candidate
ENTROPY = float(-0.25 * np.log(0.25) - 0.75 * np.log(0.75))


class Fixed(nn.Module):
    """Numbers that stand in for a network's."""

    def __init__(self, numbers: list[list[float]]) -> None:
        super().__init__()
        self.numbers = nn.Parameter(torch.tensor(numbers))

    def forward(self, observation: Any) -> torch.Tensor:
        return self.numbers


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def sac_of(temperature: float = 0.5, ratio: float = 0.5) -> SAC:
    """A quarter and three quarters; critics that say (1, 2) and (3, 1), their copies (2, 4) and (3, 0)."""
    arguments = SACArguments(initial_temperature=temperature, target_entropy_ratio=ratio)
    algorithm = SAC(arguments, NetworkArguments(hidden=8), ExactVecEnv(SPREAD, 4, seed=0), seed=0)
    algorithm.policy.actor = Fixed(QUARTER)
    algorithm.policy.critics = nn.ModuleList([Fixed([[1.0, 2.0, 77.0]]), Fixed([[3.0, 1.0, 77.0]])])
    algorithm.policy.targets = nn.ModuleList([Fixed([[2.0, 4.0, 77.0]]), Fixed([[3.0, 0.0, 77.0]])])
    return algorithm


def test_the_value_of_a_state_is_an_exact_expectation_by_the_cautious_copy_plus_entropy() -> None:
    """1/4 * min(2, 3) + 3/4 * min(4, 0) = 0.5, and the entropy at half its weight."""
    value = sac_of().soft_value(OBSERVATION)
    torch.testing.assert_close(value.detach(), torch.tensor([0.5 + 0.5 * ENTROPY]))


def test_the_critics_are_drawn_to_what_came_next() -> None:
    """Target 1 + 0.9 * (0.5 + 0.5 H); both critics' values of action 1 are 2 and 1. Slopes 2 (value - target)."""
    algorithm = sac_of()
    batch = Batch(
        OBSERVATION,
        torch.tensor([1]),
        torch.tensor([1.0]),
        torch.tensor([0.9]),
        OBSERVATION,
        torch.ones(1),
        np.zeros(1, np.int64),
    )
    target = 1.0 + 0.9 * (0.5 + 0.5 * ENTROPY)
    loss = algorithm.critic_loss(batch)
    assert loss.item() == pytest.approx((2 - target) ** 2 + (1 - target) ** 2, rel=1e-5)
    loss.backward()
    first, second = (critic.numbers.grad for critic in algorithm.policy.critics)
    torch.testing.assert_close(first, torch.tensor([[0.0, 2 * (2 - target), 0.0]]))
    torch.testing.assert_close(second, torch.tensor([[0.0, 2 * (1 - target), 0.0]]))
    assert all(each.numbers.grad is None for each in algorithm.policy.targets)
    assert algorithm.policy.actor.numbers.grad is None
    assert algorithm.policy.log_temperature.grad is None


def test_the_actors_gradient_is_that_of_the_exact_expectation() -> None:
    """With both smaller values 1 the values cancel; d(-H)/dz1 = p1 (log p1 + H), at half its weight."""
    algorithm = sac_of()
    loss, _, entropy = algorithm.policy_losses(OBSERVATION)
    assert entropy.item() == pytest.approx(ENTROPY)
    assert loss.item() == pytest.approx(-0.5 * ENTROPY - 1.0)
    loss.backward()
    first = 0.5 * 0.25 * (np.log(0.25) + ENTROPY)
    gradient = algorithm.policy.actor.numbers.grad
    torch.testing.assert_close(gradient, torch.tensor([[first, -first, 0.0]], dtype=torch.float32))
    assert all(critic.numbers.grad is None for critic in algorithm.policy.critics)


@pytest.mark.parametrize(("ratio", "rises"), [(0.95, True), (0.5, False)])
def test_the_temperature_rises_while_the_policy_is_more_certain_than_it_is_told_to(ratio: float, rises: bool) -> None:
    """The wanted entropy is a share of log 2: two candidates, not three."""
    algorithm = sac_of(ratio=ratio)
    _, loss, _ = algorithm.policy_losses(OBSERVATION)
    loss.backward()
    gradient = algorithm.policy.log_temperature.grad
    assert gradient.item() == pytest.approx(ENTROPY - ratio * np.log(2.0), rel=1e-5)
    assert (gradient.item() < 0) == rises
    assert algorithm.policy.actor.numbers.grad is None


def test_what_is_no_candidate_is_never_taken() -> None:
    algorithm = sac_of()
    taken = torch.stack([algorithm.explore(OBSERVATION) for _ in range(2000)])
    np.testing.assert_allclose(np.bincount(taken[:, 0]) / 2000, [0.25, 0.75], atol=0.04)
    assert algorithm.policy._predict(OBSERVATION, deterministic=True).tolist() == [1]


def test_the_copies_follow_the_critics_slowly() -> None:
    arguments = SACArguments(learning_starts=8, batch_size=4, gradient_steps=1, target_rate=0.25)
    learner = build(arguments, NetworkArguments(hidden=8), ExactVecEnv(SPREAD, 4, seed=0), seed=0)
    policy = learner.algorithm.policy
    before = nn.utils.parameters_to_vector(policy.targets.parameters())
    learner.train(12, Silent())  # one gradient step
    after, critics = (nn.utils.parameters_to_vector(each.parameters()) for each in (policy.targets, policy.critics))
    assert not torch.equal(critics, before)
    torch.testing.assert_close(after, 0.75 * before + 0.25 * critics)
