import numpy as np
import pytest

from training.workloads.estimates import SEEN_AT_LEAST, estimated_durations, medians

MANY = 20_000


def usual(shape: int, history_shape: list[int], history: list[float], classes: list[int]) -> float:
    """Median of many estimates for a shape: the errors are as often upwards as downwards."""
    estimates = estimated_durations(
        np.full(MANY, shape),
        np.array(history_shape),
        np.array(history),
        np.array(classes),
        np.random.default_rng(0),
    )
    return float(np.median(estimates))


def test_a_shape_seen_often_is_estimated_by_its_own_history():
    seen = [0] * SEEN_AT_LEAST + [1] * SEEN_AT_LEAST
    history = [10.0] * SEEN_AT_LEAST + [1000.0] * SEEN_AT_LEAST
    assert usual(1, seen, history, [0, 0]) == pytest.approx(1000.0, rel=0.03)


def test_a_shape_seen_rarely_is_estimated_by_its_class():
    seen = [0] * SEEN_AT_LEAST + [1] + [2] * SEEN_AT_LEAST
    history = [10.0] * SEEN_AT_LEAST + [1e6] + [1000.0] * SEEN_AT_LEAST
    assert usual(1, seen, history, [0, 0, 1]) == pytest.approx(10.0, rel=0.03)


def test_a_class_never_seen_is_estimated_by_everything():
    assert usual(1, [0, 0, 0], [10.0, 20.0, 30.0], [0, 1]) == pytest.approx(20.0, rel=0.03)


def test_one_estimate_in_ten_is_wildly_wrong():
    estimates = estimated_durations(
        np.zeros(MANY, int), np.zeros(9, int), np.full(9, 100.0), np.zeros(1, int), np.random.default_rng(0)
    )
    decades = np.log10(estimates / 100.0)
    assert np.mean(np.abs(decades) > 0.8) == pytest.approx(0.1, abs=0.01)
    assert np.mean(decades > 0.8) == pytest.approx(np.mean(decades < -0.8), abs=0.01)


def test_medians_of_small_groups_are_unknown():
    values = medians(np.array([1, 1, 0]), np.array([1.0, 4.0, 7.0]), 3, at_least=2)
    assert np.isnan(values[[0, 2]]).all()
    assert values[1] == 2.5
