from collections.abc import Callable, Iterator

import numpy as np
import pytest
import torch
from sb3_contrib import MaskablePPO
from stable_baselines3.common.callbacks import BaseCallback
from torch import Tensor, nn

from tests.training.populations import population_of
from training.algorithms.ppo import PPOArguments, build, train, without_padding
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


class Silent(BaseCallback):
    def _on_step(self) -> bool:
        return True


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


def learner(seed: int = 0) -> MaskablePPO:
    return build(ARGUMENTS, NETWORK, environments(seed), seed)


def tensors(observations: dict[str, np.ndarray]) -> dict[str, Tensor]:
    return {name: torch.from_numpy(array) for name, array in observations.items()}


def mean_wait_seconds(choose: Callable[[dict[str, np.ndarray]], np.ndarray]) -> float:
    env = environments(seed=1000)
    observations, waits = env.reset(), []
    while len(waits) < 4 * ENVIRONMENT.parallel:
        observations, _, _, infos = env.step(choose(observations))
        waits += [info["mean_wait_seconds"] for info in infos if info]
    return float(np.mean(waits))


def weights(of: MaskablePPO) -> np.ndarray:
    return nn.utils.parameters_to_vector(of.policy.parameters()).detach().numpy()


@pytest.fixture(scope="module")
def observations() -> dict[str, np.ndarray]:
    """Observations of clusters with different numbers of candidates."""
    env = environments(seed=7)
    env.reset()
    for _ in range(30):
        env.step(env.batch.counts - 1)
    assert len(set(env.batch.counts)) > 1
    return env.observations()


def test_padding_is_cut_to_the_longest_list(observations):
    longest = int(observations["mask"].sum(axis=1).max())
    assert longest < observations["mask"].shape[1]
    candidates, mask = without_padding(tensors(observations))
    np.testing.assert_array_equal(candidates, observations["candidates"][:, :longest])
    np.testing.assert_array_equal(mask, observations["mask"][:, :longest])


def test_one_place_is_left_where_there_is_no_candidate_at_all():
    empty = {"candidates": torch.zeros(2, 5, 3), "mask": torch.zeros(2, 5)}
    candidates, mask = without_padding(empty)
    assert (candidates.shape, mask.shape) == ((2, 1, 3), (2, 1))


def test_what_is_no_candidate_has_probability_0_and_is_never_chosen(observations):
    policy, given = learner().policy, tensors(observations)
    with torch.no_grad():
        for weights_of_layer in policy.score_network.parameters():  # a policy that has learned to prefer something
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
    policy, given = learner().policy, tensors(observations)
    actions, _, _ = policy.forward(given, deterministic=True)
    scores = policy.score_network(given["candidates"], given["mask"]).masked_fill(given["mask"] == 0, -np.inf)
    assert actions.tolist() == scores.argmax(dim=1).tolist()


@torch.no_grad()
def test_acting_and_learning_see_the_same_probabilities_and_values(observations):
    policy, given = learner().policy, tensors(observations)
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
    train(trained, 8 * ROLLOUT, Silent())

    def best(seen: dict[str, np.ndarray]) -> np.ndarray:
        with torch.no_grad():
            return trained.policy.forward(tensors(seen), deterministic=True)[0].numpy()

    assert mean_wait_seconds(best) < 0.2 * at_random  # 0.02 when this was written


def test_the_same_seed_learns_the_same_weights():
    learned = []
    for seed in (3, 3, 4):
        trained = learner(seed)  # seeds the global generators, which training then draws from
        train(trained, 2 * ROLLOUT, Silent())
        learned.append(weights(trained))
    first, same, other = learned
    np.testing.assert_array_equal(first, same)
    assert not np.array_equal(first, other)


def test_training_goes_on_to_the_total_and_returns_the_network():
    trained = learner()
    network = train(trained, ROLLOUT, Silent())
    assert trained.num_timesteps == ROLLOUT
    assert network is trained.policy.score_network
    before = weights(trained)
    train(trained, 3 * ROLLOUT, Silent())
    assert trained.num_timesteps == 3 * ROLLOUT
    assert not np.array_equal(weights(trained), before)


def test_the_learning_rate_falls_to_a_tenth():
    schedule = learner().lr_schedule
    assert schedule(1.0) == pytest.approx(ARGUMENTS.learning_rate)
    assert schedule(0.0) == pytest.approx(ARGUMENTS.learning_rate / 10)
