"""Reservations and backfilling, worked out by hand on nodes with two devices."""

from dataclasses import replace

import numpy as np
import pytest

from tests.clusters import GIB, Node
from tests.training.simulator.played import until
from tests.training.small_workloads import Pod, workload_of
from training.simulator.scheduling import Outcome, SchedulerArguments, play

PAIR = Node(9000, GIB, (1000, 1000))
OFF = SchedulerArguments()
ON = SchedulerArguments(reservation_after_seconds=10.0)


def one(arrival: float, duration: float, expected: float = 0.0) -> Pod:
    """A pod that wants one device."""
    return Pod(arrival, duration, 0, 0, 1, 1000, expected=expected)


def both(arrival: float, duration: float = 10.0, expected: float = 0.0) -> Pod:
    """A pod that wants two devices."""
    return Pod(arrival, duration, 0, 0, 2, 1000, expected=expected)


def outcome_of(arriving: list[Pod], nodes: int = 1, arguments: SchedulerArguments = ON) -> Outcome:
    return play(workload_of([PAIR] * nodes, arriving), "first-fit", arguments, 0)


def started(arriving: list[Pod], nodes: int = 1, arguments: SchedulerArguments = ON) -> list[float]:
    return outcome_of(arriving, nodes, arguments).started.tolist()


# Pods for one device that come every 6 seconds and stay for 20 keep a device in use at any time; one for both waits.
STREAM = [one(6 * number, 20) for number in range(30)]
STARVING = [*STREAM[:2], both(7), *STREAM[2:]]


def test_without_reservations_a_pod_for_a_whole_node_waits_until_the_stream_ends():
    assert started(STARVING, arguments=OFF)[2] > 6 * len(STREAM)


def test_with_reservations_nobody_starves():
    # It fails at 7, and its reservation is due 10 s later; the first to leave, at 20, leaves to it alone.
    assert started(STARVING)[2] == 26  # when both that ran at 7 have ended


def test_every_pod_for_a_whole_node_gets_its_turn():
    arriving = sorted([*STREAM, *(both(7 + 12 * number) for number in range(6))])
    outcome = outcome_of(arriving)
    waited = outcome.waited[[pod.gpu_count == 2 for pod in arriving]]
    waited_without = outcome_of(arriving, arguments=OFF).waited[[pod.gpu_count == 2 for pod in arriving]]
    assert waited.max() < 0.7 * waited_without.max()
    assert np.isfinite(outcome.started).all()


def test_a_pod_reserves_only_after_it_has_waited_long_enough():
    # At 20 a device becomes free: nothing is reserved before 7 + 15, so the single pod that waits takes it.
    arriving = [one(0, 20), one(0, 40), both(7), one(8, 5)]
    assert started(arriving, arguments=replace(ON, reservation_after_seconds=15.0))[3] == 20
    assert started(arriving, arguments=replace(ON, reservation_after_seconds=10.0))[3] > 20


def test_pods_for_fewer_devices_than_asked_for_do_not_reserve():
    arriving = [one(0, 20), one(0, 40), both(7), one(8, 5)]
    assert started(arriving, arguments=replace(ON, reservation_gpus=3))[3] == 20


@pytest.mark.parametrize(
    ("expected", "wanted"),
    [
        pytest.param(15.0, 20, id="one that ends before is let in"),
        pytest.param(20.0, 20, id="one that ends just then, too"),
        pytest.param(20.25, 50, id="one that ends later is not"),
        pytest.param(0.0, 50, id="nor one of which nothing is known"),
    ],
)
def test_a_reserved_node_takes_who_is_believed_to_end_before(expected, wanted):
    # One device becomes free at 20, the other at 40, when the reservation begins; it is used from then on for 10 s.
    arriving = [one(0, 20, 20), one(0, 40, 40), both(7, 10, 10), one(18, 15, expected)]
    outcome = started(arriving)
    assert outcome[2] == 40
    assert outcome[3] == wanted


def test_the_node_that_is_believed_to_be_free_first_is_reserved():
    arriving = [one(0, 60, 60), one(0, 20, 20), both(1, 50, 50), both(2), one(18, 100)]
    # Node 0 is free enough at 60, node 1 at 51; the pod that comes at 18 gets the device that nobody has reserved.
    outcome = outcome_of(arriving, nodes=2)
    assert outcome.node.tolist()[:3] == [0, 0, 1]
    assert (outcome.node[3], outcome.started[3]) == (1, 51)
    assert (outcome.node[4], outcome.started[4]) == (0, 20)


