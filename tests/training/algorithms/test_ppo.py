from collections.abc import Callable, Iterator

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tests.training.algorithms.exact import SPREAD, ExactVecEnv
from tests.training.algorithms.following import Silent
from tests.training.populations import population_of
from training.algorithms.learner import StepLearner
from training.algorithms.ppo import PPOArguments, ScorePolicy, build
from training.env import EnvArguments, workload_source
from training.networks import NetworkArguments
from training.vecenv import BatchedVecEnv
from training.workloads.selection import WorkloadArguments

# Pods of one core and pods of a whole node: whoever spreads the small ones leaves no room for the large.
POPULATION = population_of([(8000, 64, 0)] * 8, [(1000, 1, 0, 0)] * 8 + [(8000, 8, 0, 0)], durations=[600.0] * 9)
ENVIRONMENT = EnvArguments(
    nodes=8, pods=100, parallel=16, lowest_load=0.5, highest_load=0.5, waiting_unit_seconds=600.0
)
ARGUMENTS = PPOArguments(learning_rate=3e-3, n_steps=64, batch_size=256, discount=0.99)
NETWORK = NetworkArguments(hidden=16)
ROLLOUT = ENVIRONMENT.parallel * ARGUMENTS.n_steps


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Threads only get into each other's way with networks this small."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def environments(seed: int) -> BatchedVecEnv:
    source = workload_source(ENVIRONMENT, POPULATION, WorkloadArguments())
    return BatchedVecEnv(ENVIRONMENT, source, ARGUMENTS.discount, seed)


def learner(seed: int = 0) -> StepLearner:
    return build(ARGUMENTS, NETWORK, environments(seed), seed)


def new_policy() -> ScorePolicy:
    return learner().algorithm.policy


def tensors(observations: dict[str, np.ndarray]) -> dict[str, Tensor]:
    return {name: torch.from_numpy(array) for name, array in observations.items()}


def mean_wait_seconds(choose: Callable[[dict[str, np.ndarray]], np.ndarray]) -> float:
    env = environments(seed=1000)
    observations, waits = env.reset(), []
    while len(waits) < 4 * ENVIRONMENT.parallel:
        observations, _, _, infos = env.step(choose(observations))
        waits += [info["mean_wait_seconds"] for info in infos if info]
    return float(np.mean(waits))


def weights(of: StepLearner) -> np.ndarray:
    return nn.utils.parameters_to_vector(of.algorithm.policy.parameters()).detach().numpy()


@pytest.fixture(scope="module")
def observations() -> dict[str, np.ndarray]:
    """Observations of clusters with different numbers of candidates."""
    env = environments(seed=7)
    env.reset()
    for _ in range(30):
        env.step(env.batch.counts - 1)
    assert len(set(env.batch.counts)) > 1
    return env.observations()


def test_what_is_no_candidate_has_probability_0_and_is_never_chosen(observations):
    policy, given = new_policy(), tensors(observations)
    with torch.no_grad():
        for weights_of_layer in policy.actor.parameters():  # a policy that has learned to prefer something
            nn.init.normal_(weights_of_layer, std=1.0)
        probabilities = policy.get_distribution(given).distribution.probs
        chosen = [policy.forward(given)[0] for _ in range(200)]
    padding = given["mask"] == 0
    assert probabilities[padding].max() == 0.0
    torch.testing.assert_close(probabilities.sum(dim=1), torch.ones(len(probabilities)))
    for actions in chosen:
        assert torch.all(given["mask"].gather(1, actions[:, None]) == 1.0)


@torch.no_grad()
def test_the_best_score_is_chosen_deterministically(observations):
    policy, given = new_policy(), tensors(observations)
    actions, _, _ = policy.forward(given, deterministic=True)
    scores = policy.network(given["candidates"], given["mask"]).masked_fill(given["mask"] == 0, -np.inf)
    assert actions.tolist() == scores.argmax(dim=1).tolist()


