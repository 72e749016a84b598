"""Who has to leave for whom, worked out by hand.

The cases follow the ideas of kube-scheduler's own tests (default_preemption_test.go: TestDryRunPreemption,
TestSelectBestCandidate), on nodes of 1000 milli.
"""

import numpy as np
import pytest

from tests.clusters import GIB, Node
from tests.training.small_workloads import Pod, workload_of
from training.simulator.scheduling import Outcome, SchedulerArguments, play

LOWEST, LOW, MIDDLE, HIGH, HIGHEST = -(2**31), 0, 100, 1000, 2000
LATER = 50.0  # when the pod comes for which others may have to leave
FOREVER = 1e6
ANY_SEEDS = range(4)  # the search for victims starts anywhere
ON = SchedulerArguments(preemption=True)


def outcome_of(
    running: list[tuple[int, int, int]],
    wanted: Pod,
    *,
    nodes: list[Node] | None = None,
    arguments: SchedulerArguments = ON,
    admits: list[bool] | None = None,
    pod_limit: list[int] | None = None,
    seed: int = 0,
) -> Outcome:
    """Pods given as (node, milli, priority), one more each second; then the one that is wanted, which comes last."""
    count = 1 + max(node for node, *_ in running)
    nodes = nodes or [Node(1000, GIB)] * count
    arriving = [Pod(second, FOREVER, milli, priority=priority) for second, (_, milli, priority) in enumerate(running)]
    masks = [[row == node for row in range(len(nodes))] for node, *_ in running]
    masks.append(admits or [True] * len(nodes))
    limit = None if pod_limit is None else np.array(pod_limit)
    workload = workload_of(nodes, [*arriving, wanted], admits=np.array(masks), pod_limit=limit)
    return play(workload, "first-fit", arguments, seed)


def victims(*given, **named) -> list[int]:
    """The numbers of those that had to leave."""
    return np.flatnonzero(outcome_of(*given, **named).preempted).tolist()


def test_nobody_has_to_leave_where_preemption_is_off():
    outcome = outcome_of(
        [(0, 1000, LOW)], Pod(LATER, 1, 500, priority=HIGH), arguments=SchedulerArguments(horizon_seconds=LATER + 9)
    )
    assert outcome.preempted.tolist() == [0, 0]
    assert np.isnan(outcome.started[1])


def test_nobody_has_to_leave_while_there_is_room():
    assert victims([(0, 1000, LOW), (1, 500, LOW)], Pod(LATER, 1, 500, priority=HIGH)) == []


@pytest.mark.parametrize("priority", [HIGH, HIGHEST])
def test_nobody_has_to_leave_for_a_pod_of_no_higher_priority(priority):
    assert victims([(0, 1000, priority)], Pod(LATER, 1, 500, priority=HIGH)) == []


def test_nobody_has_to_leave_in_vain():
    assert victims([(0, 500, LOW), (0, 500, HIGHEST)], Pod(LATER, 1, 800, priority=HIGH)) == []
    assert victims([(0, 500, LOW)], Pod(LATER, 1, 2000, priority=HIGH)) == []


def test_the_pod_runs_at_once_where_others_had_to_leave():
    outcome = outcome_of([(0, 1000, LOW)], Pod(LATER, 7, 500, priority=HIGH))
    assert (outcome.started[1], outcome.finished[1], outcome.node[1], outcome.waited[1]) == (LATER, LATER + 7, 0, 0)


def test_a_pod_that_had_to_leave_starts_over():
    outcome = outcome_of([(0, 1000, LOW)], Pod(LATER, 7, 500, priority=HIGH))
    assert outcome.started[0] == 0
    assert outcome.finished[0] == LATER + 7 + FOREVER
    assert outcome.waited[0] == 7


def test_a_small_pod_is_spared_though_it_is_the_least_important():
    assert victims([(0, 300, LOW), (0, 600, MIDDLE)], Pod(LATER, 1, 600, priority=HIGH)) == [1]


def test_the_more_important_of_the_lower_ones_is_spared():
    assert victims([(0, 400, LOW), (0, 400, MIDDLE)], Pod(LATER, 1, 600, priority=HIGH)) == [0]


def test_of_equally_important_pods_the_older_is_spared():
    assert victims([(0, 400, LOW), (0, 400, LOW)], Pod(LATER, 1, 600, priority=HIGH)) == [1]


def test_what_more_important_pods_take_is_not_to_be_had():
    running = [(0, 400, HIGHEST), (0, 300, LOW), (0, 300, MIDDLE)]
    assert victims(running, Pod(LATER, 1, 300, priority=HIGH)) == [1]
    assert victims(running, Pod(LATER, 1, 600, priority=HIGH)) == [1, 2]
    assert victims(running, Pod(LATER, 1, 700, priority=HIGH)) == []


def test_a_pod_has_to_leave_for_one_that_the_limit_of_pods_keeps_out():
    running = [(0, 10, MIDDLE), (0, 10, LOW)]
    assert victims(running, Pod(LATER, 1, 10, priority=HIGH), pod_limit=[2]) == [1]


