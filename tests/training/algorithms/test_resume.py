"""Interrupted at any moment between two updates, restored from a file and gone on with: the same weights."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from stable_baselines3.common.env_util import make_vec_env

from tests.training.algorithms.following import Interrupter, Silent
from tests.training.populations import population_of
from training.algorithms import dqn, ppo, sac
from training.algorithms.learner import StepLearner
from training.env import EnvArguments, workload_source
from training.networks import NetworkArguments
from training.vecenv import BatchedVecEnv
from training.workloads.selection import WorkloadArguments

POPULATION = population_of([(8000, 64, 0)] * 4, [(1000, 1, 0, 0)] * 4 + [(8000, 8, 0, 0)], durations=[600.0] * 5)
ENVIRONMENT = EnvArguments(nodes=4, pods=30, parallel=4, lowest_load=0.7, highest_load=0.7)
SMALL = {"capacity": 160, "learning_starts": 40, "batch_size": 16, "gradient_steps": 1}  # it goes round twice
ALGORITHMS: dict[str, tuple[Callable[..., StepLearner], Any]] = {
    "ppo": (ppo.build, ppo.PPOArguments(n_steps=8, batch_size=16)),
    "dqn": (dqn.build, dqn.DQNArguments(**SMALL, target_interval=7)),
    "dqn-plain": (
        dqn.build,
        dqn.DQNArguments(**SMALL, double=False, dueling=False, n_steps=1, prioritized=False, exploration="boltzmann"),
    ),
    "sac": (sac.build, sac.SACArguments(**SMALL)),
}
TOTAL = 384


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def learner(name: str) -> StepLearner:
    build, arguments = ALGORITHMS[name]
    source = workload_source(ENVIRONMENT, POPULATION, WorkloadArguments())
    env = BatchedVecEnv(ENVIRONMENT, source, arguments.discount, seed=1, stagger=True)
    return build(arguments, NetworkArguments(hidden=8), env, 1)


def differences(one: Any, other: Any, path: str = "") -> list[str]:
    """Where two states differ."""
    if isinstance(one, dict):
        assert one.keys() == other.keys(), path
        return [line for key in one for line in differences(one[key], other[key], f"{path}/{key}")]
    if isinstance(one, list | tuple):
        assert len(one) == len(other), path
        return [
            line
            for index, pair in enumerate(zip(one, other, strict=True))
            for line in differences(*pair, f"{path}/{index}")
        ]
    equal = torch.allclose(one, other, 0, 0, equal_nan=True) if isinstance(one, torch.Tensor) else one == other
    return [] if equal else [path]


@pytest.mark.parametrize("name", ALGORITHMS)
def test_a_resumed_training_ends_where_an_uninterrupted_one_does(name: str, tmp_path: Path) -> None:
    whole = learner(name)
    whole.train(TOTAL, Silent())

    interrupted = learner(name)
    moments = TOTAL // interrupted.algorithm.n_envs // (8 if name == "ppo" else 1)

    def interrupt(moment: int) -> None:
        if moment == 2 * moments // 3:
            torch.save(interrupted.state(), tmp_path / "state.pt")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted.train(TOTAL, Interrupter(interrupt))

    resumed = learner(name)
    torch.rand(3)  # whatever else was drawn in the meantime
    resumed.restore(torch.load(tmp_path / "state.pt", weights_only=True))
    assert 0 < resumed.timesteps < TOTAL
    resumed.train(TOTAL, Silent())
    assert differences(resumed.state(), whole.state()) == []


def test_only_environments_that_can_be_saved_can_be_interrupted() -> None:
    build, arguments = ALGORITHMS["ppo"]
    with pytest.raises(TypeError, match="only a run on a BatchedVecEnv can be interrupted, this one is on DummyVecEnv"):
        build(arguments, NetworkArguments(hidden=8), make_vec_env("CartPole-v1", 2), 0).state()
