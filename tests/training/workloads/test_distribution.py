import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.training.small_workloads import openb_like
from training.workloads.distribution import (
    FEATURES,
    MAJOR,
    Durations,
    Level,
    drift,
    drifts,
    duration_drift,
    features_of_workloads,
    histogram,
    histograms,
    relative_gaps,
)

HOUR = 3600.0
GENERATOR = np.random.default_rng(7)
NORMAL = GENERATOR.normal(size=20_000)


def test_the_index_is_the_sum_over_the_bins() -> None:
    known = histogram(np.repeat([1.0, 2.0], [50, 50]))
    found = drift(known, np.repeat([1.0, 2.0], [75, 25]))
    assert found.index == pytest.approx((0.75 - 0.5) * np.log(0.75 / 0.5) + (0.25 - 0.5) * np.log(0.25 / 0.5))


@pytest.mark.parametrize("values", [NORMAL, np.round(NORMAL), np.zeros(100), np.abs(NORMAL) * (NORMAL > 0)])
def test_shares_add_up_and_what_was_learned_from_has_no_drift(values: np.ndarray) -> None:
    known = histogram(values)
    assert sum(known.shares) == pytest.approx(1.0)
    assert list(known.edges) == sorted(set(known.edges))
    assert drift(known, values).index == 0.0


def test_bins_hold_about_a_tenth_of_what_is_continuous_and_frequent_values_are_alone() -> None:
    known = histogram(NORMAL)
    assert len(known.edges) == 9
    assert np.allclose(known.shares, 0.1, atol=0.001)
    mixed = histogram(np.concatenate([np.full(10_000, 3.0), NORMAL[:10_000]]))
    assert max(mixed.shares) == 0.5


@pytest.mark.parametrize("new", [-1.0, 0.5, 2.0])
def test_a_value_that_was_never_seen_is_noticed_wherever_it_lies(new: float) -> None:
    known = histogram(np.repeat([0.0, 1.0], [5000, 5000]))
    seen = np.repeat([0.0, 1.0, new], [450, 450, 100])
    assert drift(known, seen).level is Level.MAJOR


def test_by_chance_alone_the_index_stays_below_what_it_says_of_chance() -> None:
    known = histogram(NORMAL)
    found = [drift(known, GENERATOR.normal(size=100)) for _ in range(400)]
    assert np.mean([each.index < each.chance for each in found]) > 0.95
    assert all(each.level in (Level.NONE, Level.MODERATE, Level.MAJOR) for each in found)
    assert np.mean([each.level is Level.NONE for each in found]) > 0.95


def test_few_pods_tell_nothing() -> None:
    assert drift(histogram(NORMAL), NORMAL[:20] + 5.0).level is Level.TOO_FEW


@pytest.mark.parametrize(("shift", "level"), [(0.05, Level.NONE), (0.4, Level.MODERATE), (0.8, Level.MAJOR)])
def test_a_shift_is_graded(shift: float, level: Level) -> None:
    assert drift(histogram(NORMAL), GENERATOR.normal(shift, size=5000)).level is level


@given(st.lists(st.floats(-1e12, 1e12), min_size=1, max_size=60), st.lists(st.floats(-1e12, 1e12), min_size=1))
def test_an_index_is_a_number_of_0_or_more_whatever_is_compared(known: list[float], seen: list[float]) -> None:
    found = drift(histogram(np.array(known)), np.array(seen))
    assert np.isfinite(found.index)
    assert found.index >= 0.0


def watched(count: int, stretched: float, window: float = 6.0 * HOUR) -> Durations:
    """Pods that came at any time of a window, and what has been seen of them when it ends."""
    run = stretched * HOUR * GENERATOR.lognormal(0.0, 1.5, size=count)
    seen = window * GENERATOR.random(count)
    return Durations(np.minimum(run, seen), run <= seen)


def test_pods_that_have_not_ended_are_no_drift_of_durations() -> None:
    known = histogram(HOUR * GENERATOR.lognormal(0.0, 1.5, size=4000))
    like = watched(2000, 1.0)
    assert drift(known, like.seconds[like.ended]).index > 0.5
    assert duration_drift(known, like).level is Level.NONE
    assert duration_drift(known, watched(2000, 3.0)).level is Level.MAJOR
    assert duration_drift(known, watched(2000, 0.3)).level is Level.MAJOR
    for few in (watched(60, 3.0), watched(2000, 1000.0, 60.0), Durations(np.full(500, 9.0), np.zeros(500, np.bool_))):
        assert duration_drift(known, few).level is Level.TOO_FEW
    logged = histogram(watched(4000, 1.0).whole())
    assert duration_drift(logged, like).level is Level.NONE
    assert duration_drift(logged, watched(2000, 3.0)).level is Level.MAJOR


def test_durations_that_are_all_over_are_compared_as_any_feature() -> None:
    known, seen = histogram(np.exp(NORMAL)), np.exp(NORMAL[:500] + 0.4)
    plain, found = drift(known, seen), duration_drift(known, Durations(seen, np.ones(500, np.bool_)))
    assert (found.pods, found.level) == (plain.pods, plain.level)
    assert (found.index, found.chance) == pytest.approx((plain.index, plain.chance))


def test_gaps_know_no_scale() -> None:
    arrival = np.cumsum(GENERATOR.exponential(size=100))
    assert np.allclose(relative_gaps(arrival), relative_gaps(arrival * 1000.0 + 5.0))
    assert relative_gaps(np.array([3.0])).tolist() == []
    assert relative_gaps(np.array([3.0, 3.0])).tolist() == []


def test_a_workload_does_not_drift_from_its_like_and_does_from_longer_pods() -> None:
    known = histograms(features_of_workloads([openb_like(nodes=8, pods=3000, load=0.9, seed=1)]))
    assert tuple(known) == FEATURES
    like = features_of_workloads([openb_like(nodes=8, pods=3000, load=0.9, seed=2)])
    found = drifts(known, like)
    assert {each.level for each in found.values()} == {Level.NONE}
    found = drifts(known, like | {"duration": like["duration"] * 3})
    assert [name for name, each in found.items() if each.index >= MAJOR] == ["duration"]
    without_times = features_of_workloads([openb_like(nodes=8, pods=50, load=0.9, seed=1)], timed=False)
    assert tuple(histograms(without_times)) == FEATURES[:5]
