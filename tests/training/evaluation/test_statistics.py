import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from training.evaluation.statistics import (
    Comparison,
    compare_metrics,
    correct,
    difference_intervals,
    holm,
    interquartile_mean,
    mean_intervals,
    probability_of_improvement,
    signed_rank_test,
)
from training.workloads.base import FloatArray

TRIALS = 200
SEEDS = 20


def relative(policy: FloatArray, baseline: FloatArray, seed: int = 0) -> tuple[float, float, float]:
    return tuple(difference_intervals(policy[None], baseline[None], seed)[1, 0])


def compared(policy: list[float], baseline: list[float], lower_is_better: bool = True) -> Comparison:
    values = np.array([policy]), np.array([baseline])
    return compare_metrics("new", "old", 0.9, ["mean_wait_seconds"], *values, [lower_is_better])[0]


def test_the_difference_is_that_of_the_means() -> None:
    entry = compared([30.0, 45.0], [40.0, 60.0])
    assert entry.difference == -12.5
    assert -15.0 <= entry.difference_low <= entry.difference <= entry.difference_high <= -10.0


def test_the_relative_difference_is_relative_to_the_baseline() -> None:
    assert relative(np.array([30.0, 45.0]), np.array([40.0, 60.0])) == pytest.approx((-0.25, -0.25, -0.25))


def test_pairing_removes_what_seeds_have_in_common() -> None:
    generator = np.random.default_rng(1)
    baseline = generator.lognormal(3.0, 1.0, SEEDS)  # seeds differ wildly …
    policy = baseline * generator.normal(0.8, 0.02, SEEDS)  # … the policies by a steady fifth
    _, low, high = relative(policy, baseline)
    assert -0.22 < low < high < -0.18


def test_intervals_cover_the_true_differences_about_as_often_as_they_say() -> None:
    generator = np.random.default_rng(2)
    baseline = generator.normal(100.0, 20.0, (TRIALS, SEEDS))
    policy = 0.9 * baseline + generator.normal(0.0, 10.0, (TRIALS, SEEDS))
    (_, low, high), (_, relative_low, relative_high) = difference_intervals(policy, baseline).transpose(0, 2, 1)
    for covered in ((low <= -10.0) & (high >= -10.0), (relative_low <= -0.1) & (relative_high >= -0.1)):
        assert 0.88 * TRIALS <= covered.sum() <= 0.98 * TRIALS  # percentile intervals of 20 are a little short


def test_intervals_of_means_cover_them_about_as_often_as_they_say() -> None:
    _, low, high = mean_intervals(np.random.default_rng(3).exponential(5.0, (TRIALS, SEEDS))).T
    assert 0.85 * TRIALS <= ((low <= 5.0) & (high >= 5.0)).sum() <= 0.98 * TRIALS


def test_a_metric_has_the_same_interval_alone_and_among_others() -> None:
    generator = np.random.default_rng(4)
    policy, baseline = generator.normal(10.0, 1.0, (2, 5, SEEDS))
    policy[2, 3] = math.nan
    together = difference_intervals(policy, baseline)
    for row in range(5):
        alone = difference_intervals(policy[[row]], baseline[[row]])
        np.testing.assert_allclose(together[:, [row]], alone, rtol=1e-12)


def test_seeds_without_the_metric_are_left_out_in_pairs() -> None:
    gap = math.nan
    assert compared([1.0, gap, 3.0, 5.0], [2.0, 2.0, gap, 6.0]) == compared([1.0, 5.0], [2.0, 6.0])


def test_no_interval_is_claimed_for_one_pair() -> None:
    entry = compared([1.0], [2.0])
    assert entry.relative_difference == -0.5
    assert all(math.isnan(value) for value in (entry.low, entry.high, entry.difference_low, entry.p_value))


def test_nothing_is_relative_to_a_baseline_of_zero() -> None:
    entry = compared([1.0, 2.0, 3.0], [0.0, 0.0, 0.0])
    assert all(math.isnan(value) for value in (entry.relative_difference, entry.low, entry.high))
    assert entry.difference == 2.0


def test_nothing_is_said_where_no_seed_has_the_metric() -> None:
    entry = compared([math.nan, math.nan], [1.0, 2.0])
    assert entry.pairs == 0
    assert math.isnan(entry.difference)
    assert math.isnan(entry.probability_of_improvement)
    assert math.isnan(entry.policy_interquartile_mean)


def test_values_that_do_not_pair_up_are_refused() -> None:
    with pytest.raises(ValueError, match="paired by seed"):
        difference_intervals(np.ones((1, 3)), np.ones((1, 4)))


