import math

import numpy as np
import pytest

from training.evaluation.statistics import relative_difference


def test_the_difference_is_relative_to_the_baseline() -> None:
    difference, low, high = relative_difference(np.array([30.0, 45.0]), np.array([40.0, 60.0]))
    assert difference == pytest.approx(-0.25)
    assert (low, high) == pytest.approx((-0.25, -0.25))


def test_pairing_removes_what_seeds_have_in_common() -> None:
    generator = np.random.default_rng(1)
    baseline = generator.lognormal(3.0, 1.0, 20)  # seeds differ wildly …
    policy = baseline * generator.normal(0.8, 0.02, 20)  # … the policies by a steady fifth
    _, low, high = relative_difference(policy, baseline)
    assert -0.22 < low < high < -0.18


def test_the_interval_covers_the_true_difference_about_as_often_as_it_says() -> None:
    generator = np.random.default_rng(2)
    covered = 0
    for trial in range(100):
        baseline = generator.normal(100.0, 20.0, 20)
        policy = 0.9 * baseline + generator.normal(0.0, 10.0, 20)
        _, low, high = relative_difference(policy, baseline, seed=trial)
        covered += low <= -0.1 <= high
    assert 85 <= covered <= 100


def test_no_interval_is_claimed_for_one_pair_or_a_baseline_of_zero() -> None:
    assert all(math.isnan(value) for value in relative_difference(np.array([1.0]), np.array([2.0])))
    assert all(math.isnan(value) for value in relative_difference(np.ones(5), np.zeros(5)))


def test_values_that_do_not_pair_up_are_refused() -> None:
    with pytest.raises(ValueError, match="paired by seed"):
        relative_difference(np.ones(3), np.ones(4))
