import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.clusters import GIB, Node
from tests.training.evaluation.outcomes import outcome_of
from tests.training.small_workloads import Pod, workload_of
from training.evaluation.metrics import CURVE_POINTS, SERVICE_LEVELS, catalogue, mean_of_worst, measure
from training.simulator.scheduling import Outcome, SchedulerArguments, play
from training.simulator.state import COST, EMPTY_NODES, FRAGMENTED, RESOURCES, WAITING
from training.workloads.base import Workload

TWO_NODES = [Node(8000, 64 * GIB, (1000, 1000)), Node(8000, 64 * GIB, (1000, 1000))]


def cpu_pods(*times: tuple[float, float], priority: int = 0) -> Workload:
    """Pods that arrive and run for so long, on two nodes."""
    return workload_of(TWO_NODES, [Pod(arrival, duration, 1000, GIB, priority=priority) for arrival, duration in times])


def metrics_of(workload: Workload, outcome: Outcome, **arguments: float) -> dict[str, float]:
    return measure("rule", 1.0, 7, workload, outcome, **arguments).metrics


@pytest.fixture(scope="module")
def hundred_waits() -> dict[str, float]:
    """Pod i of 0 … 100 waits i seconds."""
    workload = cpu_pods(*((float(arrival), 50.0) for arrival in range(101)))
    return metrics_of(workload, outcome_of(workload, [float(wait) for wait in range(101)]))


@pytest.mark.parametrize(
    ("metric", "value"),
    [
        ("mean_wait_seconds", 50.0),
        ("p50_wait_seconds", 50.0),
        ("p95_wait_seconds", 95.0),
        ("p99_wait_seconds", 99.0),
        # 5 % of 101 pods are 5.05: 100, 99, 98, 97, 96 wholly and 95 by a twentieth.
        ("cvar95_wait_seconds", (100 + 99 + 98 + 97 + 96 + 0.05 * 95) / 5.05),
    ],
)
def test_waits_are_summed_up_as_worked_by_hand(hundred_waits: dict[str, float], metric: str, value: float) -> None:
    assert hundred_waits[metric] == pytest.approx(value)


@given(
    st.lists(st.floats(0, 1e6), min_size=1, max_size=60).map(np.array),
    st.floats(0.01, 1.0),
)
def test_the_mean_of_the_worst_lies_between_mean_and_maximum(waits: np.ndarray, share: float) -> None:
    worst = mean_of_worst(waits, share)
    assert waits.mean() <= worst * (1 + 1e-12) + 1e-9
    assert worst <= waits.max() * (1 + 1e-12) + 1e-9


def test_the_mean_of_the_worst_of_all_is_the_mean() -> None:
    assert mean_of_worst(np.array([1.0, 2.0, 6.0]), 1.0) == pytest.approx(3.0)


def test_waits_are_told_apart_by_what_pods_ask_of_gpus() -> None:
    wanted = [(0, 0), (1, 300), (1, 1000), (2, 1000), (2, 1000)]
    workload = workload_of(TWO_NODES, [Pod(0.0, 10.0, 100, 0, count, milli) for count, milli in wanted])
    metrics = metrics_of(workload, outcome_of(workload, [1.0, 2.0, 4.0, 10.0, 20.0]))
    assert metrics["mean_wait_cpu_only_seconds"] == 1.0
    assert metrics["mean_wait_shared_seconds"] == 2.0
    assert metrics["mean_wait_one_device_seconds"] == 4.0
    assert metrics["mean_wait_several_devices_seconds"] == 15.0
    assert metrics["mean_wait_others_seconds"] == pytest.approx(7 / 3)


def test_a_class_without_pods_has_no_wait() -> None:
    workload = cpu_pods((0.0, 10.0))
    assert math.isnan(metrics_of(workload, outcome_of(workload, [0.0]))["mean_wait_several_devices_seconds"])


