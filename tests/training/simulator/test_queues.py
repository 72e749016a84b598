"""The queue, in cases small enough to be worked out by hand: slots hold one pod each."""

import numpy as np
import pytest

from tests.clusters import GIB, Node
from tests.training.simulator.played import until
from tests.training.small_workloads import Pod, slots, workload_of
from training.simulator.scheduling import SchedulerArguments, play
from training.simulator.state import PARKED, Episode
from training.workloads.base import Workload

ANY_SEED = 0
AT_ONCE = SchedulerArguments(backoff_max_seconds=0.0)  # pods that come back are tried at once
WITH_BACKOFF = SchedulerArguments(pop_from_backoff=False)
POPPING = SchedulerArguments(pop_from_backoff=True)


def started(workload: Workload, arguments: SchedulerArguments = AT_ONCE) -> list[float]:
    return play(workload, "first-fit", arguments, ANY_SEED).started.tolist()


def parked(episode: Episode) -> list[int]:
    return episode.parked[: episode.counters[PARKED]].tolist()


def test_equals_are_served_in_the_order_of_their_arrival():
    assert started(workload_of(slots(1), [Pod(time, 10, 1000) for time in range(4)])) == [0, 10, 20, 30]


def test_the_more_important_pod_is_served_first():
    arriving = [Pod(0, 10, 1000), Pod(1, 10, 1000, priority=1), Pod(2, 10, 1000, priority=2)]
    assert started(workload_of(slots(1), arriving)) == [0, 20, 10]


@pytest.mark.parametrize(
    ("ordering", "wanted"),
    [
        ("fifo", [0, 1, 2, 3, 4]),
        ("priority", [0, 3, 1, 2, 4]),
        ("shortest-expected-first", [0, 4, 2, 1, 3]),
        ("least-work-first", [0, 3, 2, 4, 1]),
        ("smallest-first", [0, 3, 1, 2, 4]),
    ],
)
def test_an_ordering_says_who_is_served_first(ordering, wanted):
    # The first takes the node; of the others, seconds, shares of the node and their products differ.
    arriving = [
        Pod(0, 20, 1000, expected=20),
        Pod(1, 1, 500, expected=40),  # work: 20
        Pod(2, 1, 600, expected=20),  # 12
        Pod(3, 1, 100, expected=50, priority=1),  # 5
        Pod(4, 1, 1000, expected=15),  # 15
    ]
    workload = workload_of([Node(1000, GIB)], arriving, pod_limit=np.array([1]))
    arguments = SchedulerArguments(ordering=ordering, backoff_max_seconds=0.0)
    assert np.argsort(started(workload, arguments)).tolist() == wanted


def test_pods_of_unknown_duration_come_last_where_the_shortest_goes_first():
    arriving = [Pod(0, 10, 1000), Pod(1, 10, 1000), Pod(2, 10, 1000, expected=1e6)]
    arguments = SchedulerArguments(ordering="shortest-expected-first", backoff_max_seconds=0.0)
    assert started(workload_of(slots(1), arriving), arguments) == [0, 20, 10]


def test_a_large_pod_does_not_hold_up_a_small_one():
    workload = workload_of([Node(2000, GIB)], [Pod(0, 10, 1500), Pod(1, 5, 2000, priority=10), Pod(2, 5, 500)])
    assert started(workload) == [0, 10, 2]


def test_a_pod_that_leaves_brings_back_only_those_who_fit_there():
    nodes = [Node(1000, GIB), Node(4000, GIB)]
    arriving = [Pod(0, 30, 4000), Pod(0, 10, 1000), Pod(1, 5, 4000), Pod(2, 5, 500)]
    workload = workload_of(nodes, arriving)
    assert started(workload) == [0, 0, 30, 10]
    episode = until(workload, 29, AT_ONCE)
    assert parked(episode) == [2]
    assert episode.pods.attempts[2] == 1  # it was not tried in vain when the small node became free


def test_a_node_that_does_not_admit_a_pod_does_not_bring_it_back():
    admits = np.array([[True, False], [False, True], [False, True]])
    workload = workload_of(slots(2), [Pod(0, 10, 1000), Pod(0, 30, 1000), Pod(1, 5, 1000)], admits=admits)
    assert started(workload) == [0, 0, 30]
    assert until(workload, 20, AT_ONCE).pods.attempts[2] == 1


