from dataclasses import replace

import numpy as np
import pytest
from sb3_contrib.common.maskable.utils import get_action_masks, is_masking_supported
from stable_baselines3.common.vec_env import VecMonitor

from tests.clusters import GIB, Node, typical_of
from tests.training.small_workloads import Pod, workload_of
from training.algorithms import ppo
from training.algorithms.learner import StepLearner
from training.algorithms.ppo import PPOArguments
from training.env import EnvArguments, PlacementEnv, workload_source
from training.networks import NetworkArguments
from training.rewards import RewardWeights
from training.vecenv import BatchedVecEnv
from training.workloads.selection import WorkloadArguments
from training.workloads.synthetic import generate_population

DISCOUNT = 0.97
MANY = 50
ARGUMENTS = EnvArguments(nodes=8, pods=30, parallel=MANY)
POPULATION = generate_population(np.random.default_rng(0))
SOURCE = workload_source(ARGUMENTS, POPULATION, WorkloadArguments())

# Six pods on two nodes of two devices each.
CROWD = [
    Pod(0, 50, 2000, GIB, 1, 400),
    Pod(1, 60, 2000, GIB, 1, 700),
    Pod(2, 70, 1000, GIB),
    Pod(3, 80, 4000, GIB, 1, 1000),
    Pod(4, 90, 4000, GIB, 2, 1000),
    Pod(5, 20, 1000, GIB),
]


@pytest.fixture
def many():
    return BatchedVecEnv(ARGUMENTS, SOURCE, DISCOUNT, seed=0)


def random_actions(masks: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    return np.array([generator.choice(np.flatnonzero(mask)) for mask in masks])


def test_fifty_environments_are_the_same_as_fifty_single_ones(many):
    singles = [PlacementEnv(ARGUMENTS, SOURCE, DISCOUNT) for _ in range(MANY)]
    for index in range(MANY):
        many.batch.reseed(index, 100 + index)
    observations = many.reset()
    alone = [env.reset(seed=100 + index)[0] for index, env in enumerate(singles)]
    generator, finished_episodes = np.random.default_rng(0), 0
    for _ in range(60):
        for index, observation in enumerate(alone):
            for name, array in observation.items():
                np.testing.assert_array_equal(observations[name][index], array)
        actions = random_actions(many.action_masks(), generator)
        observations, rewards, dones, infos = many.step(actions)
        for index, env in enumerate(singles):
            alone[index], reward, finished, _, info = env.step(actions[index])
            assert (rewards[index], dones[index]) == (reward, finished)
            if finished:
                finished_episodes += 1
                for name, array in infos[index]["terminal_observation"].items():
                    np.testing.assert_array_equal(array, alone[index][name])
                assert infos[index].items() >= info.items()
                alone[index], _ = env.reset()
    assert finished_episodes >= MANY


def test_what_a_step_returned_stays_as_it_was(many):
    first = many.reset()
    kept = {name: array.copy() for name, array in first.items()}
    many.step(np.zeros(MANY, np.int64))
    for name, array in kept.items():
        np.testing.assert_array_equal(first[name], array)


def test_a_finished_episode_reports_its_return_and_length(many):
    many.reset()
    generator = np.random.default_rng(1)
    returns, lengths, reported = np.zeros(MANY), np.zeros(MANY, int), 0
    for _ in range(60):
        _, rewards, dones, infos = many.step(random_actions(many.action_masks(), generator))
        returns += rewards
        lengths += 1
        for index in np.flatnonzero(dones):
            assert infos[index]["episode"]["r"] == pytest.approx(returns[index])
            assert infos[index]["episode"]["l"] == lengths[index]
            returns[index], lengths[index], reported = 0.0, 0, reported + 1
    assert reported >= MANY


def test_sb3_contrib_finds_the_masks(many):
    many.reset()
    assert is_masking_supported(many)
    masks = get_action_masks(many)
    assert masks.shape == (MANY, many.action_space.n)
    np.testing.assert_array_equal(masks, many.batch.mask > 0)
    np.testing.assert_array_equal(masks.sum(axis=1), many.batch.counts)


def test_wrappers_of_stable_baselines3_go_around_it(many):
    wrapped = VecMonitor(many)
    observations = wrapped.reset()
    assert wrapped.observation_space.contains({name: array[0] for name, array in observations.items()})
    wrapped.step(np.zeros(MANY, np.int64))


def test_the_same_seed_steps_alike():
    def course(seed: int) -> list:
        env = BatchedVecEnv(ARGUMENTS, SOURCE, DISCOUNT, seed)
        env.reset()
        return [env.step(np.zeros(MANY, np.int64))[1].tolist() for _ in range(20)]

    assert course(4) == course(4)
    assert course(4) != course(5)


def test_learners_adapt_the_price_of_broken_promises_between_their_rollouts():
    promising = replace(
        ARGUMENTS, nodes=3, parallel=8, lowest_load=3.0, highest_load=3.0, service_levels={0: 0.0}, violation_limit=0.0
    )
    env = BatchedVecEnv(promising, workload_source(promising, POPULATION, WorkloadArguments()), DISCOUNT, seed=0)
    arguments = PPOArguments(n_steps=40, batch_size=320, n_epochs=1)
    learner = ppo.build(arguments, NetworkArguments(hidden=4), env, seed=0)
    prices: list[float] = []

    class Watching(Follower):
        def between_updates(self) -> None:
            prices.append(float(env.batch.multiplier[0]))

        def stepped(self, finished: object) -> None:
            assert env.batch.multiplier[0] == prices[-1]  # not within a rollout

    learner.train(3 * 320, Watching())
    assert prices[0] == 0.0
    assert prices == sorted(prices)
    assert prices[-1] > 0.0


def test_a_policy_learns_to_keep_a_limit_that_nothing_else_asks_it_to_keep():
    # Where the second pod goes decides whether the fifth waits for 57 or for 46 seconds, and 50 are promised.
    typical = typical_of((1000, 1, 400, 0.5), (1000, 2, 1000, 0.5))
    crowd = workload_of([Node(8000, 8 * GIB, (1000, 1000))] * 2, CROWD, typical)
    limited = EnvArguments(
        nodes=2, pods=len(CROWD), parallel=16, fragmentation_weight=0.0, weights=RewardWeights(waiting=0.0),
        service_levels={0: 50.0}, violation_limit=0.03,
    )  # fmt: skip
    env = BatchedVecEnv(limited, lambda generator: crowd, 1.0, seed=0)
    arguments = PPOArguments(n_steps=32, batch_size=128, learning_rate=3e-3, discount=1.0)
    learner = ppo.build(arguments, NetworkArguments(), env, seed=0)
    assert share_of_broken_promises(env, learner) > 0.08
    learner.train(8_000, Follower())
    assert share_of_broken_promises(env, learner) <= 0.03


class Follower:
    """Nobody looks."""

    def between_updates(self) -> None:
        pass

    def stepped(self, finished: object) -> None:
        pass

    def collected(self) -> None:
        pass


def share_of_broken_promises(env: BatchedVecEnv, learner: StepLearner) -> float:
    """Of the episodes that end within 60 steps, played by chance as the policy weighs the candidates."""
    observations, shares = env.reset(), []
    for _ in range(60):
        actions, _ = learner.algorithm.predict(observations, action_masks=env.action_masks())
        observations, _, _, infos = env.step(actions)
        shares += [info["violations"] for info in infos if info]
    return float(np.mean(shares))
