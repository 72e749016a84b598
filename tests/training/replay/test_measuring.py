"""A run that went as in the simulator is measured as the simulator's."""

import math
from dataclasses import replace

import numpy as np
import pytest

from extender.placement import ANY_DEVICE
from extender.policies.bundled import policy_path
from extender.policies.onnx import load_policy
from training.evaluation.metrics import measure
from training.replay import simulated
from training.replay.limits import limits_of
from training.replay.measuring import Course, course_of, course_of_outcome, occupancy
from training.replay.records import Records, empty_records
from training.simulator.scheduling import Outcome, SchedulerArguments, play
from training.workloads.base import Workload
from training.workloads.selection import WorkloadArguments, draw, load_population

SPEED = 50.0
WINDOW = 1e-6
AT_ONCE = limits_of(
    empty_records(np.zeros(1)), np.ones(1), 0, 0, 0, 0
)  # nothing is known of attempts: they take no time


@pytest.fixture(scope="module")
def workload() -> Workload:
    population = load_population(WorkloadArguments(source="synthetic"), 3)
    return draw(
        population,
        WorkloadArguments(source="synthetic"),
        nodes=12,
        pods=300,
        load=0.95,
        generator=np.random.default_rng(7),
    )


def records_of(workload: Workload, outcome: Outcome) -> Records:
    """What a watch would have told of a course, if everything took no time; shuffled, as if submitted out of order."""
    records = empty_records(workload.arrival / SPEED)
    records.created[:] = workload.arrival / SPEED
    records.bound[:] = outcome.started / SPEED
    finished = np.where(outcome.finished > outcome.times[-1], np.nan, outcome.finished)
    records.ended[:] = finished / SPEED
    records.node[:] = outcome.node
    return records


def test_the_metrics_of_a_replayed_course_are_the_simulators(workload: Workload) -> None:
    outcome = play(workload, "kube-scheduler-default", SchedulerArguments(), 1)
    came, course = course_of(records_of(workload, outcome), workload, SPEED, outcome.times[-1] / SPEED)

    simulated_metrics = measure("a", 0.95, 1, workload, outcome, 0.3).metrics
    measured = measure("a", 0.95, 1, came, occupancy(came, course).outcome, 0.3).metrics

    assert simulated_metrics["mean_wait_seconds"] > 0
    for key, value in simulated_metrics.items():
        # Which devices a rule shares is not seen in a cluster: the tightest are assumed, as these rules do.
        assert measured[key] == pytest.approx(value, rel=1e-6, nan_ok=True), key


def test_pods_are_counted_in_the_order_in_which_they_came(workload: Workload) -> None:
    outcome = play(workload, "best-fit", SchedulerArguments(), 1)
    records = records_of(workload, outcome)
    records.created[[10, 11]] = records.created[[11, 10]]

    came, course = course_of(records, workload, SPEED, outcome.times[-1] / SPEED)

    assert np.all(np.diff(course.arrival) >= 0)
    assert came.shape[[10, 11]].tolist() == workload.shape[[11, 10]].tolist()


def on_one_node(workload: Workload, shapes: list[int], devices: int) -> Workload:
    """Pods of these shapes for a single node that has room for them but for their GPUs."""
    return replace(
        workload,
        shape=np.array(shapes),
        arrival=np.zeros(len(shapes)),
        duration=np.full(len(shapes), 60.0),
        priority=np.zeros(len(shapes), np.int64),
        expected=np.zeros(len(shapes)),
        allocatable=np.array([[10**6, 10**15, 1000 * devices]]),
        devices=np.array([devices]),
        model=np.array([0]),
        pod_limit=np.array([110]),
        price=np.array([1.0]),
        admits=np.ones((len(workload.shapes), 1), np.bool_),
    )


def test_a_pod_without_devices_for_it_is_counted(workload: Workload) -> None:
    whole = int(np.flatnonzero((workload.shapes.gpu_count == 1) & (workload.shapes.gpu_milli == 1000))[0])
    two = on_one_node(workload, [whole, whole], devices=1)
    records = empty_records(np.zeros(2))
    records.created[:], records.bound[:], records.node[:] = 0.0, [0.1, 0.2], 0

    assert occupancy(*course_of(records, two, SPEED, 1.0)).overbooked.tolist() == [False, True]