def test_the_signed_rank_test_is_exact() -> None:
    # All of 5 differences point the same way: 2 of 2^5 equally likely sign patterns are as extreme.
    assert signed_rank_test(np.array([1.0, 2.0, 3.0, 4.0, 5.0])) == pytest.approx(2 / 32)


def test_twenty_seeds_can_prove_what_a_large_table_asks_for() -> None:
    assert signed_rank_test(np.arange(1.0, 21.0)) == pytest.approx(2 / 2**20)


def test_pairs_without_a_difference_say_nothing() -> None:
    assert signed_rank_test(np.array([0.0, 1.0, 0.0, 2.0, 3.0, 0.0])) == pytest.approx(2 / 8)


def test_equal_policies_are_not_told_apart() -> None:
    assert signed_rank_test(np.zeros(SEEDS)) == 1.0


def test_chance_alone_is_called_significant_about_as_often_as_it_says() -> None:
    generator = np.random.default_rng(5)
    p_values = [signed_rank_test(generator.standard_t(2, SEEDS)) for _ in range(1000)]
    assert 0.03 <= np.mean(np.array(p_values) < 0.05) <= 0.07


def test_holm_corrects_a_table_worked_by_hand() -> None:
    # 0.01 x 4, 0.02 x 3, 0.03 x 2, 0.04 x 1, and no adjusted value below an earlier one: 0.04, 0.06, 0.06, 0.06.
    assert holm(np.array([0.03, 0.01, 0.04, 0.02])) == pytest.approx([0.06, 0.04, 0.06, 0.06])


def test_holm_never_exceeds_one() -> None:
    assert holm(np.array([0.5, 0.9, 0.7])) == pytest.approx([1.0, 1.0, 1.0])


def test_holm_leaves_out_what_has_no_p_value() -> None:
    assert holm(np.array([0.01, math.nan, 0.03])) == pytest.approx([0.02, math.nan, 0.03], nan_ok=True)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=30).map(np.array))
def test_holm_lies_between_the_p_value_and_bonferroni(p_values: FloatArray) -> None:
    adjusted = holm(p_values)
    assert np.all(p_values <= adjusted)
    assert np.all(adjusted <= np.minimum(p_values * len(p_values), 1.0))


def test_a_table_is_all_comparisons_in_one_metric() -> None:
    entry = compared([1.0, 2.0, 3.0], [2.0, 4.0, 6.0])
    table = [replace(entry, load=load, p_value=p) for load, p in ((0.6, 0.01), (0.8, 0.04))]
    table += [replace(entry, metric="mean_slowdown", p_value=0.5)]
    assert [each.p_value_holm for each in correct(table)] == pytest.approx([0.02, 0.04, 0.5])


def test_improvement_is_certain_of_separated_samples_but_for_what_few_seeds_can_say() -> None:
    probability, low, high = probability_of_improvement(np.ones(SEEDS))
    assert (probability, high) == (1.0, 1.0)
    assert low == pytest.approx(SEEDS / (SEEDS + 1.959964**2))  # Wilson's bound where all trials succeed


def test_identical_samples_say_nothing_about_improvement() -> None:
    assert probability_of_improvement(np.zeros(SEEDS)) == (0.5, pytest.approx(0.0), pytest.approx(1.0))


def test_half_of_the_equal_seeds_counts_as_improvement() -> None:
    assert probability_of_improvement(np.array([1.0, 1.0, -1.0, 0.0]))[0] == 0.625


def test_the_interval_of_improvement_covers_it_about_as_often_as_it_says() -> None:
    gains = np.random.default_rng(6).normal(0.524, 1.0, (500, SEEDS))  # better with probability 0.7
    covered = [low <= 0.7 <= high for _, low, high in map(probability_of_improvement, gains)]
    assert 0.93 <= np.mean(covered) <= 0.99


def test_less_is_an_improvement_of_a_wait_and_more_of_an_allocation() -> None:
    assert compared([1.0, 2.0], [3.0, 4.0], lower_is_better=True).probability_of_improvement == 1.0
    assert compared([1.0, 2.0], [3.0, 4.0], lower_is_better=False).probability_of_improvement == 0.0


def test_the_interquartile_mean_leaves_out_a_quarter_at_each_end() -> None:
    assert interquartile_mean(np.array([1000.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, -1000.0])) == 3.5


def test_both_interquartile_means_are_reported() -> None:
    entry = compared([0.0, 1.0, 3.0, 1000.0], [0.0, 4.0, 6.0, 7.0])
    assert (entry.policy_interquartile_mean, entry.baseline_interquartile_mean) == (2.0, 5.0)