def reserved(arriving: list[Pod], nodes: int, horizon: float) -> tuple[list[int], list[float]]:
    """For whom each node is reserved at a time, and until when."""
    cluster = until(workload_of([PAIR] * nodes, arriving), horizon, ON).cluster
    return cluster.reserved_for.tolist(), cluster.reserved_until.tolist()


def test_a_pod_of_unknown_duration_is_believed_to_run_as_long_again():
    # When the last pod leaves, at 25, the reservation is due; the first has run for 25 s by then, the second for 15.
    arriving = [both(0, 30), both(10, 100), both(11), Pod(11, 14)]
    assert reserved(arriving, nodes=2, horizon=24) == ([-1, -1], [np.inf, np.inf])
    assert reserved(arriving, nodes=2, horizon=25) == ([-1, 2], [np.inf, 40])


def test_a_pod_that_is_overdue_is_believed_to_end_any_time():
    arriving = [both(0, 100, 20), both(11), Pod(11, 14)]
    assert reserved(arriving, nodes=1, horizon=25) == ([1], [25])


def test_a_pod_that_starts_elsewhere_leaves_its_reservation_to_others():
    # Node 1 is reserved at 25, but node 0 is free at 30 already.
    arriving = [both(0, 30), both(10, 100), both(11), Pod(11, 14)]
    assert outcome_of(arriving, nodes=2).node[2] == 0
    assert reserved(arriving, nodes=2, horizon=30) == ([-1, -1], [np.inf, np.inf])


def test_a_node_is_reserved_for_one_pod_at_a_time():
    arriving = [both(0, 100, 100), both(0, 200, 200), both(1), both(2), both(3), Pod(11, 14)]
    assert reserved(arriving, nodes=2, horizon=25) == ([2, 3], [100, 200])


def test_no_more_nodes_are_reserved_than_that_share():
    arriving = [both(0, 100, 100), both(0, 200, 200), both(0, 300, 300), both(1), both(2), both(3), Pod(11, 14)]
    few = replace(ON, reservations_at_most=0.7)  # of three nodes two
    cluster = until(workload_of([PAIR] * 3, arriving), 25, few).cluster
    assert cluster.reserved_for.tolist() == [3, 4, -1]
    fewest = replace(ON, reservations_at_most=0.01)  # there is always one
    cluster = until(workload_of([PAIR] * 3, arriving), 25, fewest).cluster
    assert cluster.reserved_for.tolist() == [3, -1, -1]


def test_a_pod_that_was_kept_away_is_tried_again_when_the_other_has_started():
    # Node 0 is reserved at 17 and used from 40 to 50. At 20 a device of it is free, but not for a pod of 100 s.
    arriving = [one(0, 20, 20), one(0, 40, 40), both(7, 10, 10), one(18, 100, 100)]
    outcome = outcome_of(arriving)
    assert outcome.started.tolist() == [0, 0, 40, 50]


def test_where_all_nodes_are_reserved_the_next_in_line_has_to_wait():
    arriving = [both(0, 100, 100), both(1, 10, 10), both(2, 10, 10), both(3, 10, 10)]
    outcome = outcome_of(arriving, arguments=replace(ON, reservation_after_seconds=1.0))
    assert outcome.started.tolist() == [0, 100, 110, 120]


def test_a_pod_that_no_node_could_hold_reserves_nothing():
    arriving = [one(0, 20), one(0, 20), Pod(1, 10, 0, 0, 3, 1000), one(2, 100), one(2, 100)]
    assert started(arriving)[3:] == [20, 20]


def test_a_node_that_does_not_admit_a_pod_is_not_reserved_for_it():
    arriving = [both(0, 20), both(0, 40), both(1, 10), both(2, 10)]
    admits = np.array([[True, False], [False, True], [False, True], [True, True]])
    outcome = play(workload_of([PAIR] * 2, arriving, admits=admits), "first-fit", ON, 0)
    assert outcome.started.tolist() == [0, 0, 40, 20]