def test_the_place_of_a_pod_frees_the_node_for_another_where_pods_are_limited():
    workload = workload_of([Node(9000, GIB)], [Pod(0, 10, 1), Pod(1, 10, 1), Pod(2, 10, 1)], pod_limit=np.array([2]))
    assert started(workload) == [0, 1, 10]


def test_a_pod_that_leaves_makes_room_for_one_that_arrives_in_the_same_instant():
    assert started(workload_of(slots(1), [Pod(0, 10, 1000), Pod(10, 1, 1000)])) == [0, 10]


def test_a_pod_that_failed_waits_a_second_before_it_is_tried_again():
    workload = workload_of(slots(1), [Pod(0, 5.25, 1000), Pod(5, 1, 1000)])
    assert started(workload, WITH_BACKOFF) == [0, 6]
    assert started(workload, AT_ONCE) == [0, 5.25]


@pytest.mark.parametrize(("longest", "wanted"), [(10.0, [1, 2, 4, 8, 10, 10]), (3.0, [1, 2, 3, 3, 3, 3])])
def test_the_backoff_doubles_with_every_failure_up_to_the_longest(longest, wanted):
    # Each time the last pod comes back, another of its size has just taken the slot that brought it back.
    now, arriving = 0.0, [Pod(0, 0.25, 1000)]
    for backoff in wanted:
        now += backoff
        arriving.append(Pod(now - 0.5, 0.75, 1000, priority=1))
    arriving.insert(1, Pod(0, 1, 1000))
    workload = workload_of(slots(1), arriving)
    arguments = SchedulerArguments(pop_from_backoff=False, backoff_max_seconds=longest)
    now = 0.0
    for number, backoff in enumerate(wanted, 1):
        episode = until(workload, now + 0.25, arguments)  # the slot is free, and the pod has been brought back
        assert episode.pods.attempts[1] == number
        assert episode.backoff.keys[: episode.backoff.size[0]].tolist() == [now + backoff]
        now += backoff


def test_a_pod_that_backs_off_is_tried_when_nobody_else_is_to_be():
    workload = workload_of(slots(1), [Pod(0, 5.25, 1000), Pod(5, 1, 1000)])
    assert started(workload, POPPING) == [0, 5.25]


def test_pods_whose_backoff_ends_in_the_same_second_go_by_priority():
    arriving = [Pod(0, 0.5, 1000), Pod(0, 9, 1000), Pod(0.25, 9, 1000, priority=1)]
    assert started(workload_of(slots(1), arriving), POPPING) == [0, 9.5, 0.5]


def test_a_pod_whose_backoff_ends_a_second_earlier_goes_first_whatever_its_priority():
    arriving = [Pod(0, 1.5, 1000), Pod(0, 9, 1000), Pod(1.25, 9, 1000, priority=1)]
    assert started(workload_of(slots(1), arriving), POPPING) == [0, 1.5, 10.5]


def test_a_pod_whose_backoff_is_over_goes_before_one_that_backs_off():
    arriving = [Pod(0, 2.5, 1000), Pod(0, 9, 1000), Pod(1.25, 9, 1000, priority=1)]
    assert started(workload_of(slots(1), arriving), POPPING) == [0, 2.5, 11.5]


def test_pods_whose_backoff_ends_together_are_sorted_by_the_queue():
    # Both fail at 1, the less important first, and come back at 2 into the only slot.
    arriving = [Pod(0, 1.5, 1000), Pod(1, 9, 1000), Pod(1, 9, 1000, priority=1)]
    assert started(workload_of(slots(1), arriving), WITH_BACKOFF) == [0, 11, 2]


