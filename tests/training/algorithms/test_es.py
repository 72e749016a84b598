from collections.abc import Sequence
from copy import deepcopy
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from tests.training.algorithms.following import Interrupter, Silent
from training.algorithms.es import (
    FIRST_HELD_OUT,
    SEEDS,
    ESArguments,
    EvolutionLearner,
    EvolutionStrategy,
    centred_ranks,
    evaluation,
)

WANTED = np.array([0.5, -1.0, 2.0], np.float32)


class Bowl:
    """Fitness is minus the squared distance from `WANTED`, and an offset per seed that everyone shares."""

    def __init__(self) -> None:
        self.seeds: list[Sequence[int]] = []

    def __call__(self, parameters: np.ndarray, seeds: Sequence[int]) -> np.ndarray:
        self.seeds.append(seeds)
        return -((parameters - WANTED) ** 2).sum(axis=1).astype(np.float64) + 1e6 * np.mean(np.sin(seeds))


def learner(objective: Bowl, seed: int = 0, keeps_start: bool = False, **arguments: float) -> EvolutionLearner:
    network = nn.Linear(3, 1, bias=False)
    nn.init.zeros_(network.weight)
    settings = ESArguments(**({"pairs": 4, "learning_rate": 0.1, "sigma": 0.1} | arguments))
    return EvolutionLearner(settings, network, objective, 10, seed, keeps_start=keeps_start)


def test_ranks_are_centred_and_equals_share_theirs() -> None:
    np.testing.assert_array_equal(centred_ranks(np.array([5.0, -1e9, 7.0])), [0.0, -0.5, 0.5])
    np.testing.assert_array_equal(centred_ranks(np.zeros(4)), np.zeros(4))


def test_a_population_is_made_of_mirrored_pairs_of_the_right_spread() -> None:
    start = np.array([1.0, -2.0], np.float32)
    population = EvolutionStrategy(start, ESArguments(pairs=4000, sigma=0.3), 0).ask()
    np.testing.assert_allclose(population[0::2] + population[1::2], np.broadcast_to(2 * start, (4000, 2)), atol=1e-6)
    np.testing.assert_allclose((population[0::2] - start).std(axis=0), 0.3, rtol=0.05)


def test_the_slope_is_the_rank_weighted_mean_of_the_directions() -> None:
    """Two pairs, ranks 1/2, -1/2, -1/6, 1/6: (1 e1 - 1/3 e2) / (4 sigma); Adam's first step is the sign of it."""
    arguments = ESArguments(pairs=2, sigma=0.5, learning_rate=0.01)
    strategy = EvolutionStrategy(np.zeros(3, np.float32), arguments, 3)
    population = strategy.ask()
    first, second = population[0] / 0.5, population[2] / 0.5
    strategy.tell(np.array([9.0, -3.0, 0.0, 4.0]))
    wanted = (first - second / 3) / (4 * 0.5)
    np.testing.assert_allclose(strategy._mean.grad.numpy(), wanted, rtol=1e-5)
    np.testing.assert_allclose(strategy.mean, 0.01 * np.sign(wanted), rtol=1e-4)


def test_where_all_do_equally_well_nothing_moves_but_by_decay() -> None:
    start = np.array([1.0, -2.0], np.float32)
    still = EvolutionStrategy(start, ESArguments(pairs=3), 0)
    still.tell(np.ones(6))
    np.testing.assert_array_equal(still.mean, start)
    shrinking = EvolutionStrategy(start, ESArguments(pairs=3, learning_rate=0.1, weight_decay=0.5), 0)
    shrinking.tell(np.ones(6))
    np.testing.assert_allclose(shrinking.mean, 0.95 * start)


def test_the_top_of_a_bowl_is_found_whatever_its_height() -> None:
    trained = learner(Bowl())
    trained.train(10 * 150, Silent())
    np.testing.assert_allclose(trained.strategy.mean, WANTED, atol=0.1)
    np.testing.assert_allclose(trained.network.weight.detach().numpy()[0], WANTED, atol=0.1)


def test_a_generation_plays_the_same_episodes_and_the_best_is_chosen_by_others() -> None:
    objective = Bowl()
    learner(objective, episodes=3, held_out_interval=2, held_out_episodes=5).train(40, Silent())
    generations = [objective.seeds[start : start + 4] for start in (0, 4, 13, 17)]  # and 5 to choose by, one by one
    assert all(len(seeds) == 3 and max(seeds) < FIRST_HELD_OUT for each in generations for seeds in each)
    assert all(seeds == each[0] for each in generations for seeds in each)
    assert len({tuple(each[0]) for each in generations}) == 4
    held_out = [[seed for seeds in objective.seeds[start : start + 5] for seed in seeds] for start in (8, 21)]
    assert held_out[0] == held_out[1]
    assert len(set(held_out[0])) == 5
    assert all(FIRST_HELD_OUT <= seed < SEEDS for seed in held_out[0])