def test_slowdown_is_the_time_in_the_system_over_the_duration() -> None:
    workload = cpu_pods((0.0, 20.0), (0.0, 50.0))
    metrics = metrics_of(workload, outcome_of(workload, [0.0, 100.0]))
    assert metrics["mean_slowdown"] == pytest.approx((1.0 + 150 / 50) / 2)


def test_pods_of_a_few_seconds_do_not_rule_the_slowdown() -> None:
    # 1 s of work after 5 s of waiting: unbounded 6, bounded max(1, 6 / 10) = 1; after 49 s: 50 / 10.
    workload = cpu_pods((0.0, 1.0), (0.0, 1.0))
    metrics = metrics_of(workload, outcome_of(workload, [5.0, 49.0]))
    assert metrics["mean_slowdown"] == pytest.approx((1.0 + 5.0) / 2)


def test_work_that_an_eviction_destroyed_counts_in_the_slowdown() -> None:
    # Runs 0-30, is evicted, waits until 40 and runs its 50 s again: 90 s for 50 s of work.
    workload = cpu_pods((0.0, 50.0))
    outcome = outcome_of(workload, [10.0], started=[0.0], finished=[90.0], preempted=[1])
    assert metrics_of(workload, outcome)["mean_slowdown"] == pytest.approx(90 / 50)


def test_a_pod_that_waits_at_the_end_counts_with_its_wait_so_far() -> None:
    workload = cpu_pods((0.0, 10.0), (20.0, 10.0))
    outcome = outcome_of(workload, [0.0, 80.0], started=[0.0, math.nan], end=100.0)
    metrics = metrics_of(workload, outcome)
    assert metrics["mean_wait_seconds"] == 40.0
    assert metrics["mean_slowdown"] == pytest.approx((1.0 + 90 / 10) / 2)


def test_an_evicted_pod_that_waits_at_the_end_counts_with_what_it_ran_in_vain() -> None:
    # Runs 0-100 in vain, waits to the horizon at 150 and would have to run 200 s again.
    workload = cpu_pods((0.0, 200.0))
    outcome = outcome_of(workload, [50.0], started=[0.0], finished=[math.nan], preempted=[1], end=150.0)
    metrics = metrics_of(workload, outcome, horizon=150.0)
    assert metrics["mean_slowdown"] == pytest.approx((150 + 200) / 200)
    assert metrics["mean_wait_seconds"] == 50.0


def test_an_evicted_pod_that_waits_at_the_end_is_unfinished_and_no_success() -> None:
    # The first runs through, the second is evicted and waits, the third still runs at the horizon.
    workload = cpu_pods((0.0, 10.0), (0.0, 200.0), (0.0, 400.0))
    outcome = outcome_of(
        workload, [0.0, 50.0, 0.0], started=[0.0] * 3, finished=[10.0, math.nan, 400.0], preempted=[0, 1, 0], end=150.0
    )
    metrics = metrics_of(workload, outcome, horizon=150.0)
    assert metrics["unfinished"] == 1
    assert metrics["success_rate"] == pytest.approx(2 / 3)
    assert metrics["completion_rate"] == pytest.approx(1 / 3)


def test_an_evicted_pod_of_a_played_episode_that_waits_at_the_horizon_is_unfinished() -> None:
    # One device: the second pod evicts the first at 100 and runs beyond the horizon; pods after it do not arrive.
    first = Pod(0.0, 200.0, 100, 0, 1, 1000)
    second = Pod(100.0, 500.0, 100, 0, 1, 1000, priority=1000)
    workload = workload_of([Node(8000, GIB, (1000,))], [first, second, Pod(900.0, 1.0, 100)])
    arguments = SchedulerArguments(preemption=True, horizon_seconds=150.0)
    outcome = play(workload, "best-fit", arguments, 0)
    metrics = metrics_of(workload, outcome, horizon=150.0)
    assert outcome.preempted.tolist() == [1, 0, 0]
    assert metrics["unfinished"] == 1
    assert metrics["success_rate"] == 0.5
    waited = float(outcome.waited[1])  # of the second pod, until the first is gone
    assert metrics["mean_slowdown"] == pytest.approx(((150 + 200) / 200 + max(1.0, (waited + 500) / 500)) / 2)


