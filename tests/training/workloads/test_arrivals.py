import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from training.workloads.arrivals import (
    DAY_SECONDS,
    HOUR_SECONDS,
    ArrivalProcess,
    Rhythm,
    arrival_pattern,
    resample,
    rhythm_of,
    rhythm_within,
    usable_record,
)
from training.workloads.openb import read_population

MANY = 20_000
EVENING = Rhythm(1.0 + np.arange(24.0), gap_variation=2.0)


def test_diurnal_arrivals_follow_the_hours_of_the_day():
    shares = arrival_pattern(MANY, 10 * DAY_SECONDS, ArrivalProcess.DIURNAL, EVENING, np.random.default_rng(0))
    hours = (shares * 10 * 24).astype(int) % 24
    wanted = EVENING.hour_weights / EVENING.hour_weights.sum()
    assert np.bincount(hours, minlength=24) / MANY == pytest.approx(wanted, abs=0.006)


@given(st.floats(1.0, 1e6), st.integers(1, 50))
def test_diurnal_arrivals_stay_within_their_time(seconds, pods):
    shares = arrival_pattern(pods, seconds, ArrivalProcess.DIURNAL, EVENING, np.random.default_rng(pods))
    assert np.all((shares >= 0) & (shares <= 1))
    assert np.all(np.diff(shares) >= 0)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("at", [0.0, 3600.0, 36_000.5])
def test_pods_that_all_came_in_one_second_come_at_random_times_all_the_same(at: float):
    rhythm = rhythm_of(np.full(100, at))
    shares = arrival_pattern(60, 700.0, ArrivalProcess.DIURNAL, rhythm, np.random.default_rng(0))
    assert np.all((shares >= 0) & (shares <= 1))
    assert len(np.unique(shares)) == 60


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("at", [0.0, 3600.0, 36_000.5])
def test_pods_that_all_came_at_once_tell_no_hour_of_the_day_from_another(at: float):
    rhythm = rhythm_within(np.full(100, at), [(at, float(np.nextafter(at, np.inf)))])
    assert np.ptp(rhythm.hour_weights) == 0.0
    assert np.all(np.isfinite(rhythm.hour_weights) & (rhythm.hour_weights > 0))
    assert rhythm.gap_variation == 1.0


def days_of(*counts: int) -> np.ndarray:
    """Arrivals spread over the hours of days with these counts."""
    return np.concatenate(
        [day * DAY_SECONDS + np.linspace(0, DAY_SECONDS, count, endpoint=False) for day, count in enumerate(counts)]
    )


def test_sparse_first_days_and_the_cut_first_and_last_one_are_no_record():
    record = usable_record(days_of(1, 0, 2, 60, 100, 10, 120, 110, 40))
    assert record.seconds == DAY_SECONDS
    assert (record.start / DAY_SECONDS).tolist() == [4, 5, 6, 7]


def test_of_the_public_trace_days_116_to_148_are_used(openb_traces):
    record = usable_record(read_population(openb_traces).arrival)
    assert (record.start / DAY_SECONDS).tolist() == list(range(116, 149))


def test_resampled_pods_of_the_public_trace_keep_its_hours(openb_traces):
    arrival = read_population(openb_traces).arrival
    drawn, _ = resample(arrival, np.arange(len(arrival)), MANY, np.random.default_rng(0))
    hours, recorded = rhythm_of(arrival[drawn]).hour_weights, rhythm_of(arrival).hour_weights
    assert np.corrcoef(hours, recorded)[0, 1] > 0.98


def test_a_record_of_hours_is_cut_into_eighths():
    record = usable_record(np.linspace(1000.0, 9000.0, 50))
    assert record.seconds == 1000.0
    assert record.start.tolist() == [1000.0 * part for part in range(1, 9)]


def test_whole_days_are_drawn_in_their_own_order():
    arrival = days_of(10, 10, 10, 10, 10, 10)
    drawn, _ = resample(arrival, np.arange(60), 30, np.random.default_rng(0))
    days = drawn.reshape(3, 10)
    assert np.all(days // 10 == days[:, :1] // 10)
    assert np.all(days % 10 == np.arange(10))


def test_resampled_days_keep_their_hours():
    morning = np.concatenate([day * DAY_SECONDS + np.array([8.0, 9.0, 9.5]) * HOUR_SECONDS for day in range(6)])
    drawn, shares = resample(morning, np.arange(18), 12, np.random.default_rng(0))
    span = (3 * DAY_SECONDS + 8 * HOUR_SECONDS) / shares[9]  # the fourth day begins with the tenth pod
    assert shares * span % DAY_SECONDS / HOUR_SECONDS == pytest.approx(np.tile([8.0, 9.0, 9.5], 4))
    assert np.all(drawn % 3 == np.tile([0, 1, 2], 4))


@given(st.lists(st.floats(0.0, 1e7), min_size=1, max_size=40), st.integers(1, 60), st.integers(0, 99))
@example([0.0] * 5 + [4793490.853097605], 3, 19)  # rounding puts the second pod after the third
def test_any_record_can_be_resampled(arrival, pods, seed):
    times = np.array(arrival)
    start, seconds = usable_record(times)
    inside = np.any((times[:, None] >= start) & (times[:, None] <= start + seconds), axis=1)
    eligible = np.flatnonzero(inside)
    if len(eligible) == 0:
        return
    drawn, shares = resample(times, eligible, pods, np.random.default_rng(seed))
    assert len(drawn) == len(shares) == pods
    assert np.all(np.diff(shares) >= 0)
    assert np.all((shares >= 0) & (shares <= 1))


def test_only_eligible_pods_are_drawn():
    arrival = days_of(10, 10, 10, 10, 10)
    drawn, _ = resample(arrival, np.arange(0, 50, 2), 40, np.random.default_rng(0))
    assert np.all(drawn % 2 == 0)


def test_nothing_eligible_on_a_complete_day_is_an_error():
    with pytest.raises(ValueError, match="no pod that fits on the drawn nodes arrived on a completely recorded day"):
        resample(days_of(10, 10, 10, 10, 10), np.arange(10), 5, np.random.default_rng(0))


def test_the_rhythm_of_a_record_counts_its_hours():
    assert rhythm_of(np.array([0.0, 10.0, 3600.0, DAY_SECONDS])).hour_weights[:3].tolist() == [3.0, 1.0, 0.0]


def test_arrivals_without_any_rhythm_are_taken_as_memoryless():
    assert rhythm_of(np.array([5.0])).gap_variation == 1.0
