from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from tests.training.algorithms.exact import SPREAD, ExactVecEnv
from tests.training.algorithms.following import Silent
from training.algorithms.dqn import DQN, DQNArguments, build, softmax_of_entropy
from training.algorithms.replay_buffer import Batch, PrioritizedReplayBuffer, ReplayBuffer
from training.env import EnvArguments
from training.networks import NetworkArguments

NETWORK = NetworkArguments(hidden=8)
OBSERVATION = {"candidates": torch.zeros(2, 4, 3), "mask": torch.tensor([[1.0, 1, 1, 0], [1, 1, 0, 0]])}


class Fixed(nn.Module):
    """Values that stand in for a network's."""

    def __init__(self, values: list[list[float]]) -> None:
        super().__init__()
        self.values = nn.Parameter(torch.tensor(values))

    def forward(self, observation: Any) -> torch.Tensor:
        return self.values


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def dqn_of(**arguments: Any) -> DQN:
    return DQN(DQNArguments(**arguments), NETWORK, ExactVecEnv(SPREAD, 4, seed=0), seed=0)


def with_values(values: list[list[float]], target: list[list[float]], **arguments: Any) -> DQN:
    algorithm = dqn_of(**arguments)
    algorithm.policy.values, algorithm.policy.target = Fixed(values), Fixed(target)
    return algorithm


# The last action of the first state and the last two of the second are none; the highest numbers stand there.
VALUES, TARGET = [[1.0, 5.0, 2.0, 99.0], [3.0, 4.0, 99.0, 99.0]], [[7.0, 1.0, 3.0, 88.0], [6.0, -2.0, 88.0, 88.0]]


def test_double_learning_values_the_networks_choice_by_the_target() -> None:
    algorithm = with_values(VALUES, TARGET, double=True)
    assert algorithm.next_values(OBSERVATION).tolist() == [1.0, -2.0]


def test_without_double_learning_the_target_both_chooses_and_values() -> None:
    algorithm = with_values(VALUES, TARGET, double=False)
    assert algorithm.next_values(OBSERVATION).tolist() == [7.0, 6.0]


def test_errors_are_values_less_returns_and_discounted_next_values() -> None:
    """5 - (0.5 + 0.9 * 1) = 3.6; the second state is the last: 3 - 2 = 1. Only what was done is learned."""
    algorithm = with_values(VALUES, TARGET, double=True)
    batch = Batch(
        OBSERVATION,
        torch.tensor([1, 0]),
        torch.tensor([0.5, 2.0]),
        torch.tensor([0.9, 0.0]),
        OBSERVATION,
        torch.ones(2),
        np.arange(2),
    )
    errors = algorithm.errors(batch)
    torch.testing.assert_close(errors.detach(), torch.tensor([3.6, 1.0]))
    (errors**2 / 2).sum().backward()
    gradient = algorithm.policy.values.values.grad
    torch.testing.assert_close(gradient, torch.tensor([[0.0, 3.6, 0.0, 0.0], [1.0, 0.0, 0.0, 0.0]]))
    assert algorithm.policy.target.values.grad is None


def test_exploring_never_takes_what_is_no_candidate() -> None:
    for exploration in ("epsilon", "boltzmann"):
        algorithm = with_values(VALUES, TARGET, exploration=exploration, exploration_fraction=0.5)
        algorithm._total_timesteps = 100
        for algorithm.num_timesteps in (0, 25, 99):
            taken = torch.stack([algorithm.explore(OBSERVATION) for _ in range(200)])
            assert set(taken[:, 0].tolist()) <= {0, 1, 2}
            assert set(taken[:, 1].tolist()) <= {0, 1}


def test_exploration_falls_from_chance_to_mostly_the_best() -> None:
    algorithm = with_values(VALUES, TARGET, exploration_fraction=0.5, exploration_final=0.1)
    algorithm._total_timesteps = 100
    rates = {}
    for algorithm.num_timesteps in (0, 25, 50, 100):
        taken = torch.stack([algorithm.explore(OBSERVATION) for _ in range(3000)])
        rates[algorithm.num_timesteps] = float((taken[:, 0] == 1).float().mean())
    # The best of three is also taken by chance: 1 - rate + rate / 3, with rates 1, 0.55, 0.1, 0.1.
    np.testing.assert_allclose(list(rates.values()), [1 / 3, 0.6333, 0.9333, 0.9333], atol=0.03)


def test_the_softmax_has_the_entropy_that_is_asked_for_whatever_the_scale() -> None:
    torch.manual_seed(0)
    values, valid = torch.randn(50, 6), torch.arange(6) < torch.randint(2, 7, (50, 1))
    for scale in (0.01, 1.0, 1000.0):
        for share in (0.9, 0.5, 0.1):
            chances = softmax_of_entropy(scale * values, valid, share)
            assert chances[~valid].max() == 0.0
            entropy = -torch.special.xlogy(chances, chances).sum(dim=1)
            torch.testing.assert_close(entropy, share * valid.sum(dim=1).log(), atol=2e-3, rtol=0)
            best = (scale * values).masked_fill(~valid, -torch.inf).argmax(dim=1)
            assert torch.equal(chances.argmax(dim=1), best)


def test_a_softmax_over_equals_or_a_single_candidate_is_no_trouble() -> None:
    chances = softmax_of_entropy(torch.ones(2, 3), torch.tensor([[True, True, False], [True, False, False]]), 0.2)
    torch.testing.assert_close(chances, torch.tensor([[0.5, 0.5, 0.0], [1.0, 0.0, 0.0]]))


def test_the_switches_are_what_they_say() -> None:
    assert type(dqn_of(prioritized=True).replay_buffer) is PrioritizedReplayBuffer
    assert type(dqn_of(prioritized=False).replay_buffer) is ReplayBuffer
    assert dqn_of(n_steps=5).replay_buffer.n_steps == 5
    assert dqn_of(dueling=True).policy.values.state is not None
    assert dqn_of(dueling=False).policy.values.state is None


def test_the_target_is_an_older_copy() -> None:
    learner = build(
        DQNArguments(learning_starts=40, batch_size=8, gradient_steps=1, target_interval=10),
        NETWORK,
        ExactVecEnv(SPREAD, 4, seed=0),
        seed=0,
    )
    policy = learner.algorithm.policy

    def differs() -> bool:
        pairs = zip(policy.values.parameters(), policy.target.parameters(), strict=True)
        return any(not torch.equal(one, other) for one, other in pairs)

    before = nn.utils.parameters_to_vector(policy.target.parameters())
    learner.train(40 + 4 * 9, Silent())  # nine gradient steps
    assert differs()
    assert torch.equal(nn.utils.parameters_to_vector(policy.target.parameters()), before)
    learner.train(40 + 4 * 10, Silent())
    assert not differs()


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (DQNArguments(capacity=200, n_steps=3), r"algorithm\.capacity=200 holds no 3 steps and one more"),
        (DQNArguments(capacity=900, learning_starts=1000), r"algorithm\.learning_starts=1000 is above"),
    ],
)
def test_a_memory_that_is_too_small_is_refused(arguments: DQNArguments, complaint: str) -> None:
    with pytest.raises(AssertionError, match=complaint):
        raise AssertionError("".join(arguments.contradictions(EnvArguments(parallel=64))))