def test_a_horizon_before_the_first_counted_pod_leaves_nothing_to_measure() -> None:
    workload = cpu_pods((0.0, 10.0), (1.0, 10.0), (20.0, 10.0), (30.0, 10.0))
    outcome = outcome_of(workload, [0.0] * 4, started=[0.0, 1.0, math.nan, math.nan], end=5.0)
    result = measure("rule", 1.0, 7, workload, outcome, warm_up=0.5, horizon=5.0)
    assert len(result.waits) == 0
    measured = {key: value for key, value in result.metrics.items() if not math.isnan(value)}
    assert measured == {"rejected": 0.0, "unfinished": 0.0, "makespan_seconds": 11.0}  # those of the whole episode


def test_a_horizon_before_the_first_pod_leaves_no_curve() -> None:
    workload = cpu_pods((10.0, 10.0), (20.0, 10.0))
    outcome = outcome_of(workload, [0.0, 0.0], started=[math.nan, math.nan], end=5.0)
    result = measure("rule", 1.0, 7, workload, outcome, horizon=5.0)
    assert np.isnan(result.allocation).all()


def test_pods_that_arrive_in_the_warm_up_are_not_counted() -> None:
    workload = cpu_pods((0.0, 10.0), (1.0, 10.0), (2.0, 10.0), (3.0, 10.0))
    result = measure("rule", 1.0, 7, workload, outcome_of(workload, [100.0, 200.0, 8.0, 11.0]), warm_up=0.5)
    assert result.waits.tolist() == [8.0, 11.0]
    assert result.metrics["mean_wait_seconds"] == 9.5


def test_pods_that_had_not_arrived_at_the_horizon_are_not_counted() -> None:
    workload = cpu_pods((0.0, 10.0), (5.0, 10.0), (50.0, 10.0))
    outcome = outcome_of(workload, [0.0, 7.0, 0.0], started=[0.0, math.nan, math.nan], end=12.0)
    metrics = metrics_of(workload, outcome, horizon=12.0)
    assert metrics["mean_wait_seconds"] == 3.5
    assert metrics["unfinished"] == 1


def test_a_pod_that_no_empty_node_can_hold_is_rejected_not_unfinished() -> None:
    workload = workload_of(TWO_NODES, [Pod(0.0, 10.0, 1000), Pod(1.0, 10.0, 9000), Pod(2.0, 10.0, 1000)])
    outcome = outcome_of(workload, [0.0, 99.0, 98.0], started=[0.0, math.nan, math.nan], end=100.0)
    metrics = metrics_of(workload, outcome)
    assert metrics["rejected"] == 1
    assert metrics["unfinished"] == 1


def test_a_pod_that_no_node_admits_is_rejected() -> None:
    admits = np.array([[True, True], [False, False]])
    workload = workload_of(TWO_NODES, [Pod(0.0, 10.0, 1000), Pod(1.0, 10.0, 1000)], admits=admits)
    outcome = outcome_of(workload, [0.0, 9.0], started=[0.0, math.nan], end=10.0)
    assert metrics_of(workload, outcome)["rejected"] == 1


def test_pods_that_never_start_are_reported_even_from_the_warm_up() -> None:
    workload = cpu_pods((0.0, 10.0), (1.0, 10.0))
    outcome = outcome_of(workload, [50.0, 0.0], started=[math.nan, 1.0], end=50.0)
    assert metrics_of(workload, outcome, warm_up=0.5)["unfinished"] == 1