def test_a_policys_own_decisions_agree_and_tell_their_devices(workload: Workload) -> None:
    policy = load_policy(policy_path("bundled:latency"))
    told = simulated.told(workload, policy)
    outcome = play(told, policy, SchedulerArguments(), 1)

    decisions = simulated.decide_again(told, course_of_outcome(told, outcome), policy, WINDOW)

    assert decisions.compared > 100
    assert decisions.agreed == decisions.compared
    assert decisions.agreed_waiting == decisions.compared_waiting
    shared = workload.shapes.gpu_milli[workload.shape]
    assert np.any(decisions.devices[(shared > 0) & (shared < 1000)] != ANY_DEVICE)


def test_the_device_of_a_pod_is_that_of_the_last_state_before_its_node_was_news(workload: Workload) -> None:
    policy = load_policy(policy_path("bundled:latency"))
    whole = int(np.flatnonzero((workload.shapes.gpu_count == 1) & (workload.shapes.gpu_milli == 1000))[0])
    part = int(np.flatnonzero((workload.shapes.gpu_milli > 0) & (workload.shapes.gpu_milli < 1000))[0])
    two = on_one_node(workload, [whole, part], devices=2)
    node = np.zeros(2, np.int64)
    left_before = Course(np.array([0.0, 5.0]), np.array([1.0, 8.0]), np.array([7.0, 20.0]), node, 30.0)
    left_after = replace(left_before, finished=np.array([9.0, 20.0]))

    assert simulated.decide_again(two, left_before, policy, 10.0).devices.tolist() == [ANY_DEVICE, 0]
    assert simulated.decide_again(two, left_after, policy, 10.0).devices.tolist() == [ANY_DEVICE, 1]


def test_another_schedulers_decisions_do_not(workload: Workload) -> None:
    policy = load_policy(policy_path("bundled:latency"))
    told = simulated.told(workload, policy)
    outcome = play(told, "kube-scheduler-default", SchedulerArguments(), 1)

    decisions = simulated.decide_again(told, course_of_outcome(told, outcome), policy, WINDOW)

    assert decisions.agreed < 0.5 * decisions.compared


def test_the_simulator_plays_a_course_of_its_own_again(workload: Workload) -> None:
    policy = load_policy(policy_path("bundled:latency"))
    told = simulated.told(workload, policy)
    arguments = SchedulerArguments(futile_attempts=True)
    real = replace(told, arrival=told.arrival / SPEED, duration=told.duration / SPEED)
    outcome = play(real, policy, arguments, 1)
    came, course = course_of(
        records_of(replace(told, arrival=told.arrival), _scaled(outcome)), told, SPEED, outcome.times[-1]
    )

    (again,) = simulated.simulate(came, course, policy, SPEED, 1, AT_ONCE, courses=1)

    assert np.mean(again.node == outcome.node) > 0.99
    assert np.nanmean(again.waited) == pytest.approx(SPEED * np.nanmean(outcome.waited), rel=0.02)
    devices = simulated.decide_again(came, course, policy, WINDOW).devices
    measured, played = (
        measure("a", 0.95, 1, came, each, 0.3).metrics for each in (occupancy(came, course, devices).outcome, again)
    )
    for key in ("gpu_allocation", "stranded_gpu", "empty_nodes", "node_hours"):
        assert played[key] == pytest.approx(measured[key], rel=0.02), key


def _scaled(outcome: Outcome) -> Outcome:
    scaled = {name: getattr(outcome, name) * SPEED for name in ("started", "finished", "times")}
    return replace(outcome, **scaled)


def test_a_rule_is_played_repeatedly_because_ties_are_chance(workload: Workload) -> None:
    outcome = play(workload, "kube-scheduler-default", SchedulerArguments(), 1)
    came, course = course_of(records_of(workload, outcome), workload, SPEED, outcome.times[-1] / SPEED)

    played = simulated.simulate(came, course, "kube-scheduler-default", SPEED, 1, AT_ONCE, courses=3)

    assert len(played) == 3
    assert not any(math.isnan(float(each.waited.mean())) for each in played)
    assert len({float(each.waited.mean()) for each in played}) == 3