def test_each_pair_may_play_episodes_of_its_own() -> None:
    objective = Bowl()
    trained = learner(objective, episodes=2, common_episodes=False, held_out_interval=100)
    trained.train(10 * 150, Silent())
    generation = objective.seeds[:4]
    assert len({tuple(seeds) for seeds in generation}) == 4
    # What an episode adds for everyone differs by millions between pairs; only the difference within a pair counts.
    np.testing.assert_allclose(trained.strategy.mean, WANTED, atol=0.15)


def test_the_step_declines_linearly() -> None:
    trained = learner(Bowl(), final_learning_rate=0.5)
    trained.train(10 * 10, Silent())
    assert trained.strategy.learning_rate == pytest.approx(0.1 * (1 - 0.5 * 9 / 10))


def test_the_best_is_kept_when_what_follows_is_worse() -> None:
    class Once(Bowl):
        """Counts what it judges; the third judged is the best."""

        judged = 0

        def __call__(self, parameters: np.ndarray, seeds: Sequence[int]) -> np.ndarray:
            if len(parameters) > 1:
                return super().__call__(parameters, seeds)
            self.judged += 1
            return np.array([10.0 if self.judged == 3 else -self.judged])

    trained = learner(Once(), held_out_interval=1, held_out_episodes=1)
    trained.train(30, Silent())
    best = trained.strategy.mean
    trained.train(80, Silent())
    np.testing.assert_array_equal(trained.best, best)
    assert trained.best_fitness == 10.0
    assert not np.array_equal(trained.strategy.mean, best)


def test_the_numbers_do_not_depend_on_how_many_processes_play() -> None:
    parameters = np.random.default_rng(0).random((7, 3), np.float32)
    pairs, seeds = np.array_split(parameters, 4), [[3, 4], [5], [3, 4], [6]]
    with evaluation(Bowl(), 1) as alone, evaluation(Bowl(), 2) as together:
        first, second = alone(pairs, seeds), together(pairs, seeds)
    assert first.shape == (7,)
    np.testing.assert_array_equal(first, second)
    np.testing.assert_array_equal(first[:2], np.concatenate([Bowl()(each[None], [3, 4]) for each in parameters[:2]]))


def test_an_error_of_a_worker_is_heard_of() -> None:
    with pytest.raises(ValueError, match="operands could not be broadcast"), evaluation(Bowl(), 2) as evaluate:
        evaluate([np.zeros((4, 2), np.float32)], [[1]])


def test_interrupted_and_resumed_it_goes_the_same_way(tmp_path: Path) -> None:
    whole = learner(Bowl(), held_out_interval=3)
    whole.train(200, Silent())

    interrupted = learner(Bowl(), held_out_interval=3)

    def interrupt(moment: int) -> None:
        torch.save(interrupted.state(), tmp_path / "state.pt")
        if moment == 7:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted.train(200, Interrupter(interrupt))
    resumed = learner(Bowl(), held_out_interval=3)
    resumed.restore(torch.load(tmp_path / "state.pt", weights_only=True))
    assert resumed.timesteps == 70
    resumed.train(200, Silent())
    np.testing.assert_array_equal(resumed.strategy.mean, whole.strategy.mean)
    np.testing.assert_array_equal(resumed.best, whole.best)
    assert resumed.best_fitness == whole.best_fitness


def test_the_same_seed_searches_the_same_way_and_another_differently() -> None:
    trained = [learner(Bowl(), seed) for seed in (1, 1, 2)]
    for each in trained:
        each.train(50, Silent())
    first, same, other = (each.strategy.mean for each in deepcopy(trained))
    np.testing.assert_array_equal(first, same)
    assert not np.array_equal(first, other)


def test_a_start_that_nothing_betters_is_kept_where_that_is_asked_for() -> None:
    for keeps in (False, True):
        searching = learner(Bowl(), keeps_start=keeps, pairs=1, learning_rate=0.9)
        searching.strategy = EvolutionStrategy(WANTED, ESArguments(pairs=1, learning_rate=0.9), 0)
        searching.train(10, Silent())
        assert np.array_equal(searching.best, WANTED) == keeps