def test_success_is_to_have_been_placed() -> None:
    workload = cpu_pods(*[(0.0, 10.0)] * 4)
    outcome = outcome_of(workload, [0.0, 1.0, 2.0, 30.0], started=[0.0, 1.0, 2.0, math.nan], end=30.0)
    assert metrics_of(workload, outcome)["success_rate"] == 0.75


def test_completion_is_to_have_ended_by_the_last_arrival() -> None:
    workload = cpu_pods((0.0, 10.0), (0.0, 30.0), (20.0, 10.0))
    assert metrics_of(workload, outcome_of(workload, [0.0, 0.0, 0.0]))["completion_rate"] == pytest.approx(1 / 3)


def test_completion_is_to_have_ended_by_the_horizon_where_there_is_one() -> None:
    workload = cpu_pods((0.0, 10.0), (0.0, 30.0), (20.0, 10.0))
    outcome = outcome_of(workload, [0.0, 0.0, 0.0], end=30.0)
    assert metrics_of(workload, outcome, horizon=30.0)["completion_rate"] == 1.0


def test_evictions_of_counted_pods_add_up() -> None:
    workload = cpu_pods(*[(0.0, 10.0)] * 4)
    outcome = outcome_of(workload, [0.0] * 4, preempted=[5, 0, 2, 1])
    assert metrics_of(workload, outcome, warm_up=0.25)["preemptions"] == 3


def test_makespan_is_from_the_first_arrival_to_the_end_of_the_last_pod() -> None:
    workload = cpu_pods((5.0, 100.0), (10.0, 10.0))
    assert metrics_of(workload, outcome_of(workload, [0.0, 60.0]))["makespan_seconds"] == 100.0


@pytest.fixture(scope="module")
def steady() -> dict[str, float]:
    """Two nodes with four GPUs for an hour, always in the same state."""
    workload = cpu_pods((0.0, 10.0), (3600.0, 10.0))
    rates = {WAITING: 3.0, FRAGMENTED: 0.5, EMPTY_NODES: 0.5, COST: 2.0 / 3600}
    rates |= {RESOURCES: 4000.0, RESOURCES + 1: 16.0 * GIB, RESOURCES + 2: 3000.0}
    return metrics_of(workload, outcome_of(workload, [0.0, 0.0], rates=rates))


@pytest.mark.parametrize(
    ("metric", "value"),
    [
        ("mean_pending", 3.0),
        ("cpu_allocation", 4000 / 16000),
        ("memory_allocation", 16 / 128),
        ("gpu_allocation", 3 / 4),
        ("stranded_gpu", 0.5 / 4),
        ("empty_nodes", 0.5 / 2),
        ("node_hours", 1.5),
        ("cost", 2.0),
    ],
)
def test_what_lasts_is_averaged_over_time(steady: dict[str, float], metric: str, value: float) -> None:
    assert steady[metric] == pytest.approx(value)


def test_time_before_the_first_counted_and_after_the_last_arrival_does_not_count() -> None:
    workload = cpu_pods((0.0, 10.0), (100.0, 10.0), (300.0, 10.0))
    outcome = outcome_of(workload, [0.0, 0.0, 100.0])
    gained = np.array([0.0, 0.0, 200 * 2000.0, 9e9])  # half of the GPUs, from the second arrival to the last
    integrals = outcome.integrals.copy()
    integrals[:, RESOURCES + 2] = gained
    metrics = metrics_of(workload, replace(outcome, integrals=integrals), warm_up=0.34)
    assert metrics["gpu_allocation"] == pytest.approx(0.5)