@torch.no_grad()
def test_acting_and_learning_see_the_same_probabilities_and_values(observations):
    policy, given = new_policy(), tensors(observations)
    actions, values, log_probabilities = policy.forward(given)
    values_again, log_probabilities_again, entropies = policy.evaluate_actions(given, actions, given["mask"])
    torch.testing.assert_close(values, values_again)
    torch.testing.assert_close(log_probabilities, log_probabilities_again)
    assert torch.all(entropies <= torch.log(given["mask"].sum(dim=1)) + 1e-5)


def test_learning_beats_choosing_at_random():
    generator = np.random.default_rng(0)
    at_random = mean_wait_seconds(
        lambda seen: np.array([generator.choice(np.flatnonzero(mask)) for mask in seen["mask"]])
    )
    trained = learner()
    trained.train(8 * ROLLOUT, Silent())

    def best(seen: dict[str, np.ndarray]) -> np.ndarray:
        with torch.no_grad():
            return trained.algorithm.policy.forward(tensors(seen), deterministic=True)[0].numpy()

    assert mean_wait_seconds(best) < 0.2 * at_random  # 0.02 when this was written


def test_the_same_seed_learns_the_same_weights():
    learned = []
    for seed in (3, 3, 4):
        trained = learner(seed)  # seeds the global generators, which training then draws from
        trained.train(2 * ROLLOUT, Silent())
        learned.append(weights(trained))
    first, same, other = learned
    np.testing.assert_array_equal(first, same)
    assert not np.array_equal(first, other)


def test_training_goes_on_to_the_total():
    trained = learner()
    trained.train(ROLLOUT, Silent())
    assert trained.timesteps == ROLLOUT
    before = weights(trained)
    trained.train(3 * ROLLOUT, Silent())
    assert trained.timesteps == 3 * ROLLOUT
    assert not np.array_equal(weights(trained), before)


def test_advantages_are_those_of_generalised_estimation() -> None:
    """Discount and lambda 1/2, an episode ends after the second step: 6 = 4 + 8/2 - 2; 1 = 2 - 1; 1/2 + 1/4 * 1."""
    arguments = PPOArguments(n_steps=3, batch_size=3, discount=0.5, gae_lambda=0.5)
    memory = build(arguments, NETWORK, ExactVecEnv(SPREAD, 1, seed=0), 0).algorithm.rollout_buffer
    memory.rewards[:, 0] = [1.0, 2.0, 4.0]
    memory.values[:, 0] = [1.0, 1.0, 2.0]
    memory.episode_starts[:, 0] = [0.0, 0.0, 1.0]
    memory.compute_returns_and_advantage(torch.tensor([8.0]), np.array([False]))
    np.testing.assert_allclose(memory.advantages[:, 0], [0.75, 1.0, 6.0])
    np.testing.assert_allclose(memory.returns[:, 0], [1.75, 2.0, 8.0])


def test_padding_passes_no_gradient() -> None:
    """Of the log-probability of a choice between a quarter and three quarters: 1 - 1/4 and -3/4, and 0."""
    policy = build(ARGUMENTS, NETWORK, ExactVecEnv(SPREAD, 1, seed=0), 0).algorithm.policy
    logits = torch.tensor([[0.0, float(np.log(3.0)), 50.0, 50.0, 50.0]], requires_grad=True)
    observed = {"mask": torch.tensor([[1.0, 1.0, 0.0, 0.0, 0.0]])}
    policy.actor.forward = lambda _: logits
    distribution = policy.get_distribution(observed)
    distribution.log_prob(torch.tensor([0])).sum().backward(retain_graph=True)
    torch.testing.assert_close(logits.grad, torch.tensor([[0.75, -0.75, 0.0, 0.0, 0.0]]))
    logits.grad = None
    distribution.entropy().sum().backward()
    assert logits.grad[0, 2:].tolist() == [0.0, 0.0, 0.0]


def test_the_learning_rate_falls_to_a_tenth():
    schedule = learner().algorithm.lr_schedule
    assert schedule(1.0) == pytest.approx(ARGUMENTS.learning_rate)
    assert schedule(0.0) == pytest.approx(ARGUMENTS.learning_rate / 10)
