from dataclasses import replace

import numpy as np
import pytest
import torch

from tests.training.algorithms.following import Silent
from tests.training.populations import population_of
from training.algorithms import ppo
from training.algorithms.es import FIRST_HELD_OUT, SEEDS, held_out_seeds
from training.algorithms.learner import StepLearner
from training.env import EnvArguments, workload_source
from training.held_out import HeldOut, Look
from training.networks import NetworkArguments
from training.simulator.scheduling import SchedulerArguments
from training.vecenv import BatchedVecEnv
from training.workloads.selection import WorkloadArguments

POPULATION = population_of([(8000, 64, 0)] * 4, [(1000, 1, 0, 0)] * 4 + [(8000, 8, 0, 0)], durations=[600.0] * 5)
ENVIRONMENT = EnvArguments(nodes=4, pods=40, parallel=4, lowest_load=0.9, highest_load=0.9)
SOURCE = workload_source(ENVIRONMENT, POPULATION, WorkloadArguments())


def learner() -> StepLearner:
    env = BatchedVecEnv(ENVIRONMENT, SOURCE, 0.99, seed=1)
    return ppo.build(ppo.PPOArguments(n_steps=8, batch_size=16), NetworkArguments(hidden=8), env, 1)


def held_out(episodes: int = 4, **changes: object) -> HeldOut:
    return HeldOut(replace(ENVIRONMENT, **changes), SOURCE, SchedulerArguments(), seed=5, episodes=episodes)


def test_the_same_network_comes_to_the_same_however_often_it_is_looked_at() -> None:
    episodes, network = held_out(), learner().network
    first = episodes.look(network)
    assert episodes.look(network) == first
    assert held_out().look(network) == first
    assert first.mean_wait_seconds > 0


def test_the_return_is_minus_the_waiting_at_the_prices_that_are_set() -> None:
    """Half an hour of a pod's waiting costs 1; the potential, the same for every policy, is left out."""
    look = held_out(fragmentation_weight=0.0).look(learner().network)
    assert look.gain == pytest.approx(-look.mean_wait_seconds * ENVIRONMENT.pods / 1800.0, rel=1e-5)


def test_looking_leaves_the_training_as_it_is() -> None:
    alone, watched = learner(), learner()
    episodes = held_out()

    class Watching(Silent):
        def between_updates(self) -> None:
            episodes.look(watched.network)

    alone.train(96, Silent())
    torch.manual_seed(1)
    np.random.seed(1)
    watched = learner()
    watched.train(96, Watching())
    for one, other in zip(alone.network.parameters(), watched.network.parameters(), strict=True):
        assert torch.equal(one, other)


def test_what_is_above_a_limit_counts_before_the_return() -> None:
    kept, broken = Look(-9.0, 90.0, 0.05), Look(-1.0, 10.0, 0.2)
    assert broken.rank(None) > kept.rank(None)
    assert kept.rank(0.1) > broken.rank(0.1)
    assert Look(-2.0, 20.0, 0.09).rank(0.1) > kept.rank(0.1)  # both keep it


def test_the_episodes_are_neither_those_of_training_nor_of_judging_and_more_of_them_are_the_same_ones() -> None:
    seeds = held_out_seeds(3, 50)
    assert all(FIRST_HELD_OUT <= seed < SEEDS for seed in seeds)
    assert held_out_seeds(3, 7) == seeds[:7]
    assert held_out_seeds(4, 50) != seeds
