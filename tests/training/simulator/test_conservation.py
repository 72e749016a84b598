"""Nothing is lost and nothing is made up: after every instant the sums are those over the pods that run."""

from collections import Counter
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from extender.fragmentation import fragmentation, fragmentation_tables
from extender.placement import ABSENT_DEVICE, CPU, GPU_POD_CLASSES, WHOLE_DEVICE_MILLI, fits, pod_class, shares_device
from extender.policies.heuristics import RULES
from tests.training.simulator.played import until
from tests.training.simulator.reference import entries, pods_on
from tests.training.simulator.schedulers import schedulers
from tests.training.small_workloads import workloads
from training.simulator.scheduling import SchedulerArguments, play
from training.simulator.state import (
    COST,
    EMPTY_NODES,
    EMPTY_NODES_NOW,
    NOBODY,
    NOW,
    NOWHERE,
    PARKED,
    PLACED,
    RESERVATIONS,
    RESOURCES,
    WAITING,
    WITHHELD_NOW,
    Episode,
    pod_request_of,
)
from training.workloads.base import Workload

SECONDS_AN_HOUR = 3600.0
IN_ANY_WAY = {"workload": workloads(), "arguments": schedulers(), "rule": st.sampled_from(sorted(RULES))}


def every_instant(workload: Workload, arguments: SchedulerArguments, rule: str):
    """The episode as it is after each instant at which a pod comes or leaves for good, and at its end."""
    outcome = play(workload, rule, arguments, 0)
    times = np.concatenate([outcome.times, outcome.finished[outcome.finished < outcome.times[-1]]])
    for time in np.unique(times):
        yield until(workload, time, arguments, rule)


def running(episode: Episode) -> list[int]:
    return [pod for _, pod in entries(episode.running)]


def pending(episode: Episode) -> list[int]:
    queued = [pod for heap in (episode.active, episode.backoff) for _, pod in entries(heap)]
    return [*queued, *parked(episode)]


def parked(episode: Episode) -> list[int]:
    return episode.parked[: episode.counters[PARKED]].tolist()


@settings(max_examples=30)
@given(**IN_ANY_WAY)
def test_what_is_requested_is_the_sum_of_what_runs(workload, arguments, rule):
    for episode in every_instant(workload, arguments, rule):
        nodes, cluster = episode.cluster.nodes, episode.cluster
        requested, nonzero = np.zeros_like(nodes.requested), np.zeros_like(nodes.nonzero)
        gpu_pods, count = np.zeros((len(requested), GPU_POD_CLASSES), np.int64), np.zeros(len(requested), np.int64)
        for pod in running(episode):
            request, row = pod_request_of(episode, pod), episode.pods.node[pod]
            requested[row] += request.request
            nonzero[row] += request.nonzero
            count[row] += 1
            if request.gpu_count > 0:
                gpu_pods[row, pod_class(request)] += 1
        np.testing.assert_array_equal(nodes.requested, requested)
        np.testing.assert_array_equal(nodes.nonzero, nonzero)
        np.testing.assert_array_equal(nodes.gpu_pods, gpu_pods)
        np.testing.assert_array_equal(cluster.pod_count, count)
        np.testing.assert_array_equal(cluster.in_use, requested.sum(axis=0))
        assert episode.counters[EMPTY_NODES_NOW] == np.sum(count == 0)
        assert cluster.rates[1] == pytest.approx(workload.price[count > 0].sum())
        assert np.all(requested <= nodes.allocatable)
        assert np.all(count <= workload.pod_limit)


@settings(max_examples=30)
@given(**IN_ANY_WAY)
def test_devices_hold_what_the_pods_on_them_take(workload, arguments, rule):
    for episode in every_instant(workload, arguments, rule):
        slots = np.arange(episode.cluster.nodes.device_free.shape[1])
        left = np.where(slots < workload.devices[:, None], WHOLE_DEVICE_MILLI, ABSENT_DEVICE)
        for pod in running(episode):
            request, taken = pod_request_of(episode, pod), int(episode.pods.taken[pod])
            devices = [device for device in slots if taken >> device & 1]
            assert len(devices) == request.gpu_count
            left[episode.pods.node[pod], devices] -= request.gpu_milli
            assert shares_device(request) or not devices or np.all(left[episode.pods.node[pod], devices] == 0)
        np.testing.assert_array_equal(episode.cluster.nodes.device_free, left)
        assert np.all(left >= ABSENT_DEVICE)


@settings(max_examples=30)
@given(**IN_ANY_WAY)
def test_fragmentation_is_measured_anew_or_kept_alike(workload, arguments, rule):
    tables = fragmentation_tables(workload.typical)
    for episode in every_instant(workload, arguments, rule):
        nodes = episode.cluster.nodes
        cpu_free = nodes.allocatable[:, CPU] - nodes.requested[:, CPU]
        wasted = fragmentation(tables, nodes.model, cpu_free, nodes.device_free.T)
        np.testing.assert_array_equal(episode.cluster.fragmentation, wasted)
        assert episode.cluster.rates[0] == pytest.approx(wasted.sum(), abs=1e-6)


