"""Every algorithm finds what dynamic programming finds, on a placement problem that is solved exactly.

As what a policy is worth there is known exactly, a training ends once it is close enough; the steps are its limit.
"""

from collections.abc import Iterator
from copy import deepcopy
from typing import Any

import numpy as np
import pytest
import torch

from tests.training.algorithms.exact import END, SPREAD, TRADE, ExactVecEnv, Problem, SampledObjective
from tests.training.algorithms.following import Silent, Until
from training.algorithms import dqn, es, ppo, sac
from training.algorithms.approximators import ActionScores
from training.algorithms.learner import StepLearner
from training.networks import NetworkArguments

NETWORK = NetworkArguments(hidden=16)
ENOUGH, CLOSE = 0.99, 0.995  # of the optimum: what is asked for, and at what a training ends
LOOK_EVERY = 1000  # steps
PLAIN = {"double": False, "dueling": False, "n_steps": 1, "prioritized": False}


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def share_of_optimum(problem: Problem, scores: ActionScores) -> float:
    return problem.value_of(scores) / problem.optimum()


def train(learner: StepLearner, timesteps: int, problem: Problem, scores: ActionScores) -> None:
    Until(learner, lambda: share_of_optimum(problem, scores) >= CLOSE, LOOK_EVERY).train(timesteps)


def test_the_optimum_of_a_problem_that_can_be_solved_by_hand() -> None:
    """One node of 2 and one of 1; two pods, half of them of 1 (worth 1), half of 2 (worth 3).

    The first is a 2: 3, then a 1 fits: 3.5. The first is a 1: kept on the small node the second always fits, 1 + 2 = 3;
    on the large one only a second 1 does, 1.5. Optimum 3.25, at random 2.875.
    """
    kinds = tuple(_kind(size, worth) for size, worth in ((1, 1.0), (2, 3.0)))
    problem = Problem(nodes=((2, 0), (1, 0)), kinds=kinds, pods=2)
    assert problem.optimum() == pytest.approx(3.25)
    assert problem.at_random() == pytest.approx(2.875)


def _kind(size: int, worth: float) -> Any:
    return SPREAD.kinds[0]._replace(request=(size, 0), reward=worth, share=0.5)


def test_playing_a_problem_agrees_with_its_tables() -> None:
    """Episodes at random come to what the enumeration says, in the environment and in the sampled objective."""
    env, generator = ExactVecEnv(SPREAD, 50, seed=0), np.random.default_rng(0)
    observed, returns, running = env.reset(), [], np.zeros(50)
    while len(returns) < 4000:
        counts = observed["mask"].sum(axis=1)
        observed, rewards, finished, _ = env.step((generator.random(50) * counts).astype(np.int64))
        running += rewards
        returns += running[finished].tolist()
        running[finished] = 0.0
    assert np.mean(returns) == pytest.approx(SPREAD.at_random(), rel=0.02)
    first = np.zeros(len(SPREAD.decisions), np.int64)
    exact = SPREAD._expected(lambda worth, decision: worth[first[decision]])
    assert SPREAD.mean_return(first, range(20), 1000) == pytest.approx(exact, rel=0.01)
    assert (SPREAD.after[:, 0] != END).all()


# One seed each: whether other seeds do as well is measured (docs/algorithms.md), here it would take minutes.
@pytest.mark.parametrize(("problem", "seed"), [(SPREAD, 0), (TRADE, 0)], ids=["spread", "trade"])
def test_ppo(problem: Problem, seed: int) -> None:
    arguments = ppo.PPOArguments(batch_size=256, learning_rate=3e-3, entropy_coefficient=0.01)
    learner = ppo.build(arguments, NETWORK, ExactVecEnv(problem, 16, seed), seed)
    scores = learner.algorithm.policy.actor
    train(learner, 60 * 1024 if problem is TRADE else 16 * 1024, problem, scores)
    assert share_of_optimum(problem, scores) >= ENOUGH


@pytest.mark.parametrize(
    "switches", [{}, PLAIN, {"exploration": "boltzmann"}], ids=["everything", "plain", "boltzmann"]
)
def test_dqn(switches: dict[str, Any]) -> None:
    seed = 0
    arguments = dqn.DQNArguments(batch_size=64, gradient_steps=1, **switches)
    learner = dqn.build(arguments, NETWORK, ExactVecEnv(SPREAD, 8, seed), seed)
    scores = learner.algorithm.policy.values.scores
    train(learner, 16_000, SPREAD, scores)
    assert share_of_optimum(SPREAD, scores) >= ENOUGH


def test_sac() -> None:
    seed = 1
    arguments = sac.SACArguments(batch_size=64, gradient_steps=1)
    learner = sac.build(arguments, NETWORK, ExactVecEnv(SPREAD, 8, seed), seed)
    scores = learner.algorithm.policy.actor
    train(learner, 12_000, SPREAD, scores)
    assert share_of_optimum(SPREAD, scores) >= ENOUGH


def test_es() -> None:
    seed = 0
    env = ExactVecEnv(SPREAD, 1, seed)
    torch.manual_seed(seed)
    scores = ActionScores(env.observation_space, env.action_space, NETWORK)
    arguments = es.ESArguments(sigma=0.1, learning_rate=0.05, episodes=2)
    learner = es.EvolutionLearner(arguments, scores, SampledObjective(SPREAD, deepcopy(scores)), 1, seed)
    learner.train(50, Silent())
    _ = learner.network  # brings the best parameters into it
    assert share_of_optimum(SPREAD, scores) >= ENOUGH