def test_an_evicted_pod_goes_before_those_that_back_off():
    """The active queue is emptied before anybody is taken from the backoff queue, wherever they stand in its order."""
    first, second, both = [True, False], [False, True], [True, True]
    arriving = [
        (Pod(0, 0.375, 500, priority=9), first),
        (Pod(0, 0.5, 1000, priority=9), second),
        # Three wait for the second node, which becomes free at 0.5. One takes half of it; then the next, who needs
        # more, evicts the last pod from the first node.
        (Pod(0.25, 9, 500, priority=9), second),
        (Pod(0.25, 9, 1000, priority=4), both),
        (Pod(0.25, 9, 500, priority=2), second),
        (Pod(0.3125, 9, 500, priority=2), both),
    ]
    workload = workload_of(slots(2), [pod for pod, _ in arriving], admits=np.array([mask for _, mask in arriving]))
    arguments = SchedulerArguments(ordering="fifo", preemption=True, pop_from_backoff=True)
    outcome = play(workload, "first-fit", arguments, ANY_SEED)
    assert outcome.preempted.tolist() == [0, 0, 0, 0, 0, 1]
    assert outcome.finished[-1] == 9.5  # it was placed again at once, on the other half
    assert outcome.started[4] == 9.5


def test_an_evicted_pod_starts_its_backoff_anew():
    arriving = [Pod(0, 3, 1000, priority=1), Pod(0, 10, 1000), Pod(4, 5, 1000, priority=1)]
    arguments = SchedulerArguments(preemption=True, pop_from_backoff=False)
    workload = workload_of(slots(1), arriving)
    assert until(workload, 2, arguments).pods.attempts[1] == 1
    episode = until(workload, 5, arguments)
    assert (episode.pods.preempted[1], episode.pods.attempts[1]) == (1, 1)  # tried once since it was evicted


def test_an_episode_ends_with_the_last_start():
    outcome = play(workload_of(slots(1), [Pod(0, 5, 1000), Pod(1, 1000, 1000)]), "first-fit", AT_ONCE, ANY_SEED)
    assert outcome.times[-1] == 5
    assert outcome.finished.tolist() == [5, 1005]


def test_an_episode_ends_though_a_pod_fits_nowhere():
    outcome = play(workload_of(slots(1), [Pod(0, 5, 9000), Pod(1, 10, 1000)]), "first-fit", AT_ONCE, ANY_SEED)
    assert np.isnan(outcome.started[0])
    assert outcome.node.tolist() == [-1, 0]
    assert outcome.times[-1] == 11
    assert outcome.waited.tolist() == [11, 0]


def test_an_episode_ends_at_the_horizon_whatever_still_waits():
    workload = workload_of(slots(1), [Pod(0, 10, 1000), Pod(1, 10, 1000), Pod(7, 10, 1000)])
    outcome = play(workload, "first-fit", SchedulerArguments(horizon_seconds=5.0), ANY_SEED)
    assert outcome.started[0] == 0
    assert np.isnan(outcome.started[1:]).all()
    assert outcome.times.tolist() == [0, 1, 5, 5]
    assert outcome.waited.tolist() == [0, 4, 0]  # the last had not come yet


def test_nobody_else_is_tried_until_an_attempt_is_over():
    workload = workload_of(slots(3), [Pod(0, 10, 1000), Pod(1, 10, 1000), Pod(7, 10, 1000)])
    assert started(workload, SchedulerArguments(attempt_seconds=3.0)) == [0, 3, 7]


def test_an_attempt_in_vain_takes_a_time_of_its_own_and_what_happens_meanwhile_counts():
    # The second pod fails at 2, and the first leaves while that is noted; a small one that comes at 3 goes first.
    arriving = [Pod(0, 4, 1000), Pod(2, 10, 1000), Pod(3, 10, 100)]
    workload = workload_of([Node(1000, GIB), Node(500, GIB)], arriving)
    assert started(workload, SchedulerArguments(failed_attempt_seconds=5.0)) == [0, 7, 7]


@pytest.mark.parametrize(("futile_attempts", "wanted"), [(False, [10.5, 110.5]), (True, [20.5, 10.5])])
def test_attempts_in_vain_let_a_later_pod_overtake(futile_attempts, wanted):
    # As kube-scheduler 1.36's own queue does it: by 10 s the first pod has failed six times and backs off for 10 s.
    ends = (1.1, 2.2, 4.3, 7.4, 10.0)
    arriving = [
        Pod(0, 10.5, 1000),
        *(Pod(0.01, end - 0.01, 100) for end in ends),
        Pod(0.05, 100, 1000),
        Pod(10.2, 10, 1000),
    ]
    nodes = workload_of([Node(1000, GIB), Node(500, GIB)], arriving)
    assert started(nodes, SchedulerArguments(futile_attempts=futile_attempts))[-2:] == pytest.approx(wanted)