def test_the_curve_is_the_allocation_of_the_gpus_step_by_step() -> None:
    workload = cpu_pods((0.0, 10.0), (60.0, 10.0), (120.0, 10.0))
    outcome = outcome_of(workload, [0.0, 0.0, 0.0])
    integrals = outcome.integrals.copy()
    integrals[:, RESOURCES + 2] = [0.0, 0.0, 60 * 4000.0, 60 * 4000.0]  # idle, then full
    curve = measure("rule", 1.0, 7, workload, replace(outcome, integrals=integrals)).allocation
    assert curve == pytest.approx([0.0] * (CURVE_POINTS // 2) + [1.0] * (CURVE_POINTS // 2))


def test_a_cluster_without_gpus_has_no_gpu_allocation() -> None:
    workload = workload_of([Node(8000, GIB)], [Pod(0.0, 10.0, 1000), Pod(1.0, 10.0, 1000)])
    result = measure("rule", 1.0, 7, workload, outcome_of(workload, [0.0, 0.0]))
    assert math.isnan(result.metrics["gpu_allocation"])
    assert np.isnan(result.allocation).all()


def test_a_wait_breaks_the_promise_made_to_its_priority() -> None:
    priorities = [0, 0, 1000, 5000]
    workload = workload_of(TWO_NODES, [Pod(0.0, 10.0, 1000, priority=priority) for priority in priorities])
    result = measure(
        "rule", 1.0, 7, workload, outcome_of(workload, [90.0, 110.0, 20.0, 5.0]), service_levels={0: 100.0, 1000: 10.0}
    )
    assert result.metrics["violations"] == 0.5
    assert result.metrics["violations_priority_0"] == 0.5
    assert result.metrics["violations_priority_1000"] == 0.5


def test_a_wait_as_long_as_promised_is_none_too_long() -> None:
    workload = cpu_pods((0.0, 10.0))
    result = measure("rule", 1.0, 7, workload, outcome_of(workload, [100.0]), service_levels={0: 100.0})
    assert result.metrics["violations"] == 0.0


def test_a_priority_below_every_promise_cannot_be_let_down() -> None:
    workload = cpu_pods((0.0, 10.0), priority=-5)
    metrics = metrics_of(workload, outcome_of(workload, [1e6]))
    assert math.isnan(metrics["violations"])
    assert math.isnan(metrics["violations_priority_0"])


def test_an_episode_has_exactly_the_metrics_of_the_catalogue() -> None:
    workload = cpu_pods((0.0, 10.0), (1.0, 10.0))
    assert list(metrics_of(workload, outcome_of(workload, [0.0, 0.0]))) == list(catalogue())


def test_every_resource_and_every_promise_has_its_metric() -> None:
    keys = catalogue(("cpu", "memory", "gpu", "example.com/licence"), {0: 60.0, 10: 30.0, 20: 10.0})
    assert {"example.com/licence_allocation", "violations_priority_10", "violations_priority_20"} < set(keys)


def test_a_class_of_priorities_ends_where_the_next_begins() -> None:
    labels = [metric.label for key, metric in catalogue(service_levels=SERVICE_LEVELS).items() if "priority" in key]
    assert labels == ["violations, priority 0 to 999", "violations, priority 1000 and above"]


def test_a_played_episode_measures_as_worked_by_hand() -> None:
    # Two devices, busy 0-10 and 0-20; the third pod waits 2 -> 10, the fourth 4 -> 15.
    cluster = [Node(8000, GIB, (1000,)), Node(8000, GIB, (1000,))]
    times = [(0.0, 10.0), (0.0, 20.0), (2.0, 5.0), (4.0, 5.0)]
    workload = workload_of(cluster, [Pod(arrival, duration, 100, 0, 1, 1000) for arrival, duration in times])
    result = measure("best-fit", 1.0, 7, workload, play(workload, "best-fit", SchedulerArguments(), 0))
    assert result.waits.tolist() == [0.0, 0.0, 8.0, 11.0]
    assert result.metrics["mean_slowdown"] == pytest.approx((1 + 1 + 13 / 10 + 16 / 10) / 4)
    assert result.metrics["makespan_seconds"] == 20.0
    assert result.metrics["mean_pending"] == pytest.approx(2 / 4)  # one pod, for the last half of the four seconds
    assert result.metrics["gpu_allocation"] == 1.0
