"""What is the harness's, the API server's and the machine's doing is told apart from the scheduler's."""

import numpy as np
import pytest

from training.replay.limits import Limits, arrived_at_once, clock_skew, found_room_at_once, limits_of
from training.replay.records import Records, empty_records


def records_of(planned: list[float], sent: list[float], created: list[float], bound: list[float]) -> Records:
    records = empty_records(np.array(planned))
    records.sent[:], records.created[:], records.bound[:] = sent, created, bound
    records.answered[:] = records.sent + 0.01
    return records


@pytest.mark.parametrize("ahead", [-40.25, 0.0, 3600.1])
def test_the_skew_is_found_within_milliseconds_from_whole_seconds(ahead: float) -> None:
    random = np.random.default_rng(1)
    sent = 1.7e9 + np.sort(random.uniform(0.0, 100.0, 2000))
    answered = sent + random.uniform(0.002, 0.02, 2000)
    stamp = np.floor(random.uniform(sent, answered) + ahead)

    low, high = clock_skew(stamp, sent, answered)

    assert low <= ahead <= high
    assert high - low < 0.02


def test_a_clock_that_was_set_meanwhile_leaves_nothing() -> None:
    low, high = clock_skew(np.array([10.0, 25.0]), np.array([10.2, 20.2]), np.array([10.3, 20.3]))

    assert low > high


def test_nothing_is_said_without_pods() -> None:
    assert np.isnan(clock_skew(np.array([np.nan]), np.array([np.nan]), np.array([np.nan]))).all()


def test_late_submissions_are_counted() -> None:
    records = records_of([0, 1, 2], [0.0, 1.001, 2.5], [0.01, 1.01, 2.51], [0.02, 1.02, 2.52])

    limits = limits_of(records, np.ones(3), 7, 8, 1, 2)

    assert limits.late_median == pytest.approx(0.001)
    assert limits.late_worst == pytest.approx(0.5)
    assert limits.late_pods == 1
    assert (limits.throttled, limits.repeated, limits.interruptions, limits.overbooked) == (7, 8, 1, 2)


def test_placing_is_measured_on_pods_that_met_nobody_and_found_room() -> None:
    created = [0.0, 1.0, 1.05, 9.0, 10.0, 11.0]
    bound = [0.01, 1.01, 8.0, 9.01, 10.01, np.nan]  # the third waits for room, the last for ever
    records = records_of(created, created, created, bound)

    assert arrived_at_once(records).tolist() == [True, True, False, True, True, False]
    assert limits_of(records, np.ones(6), 0, 0, 0, 0).placing_median == pytest.approx(0.01)


def test_an_attempt_is_what_placing_takes_longer_than_creating_and_one_in_vain_waits_for_the_api_server() -> None:
    created = [0.0, 1.0, 2.0]
    limits = limits_of(records_of(created, created, created, [0.03, 1.03, 2.04]), np.ones(3), 0, 0, 0, 0)

    assert limits.attempt == pytest.approx(0.02)
    assert limits.failed_attempt == pytest.approx(0.03)


def test_a_binding_that_is_quicker_than_creating_leaves_no_time_for_an_attempt() -> None:
    limits = limits_of(records_of([0.0], [0.0], [0.0], [0.004]), np.ones(1), 0, 0, 0, 0)

    assert (limits.attempt, limits.failed_attempt) == (0.0, pytest.approx(0.01))


def test_pods_that_found_room_while_others_waited_tell_what_placing_takes_then() -> None:
    created = [0.0, 0.01, 1.0, 1.5, 2.0]
    records = records_of(created, created, created, [0.02, 60.0, 1.05, 1.55, np.nan])  # two wait for room

    limits = limits_of(records, np.ones(5), 0, 0, 0, 0)

    assert found_room_at_once(records).tolist() == [True, False, True, True, False]
    assert limits.placing_mean == pytest.approx(0.02)
    assert limits.placing_among_others == pytest.approx(0.04)
    assert limits_of(records, np.ones(5), 0, 0, 0, 0, warm_up=0.2).placing_among_others == pytest.approx(0.05)


def test_what_pods_held_their_nodes_beyond_their_duration() -> None:
    records = records_of([0, 1], [0, 1], [0, 1], [0.1, 1.1])
    records.running[:] = [0.15, 1.15]
    records.ended[:] = [2.15, 4.17]

    limits = limits_of(records, np.array([2.0, 3.0]), 0, 0, 0, 0)

    assert limits.starting_median == pytest.approx(0.05)
    assert limits.overrun_mean == pytest.approx(0.06)


def test_waits_by_whole_seconds_are_compared_with_ours_and_their_error_is_told() -> None:
    random = np.random.default_rng(2)
    created = np.sort(random.uniform(0.0, 500.0, 4000))
    waits = random.exponential(0.4, 4000)
    records = records_of(list(created), list(created), list(created), list(created + waits))
    records.created_stamp[:] = np.floor(created + 1e9)
    records.bound_stamp[:] = np.floor(created + waits + 1e9)

    limits = limits_of(records, np.ones(4000), 0, 0, 0, 0)

    assert abs(limits.wait_difference) < limits.wait_difference_error < 0.05


def test_limits_survive_being_written_down() -> None:
    limits = limits_of(empty_records(np.zeros(2)), np.ones(2), 0, 0, 0, 0)

    assert repr(Limits.from_json(limits.to_json())) == repr(limits)
