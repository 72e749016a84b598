"""The algorithms on a problem whose results everyone knows, with a perceptron in the score network's place.

A training ends once it balances other poles than the test's for longer than is asked for; the steps are its limit.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from stable_baselines3.common.env_util import make_vec_env

from tests.training.algorithms.following import Until
from training.algorithms import dqn, ppo, sac
from training.algorithms.learner import StepLearner
from training.networks import NetworkArguments

EPISODES, PARALLEL = 20, 8
JUDGED, HELD_OUT = 1000, 500  # seeds of the episodes by which the test judges, and by which a training ends
LOOK_EVERY, ROOM = 1000, 20  # steps from one look to the next; how much longer than wanted is good enough


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def mean_length(learner: StepLearner, seed: int) -> float:
    """Of episodes that no training has seen, with the greedy policy; 500 at most."""
    env = make_vec_env("CartPole-v1", EPISODES, seed=seed)
    observed, lengths, going = env.reset(), np.zeros(EPISODES), np.ones(EPISODES, np.bool_)
    while going.any():
        actions, _ = learner.algorithm.predict(observed, deterministic=True)
        observed, _, finished, _ = env.step(actions)
        lengths += going
        going &= ~finished
    return float(lengths.mean())


@pytest.mark.parametrize(
    ("build", "arguments", "hidden", "timesteps", "wanted"),
    [
        (
            ppo.build,
            ppo.PPOArguments(batch_size=64, n_steps=32, n_epochs=20, discount=0.98, gae_lambda=0.8),
            32,
            60_000,
            475.0,
        ),
        (
            dqn.build,
            dqn.DQNArguments(batch_size=64, target_interval=50, learning_rate=2e-3),
            64,
            40_000,
            450.0,
        ),
        (
            sac.build,
            sac.SACArguments(
                batch_size=64,
                gradient_steps=8,
                target_rate=0.005,
                learning_rate=2e-3,
                target_entropy_ratio=0.9,
                discount=0.95,
            ),
            64,
            20_000,
            400.0,
        ),
    ],
    ids=["ppo", "dqn", "sac"],
)
def test_the_pole_is_balanced(build: Any, arguments: Any, hidden: int, timesteps: int, wanted: float) -> None:
    learner = build(arguments, NetworkArguments(hidden=hidden), make_vec_env("CartPole-v1", PARALLEL, seed=0), 0)
    Until(learner, lambda: mean_length(learner, HELD_OUT) >= wanted + ROOM, LOOK_EVERY).train(timesteps)
    assert mean_length(learner, JUDGED) >= wanted