@settings(max_examples=30)
@given(**IN_ANY_WAY)
def test_every_pod_is_in_one_place(workload, arguments, rule):
    for episode in every_instant(workload, arguments, rule):
        now, pods = episode.clock[NOW], episode.pods
        places = Counter([*running(episode), *pending(episode)])
        places.update(np.flatnonzero(pods.arrival > now).tolist())  # still to come
        places.update(pod for pod in np.flatnonzero(pods.finishes <= now).tolist() if pod not in running(episode))
        assert places == Counter(range(len(workload)))
        on_nodes = [(row, pod) for row in range(len(workload.allocatable)) for pod in pods_on(episode, row)]
        assert sorted(on_nodes) == sorted((pods.node[pod], pod) for pod in running(episode))
        assert episode.counters[PLACED] == np.sum(~np.isnan(pods.started))
        assert np.all(np.isnan(pods.finishes[pending(episode)]))


@given(**IN_ANY_WAY)
def test_no_pod_runs_where_it_is_not_admitted(workload, arguments, rule):
    outcome = play(workload, rule, arguments, 0)
    placed = np.flatnonzero(outcome.node != NOWHERE)
    assert np.all(workload.admits[workload.shape[placed], outcome.node[placed]])


@settings(max_examples=30)
@given(**IN_ANY_WAY)
def test_pods_are_parked_only_while_they_fit_nowhere_or_are_kept_away(workload, arguments, rule):
    for episode in every_instant(workload, arguments, rule):
        pods, cluster = episode.pods, episode.cluster
        rows = np.arange(len(workload.allocatable))
        has_place = cluster.pod_count < cluster.pod_limit
        for pod in parked(episode):
            room = fits(cluster.nodes, pod_request_of(episode, pod), rows) & has_place
            somewhere = np.any(room & cluster.admits[pods.shape[pod]])
            assert pods.withheld[pod] or not somewhere
            assert episode.shapes.hopeless[pods.shape[pod]] or pods.withheld[pod]
        for shape in np.flatnonzero(episode.shapes.hopeless):
            pod = int(np.flatnonzero(pods.shape == shape)[0])
            room = fits(cluster.nodes, pod_request_of(episode, pod), rows) & has_place
            assert not np.any(room & cluster.admits[shape])
        withheld = np.flatnonzero(pods.withheld).tolist()
        assert set(withheld) <= set(parked(episode))
        assert episode.counters[WITHHELD_NOW] == len(withheld)
        if episode.busy_until[0] <= episode.clock[NOW]:  # whoever is to be tried has been
            assert episode.active.size[0] == 0
            assert episode.backoff.size[0] == 0 or not arguments.pop_from_backoff


@settings(max_examples=30)
@given(**IN_ANY_WAY)
def test_a_reservation_is_that_of_one_pending_pod_on_one_node(workload, arguments, rule):
    for episode in every_instant(workload, arguments, rule):
        cluster, pods = episode.cluster, episode.pods
        held = np.flatnonzero(cluster.reserved_for != NOBODY)
        holders = cluster.reserved_for[held]
        np.testing.assert_array_equal(pods.reserves[holders], held)
        assert episode.counters[RESERVATIONS] == len(held) == np.sum(pods.reserves != NOWHERE)
        assert set(holders.tolist()) <= set(pending(episode))
        assert np.all(workload.admits[workload.shape[holders], held])
        assert np.all(np.isinf(np.delete(cluster.reserved_until, held)))


@given(workloads(), schedulers(preemption=False), st.sampled_from(sorted(RULES)))
def test_integrals_are_those_of_the_pods_lives(workload, arguments, rule):
    outcome = play(workload, rule, arguments, 0)
    request = workload.shapes.request[workload.shape]
    for time, integrals in zip(outcome.times, outcome.integrals, strict=True):
        # A pod that has not started, or not left, by then counts up to then.
        began = np.fmin(outcome.started, time)
        lived = np.fmax(np.fmin(outcome.finished, time) - began, 0)
        lived[np.isnan(outcome.started)] = 0
        assert integrals[WAITING] == pytest.approx(np.maximum(began - workload.arrival, 0).sum())
        np.testing.assert_allclose(integrals[RESOURCES:], lived @ request)
        in_use = 0.0
        for row in range(len(workload.allocatable)):
            there = np.flatnonzero((outcome.node == row) & (lived > 0))
            edges = np.unique(np.concatenate([began[there], began[there] + lived[there]]))
            busy = [
                after - before
                for before, after in pairwise(edges)
                if np.any((began[there] <= before) & (began[there] + lived[there] >= after))
            ]
            in_use += sum(busy)
        assert integrals[EMPTY_NODES] == pytest.approx(time * len(workload.allocatable) - in_use)


@given(**IN_ANY_WAY)
def test_the_wait_of_all_is_the_sum_of_the_waits(workload, arguments, rule):
    outcome = play(workload, rule, arguments, 0)
    assert outcome.integrals[-1, WAITING] == pytest.approx(outcome.waited.sum())
    assert np.all(np.diff(outcome.integrals, axis=0) >= -1e-9)


@given(workloads(nodes_at_most=1), schedulers())
def test_a_node_costs_while_it_is_not_empty(workload, arguments):
    outcome = play(workload, "first-fit", arguments, 0)
    seconds = outcome.times[-1] - outcome.integrals[-1, EMPTY_NODES]
    assert outcome.integrals[-1, COST] == pytest.approx(workload.price[0] * seconds / SECONDS_AN_HOUR)