def test_nobody_leaves_a_node_that_does_not_admit_the_pod():
    running = [(0, 1000, LOW), (1, 1000, MIDDLE)]
    assert victims(running, Pod(LATER, 1, 500, priority=HIGH), admits=[False, True]) == [1]
    assert victims(running, Pod(LATER, 1, 500, priority=HIGH), admits=[False, False]) == []


def test_those_leave_whose_devices_are_wanted():
    nodes = [Node(9000, GIB, (1000, 1000))]
    arriving = [
        Pod(0, FOREVER, 1000),
        Pod(1, FOREVER, 0, 0, 1, 700, priority=MIDDLE),
        Pod(2, FOREVER, 0, 0, 1, 600),
        Pod(LATER, 5, 0, 0, 1, 1000, priority=HIGH),
    ]
    outcome = play(workload_of(nodes, arriving), "first-fit", ON, 0)
    assert outcome.preempted.tolist() == [0, 0, 1, 0]


@pytest.mark.parametrize("seed", ANY_SEEDS)
@pytest.mark.parametrize(
    ("running", "wanted"),
    [
        pytest.param([(0, 1000, MIDDLE), (1, 1000, LOW)], 1, id="whose most important victim matters least"),
        pytest.param(
            [(0, 500, LOW), (0, 500, LOW), (0, 0, LOW), (1, 500, MIDDLE), (1, 500, LOW)],
            0,
            id="whose most important victim matters least, though there are more",
        ),
        pytest.param(
            [(1, 500, MIDDLE), (0, 500, MIDDLE), (0, 500, MIDDLE), (1, 500, LOW)],
            1,
            id="by the sum of their priorities",
        ),
        pytest.param(
            [(0, 500, -5), (0, 500, -5), (1, 1000, -5)], 1, id="where negative priorities do not add up to less"
        ),
        pytest.param([(0, 500, MIDDLE), (0, 500, LOW), (1, 1000, MIDDLE)], 1, id="whose priorities add up to less"),
        # Priorities are counted from the lowest that there is, so that one adds nothing to their sum.
        pytest.param([(1, 1000, MIDDLE), (0, 500, MIDDLE), (0, 500, LOWEST)], 1, id="whose victims are fewer"),
        pytest.param([(0, 1000, LOW), (1, 1000, LOW)], 1, id="whose victim started last"),
        pytest.param([(1, 1000, LOW), (0, 1000, LOW)], 0, id="whose victim started last, the other way round"),
        pytest.param(
            [(0, 500, MIDDLE), (1, 500, LOW), (1, 500, MIDDLE), (0, 500, LOW)],
            1,
            id="whose most important victim started last, whenever the others did",
        ),
    ],
)
def test_the_node_is_taken(running, wanted, seed):
    outcome = outcome_of(running, Pod(LATER, 1, 1000, priority=HIGH), seed=seed)
    assert outcome.node[-1] == wanted
    left = [outcome.preempted[number] > 0 for number, (_, milli, _) in enumerate(running) if milli > 0]
    assert left == [node == wanted for node, milli, _ in running if milli > 0]


def test_the_search_ends_with_a_hundred_of_the_nodes_where_it_might_help():
    count, best = 150, 70
    running = [Pod(0, FOREVER, 1000, priority=LOW if node == best else MIDDLE) for node in range(count)]
    nodes = [Node(1000, GIB)] * count + [Node(500, GIB)] * 2000  # these are too small, and count for nothing
    admits = np.zeros((count + 1, len(nodes)), bool)
    admits[:count, :count] = np.eye(count, dtype=bool)
    admits[count] = True
    workload = workload_of(nodes, [*running, Pod(LATER, 1, 1000, priority=HIGH)], admits=admits)
    found = [int(play(workload, "first-fit", ON, seed).node[-1]) == best for seed in range(40)]
    assert 0 < sum(found) < len(found)  # a third of the offsets leave it out


def test_the_search_starts_anywhere_among_equals():
    running = [(node, 1000, LOW) for node in range(4)]
    # All start in the same instant.
    nodes = [Node(1000, GIB)] * 4
    arriving = [Pod(0, FOREVER, milli, priority=priority) for _, milli, priority in running]
    admits = np.vstack([np.eye(4, dtype=bool), np.ones((1, 4), bool)])
    workload = workload_of(nodes, [*arriving, Pod(LATER, 1, 1000, priority=HIGH)], admits=admits)
    taken = {int(play(workload, "first-fit", ON, seed).node[-1]) for seed in range(40)}
    assert taken == {0, 1, 2, 3}


def test_a_pod_that_had_to_leave_may_make_others_leave():
    running = [(0, 1000, MIDDLE), (1, 1000, LOW)]
    nodes = [Node(1000, GIB)] * 2
    arriving = [Pod(second, FOREVER, milli, priority=priority) for second, (_, milli, priority) in enumerate(running)]
    admits = np.array([[True, True], [False, True], [True, False]])
    workload = workload_of(nodes, [*arriving, Pod(LATER, 5, 1000, priority=HIGH)], admits=admits)
    outcome = play(workload, "first-fit", ON, 0)
    assert outcome.preempted.tolist() == [1, 1, 0]
    assert outcome.node.tolist() == [1, 1, 0]
