import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from extender.placement import (
    ABSENT_DEVICE,
    ANY_DEVICE,
    GPU,
    WHOLE_DEVICE_MILLI,
    Candidates,
    NodeArrays,
    devices_after,
    fits_resources,
    list_candidates,
    occupy,
    release,
    shares_device,
    tightest_devices,
)
from tests.clusters import GIB, Node, cluster_of, clusters, copy_of, every_choice, pod_of, pods

PLENTY = 1000


def pairs(candidates: Candidates) -> list[tuple[int, int]]:
    return list(zip(candidates.rows.tolist(), candidates.devices.tolist(), strict=True))


def all_rows(nodes: NodeArrays) -> np.ndarray:
    return np.arange(len(nodes.allocatable))


@pytest.mark.parametrize(
    ("gpu_count", "gpu_milli", "shares"), [(0, 0, False), (1, 500, True), (1, 1000, False), (2, 1000, False)]
)
def test_only_a_pod_with_part_of_one_device_shares(gpu_count, gpu_milli, shares):
    assert shares_device(pod_of(gpu_count=gpu_count, gpu_milli=gpu_milli)) == shares


def test_a_pod_fits_into_exactly_what_is_free():
    nodes = cluster_of(Node(4000, 8 * GIB, cpu_used=1000), Node(4000, 8 * GIB, cpu_used=1001))
    assert fits_resources(nodes, pod_of(cpu=3000), all_rows(nodes)).tolist() == [True, False]


def test_a_resource_that_is_not_asked_for_is_not_compared():
    overcommitted = cluster_of(Node(4000, 8 * GIB, cpu_used=5000))
    assert fits_resources(overcommitted, pod_of(memory=GIB), np.array([0])).tolist() == [True]


@given(clusters(), pods())
def test_every_feasible_node_and_level_of_device_is_listed_once_tightest_first(nodes, pod):
    tightest, looser = every_choice(nodes, pod, range(len(nodes.allocatable)))
    listed = pairs(list_candidates(nodes, pod, all_rows(nodes), PLENTY))
    assert listed[: len(tightest)] == tightest
    assert sorted(listed[len(tightest) :]) == sorted(looser)


@given(clusters(), pods(), st.data())
def test_only_the_given_rows_are_looked_at(nodes, pod, data):
    rows = data.draw(st.lists(st.integers(0, len(nodes.allocatable) - 1), unique=True))
    tightest, looser = every_choice(nodes, pod, rows)
    listed = pairs(list_candidates(nodes, pod, np.array(rows, np.int64), PLENTY))
    assert sorted(listed) == sorted(tightest + looser)


@given(clusters(), pods(), st.integers(0, 3))
def test_a_limit_of_the_number_of_nodes_cuts_alternatives_only(nodes, pod, more):
    limit = len(nodes.allocatable) + more
    everything = pairs(list_candidates(nodes, pod, all_rows(nodes), PLENTY))
    cut = pairs(list_candidates(nodes, pod, all_rows(nodes), limit))
    assert cut == everything[:limit]
    assert {row for row, _ in cut} == {row for row, _ in everything}


def test_the_tightest_device_is_the_fullest_that_still_has_room_and_the_first_of_equals():
    free = np.array([[1000, 400, 300, 400], [200, 100, 0, ABSENT_DEVICE], [1000, 1000, 500, 500]])
    assert tightest_devices(free, 400).tolist() == [1, ANY_DEVICE, 2]


def test_a_limit_keeps_the_first_alternatives():
    nodes = cluster_of(Node(8000, GIB, (1000, 500, 700)), Node(8000, GIB, (500,)))
    pod = pod_of(gpu_count=1, gpu_milli=400)
    listed = [pairs(list_candidates(nodes, pod, all_rows(nodes), limit)) for limit in (4, 3, 2)]
    assert listed == [[(0, 1), (1, 0), (0, 0), (0, 2)], [(0, 1), (1, 0), (0, 0)], [(0, 1), (1, 0)]]


def test_the_afterstate_of_several_devices_takes_whole_ones_in_order():
    free = np.array([[500, 1000, 1000, 1000], [1000, 0, 1000, ABSENT_DEVICE]])
    after = devices_after(free, pod_of(gpu_count=2, gpu_milli=1000), np.full(2, ANY_DEVICE))
    assert after.tolist() == [[500, 0, 0, 1000], [0, 0, 0, ABSENT_DEVICE]]


@given(clusters(), pods())
def test_the_afterstate_is_what_occupying_leaves(nodes, pod):
    candidates = list_candidates(nodes, pod, all_rows(nodes), PLENTY)
    after = devices_after(nodes.device_free[candidates.rows], pod, candidates.devices)
    for index, (row, device) in enumerate(pairs(candidates)):
        changed = copy_of(nodes)
        occupy(changed, pod, row, device)
        assert changed.device_free[row].tolist() == after[index].tolist()


@given(clusters(), st.lists(st.tuples(pods(), st.integers(0, 99), st.integers(0, 99)), max_size=12))
def test_capacity_is_conserved_while_pods_come_and_go(nodes, arrivals):
    before = copy_of(nodes)
    running = []
    for pod, choice, leaving in arrivals:
        candidates = pairs(list_candidates(nodes, pod, all_rows(nodes), PLENTY))
        if candidates:
            row, device = candidates[choice % len(candidates)]
            running.append((pod, row, occupy(nodes, pod, row, device)))
        if running and leaving % 3 == 0:
            release(nodes, *running.pop(leaving % len(running)))

        asked_for = before.requested.copy()
        for pod_there, row_there, _ in running:
            asked_for[row_there] += pod_there.request
        present = before.device_free != ABSENT_DEVICE
        devices_in_use = np.where(present, WHOLE_DEVICE_MILLI - nodes.device_free, 0).sum(axis=1)
        assert nodes.requested.tolist() == asked_for.tolist()
        assert devices_in_use.tolist() == nodes.requested[:, GPU].tolist()
        assert np.all(nodes.requested <= nodes.allocatable)
        assert np.all(nodes.device_free[present] >= 0)
        assert np.all(nodes.device_free[~present] == ABSENT_DEVICE)

    for pod, row, taken in reversed(running):
        release(nodes, pod, row, taken)
    for array, original in zip(nodes, before, strict=True):
        assert array.tolist() == original.tolist()


def test_a_sharing_pod_without_a_named_device_takes_the_tightest():
    nodes = cluster_of(Node(8000, 8 * GIB, (1000, 500, 700)))
    assert occupy(nodes, pod_of(gpu_count=1, gpu_milli=400), 0, ANY_DEVICE) == 0b010
    assert nodes.device_free[0, :3].tolist() == [1000, 100, 700]


def test_a_pod_with_several_devices_takes_the_first_whole_ones():
    nodes = cluster_of(Node(8000, 8 * GIB, (1000, 500, 1000, 1000)))
    assert occupy(nodes, pod_of(gpu_count=2, gpu_milli=1000), 0, ANY_DEVICE) == 0b101
    assert nodes.device_free[0, :4].tolist() == [0, 500, 0, 1000]


@given(pods().filter(lambda pod: pod.gpu_count > 0))
def test_a_pod_that_somebody_put_where_too_few_devices_are_counts_and_leaves_without_trace(pod):
    nodes = cluster_of(Node(1000, GIB, (1000, 50)))
    before = copy_of(nodes)
    occupy(nodes, pod, 0, ANY_DEVICE)  # puts a first pod there, which may already be too much
    occupied = copy_of(nodes)
    taken = occupy(nodes, pod, 0, ANY_DEVICE)
    assert nodes.requested[0].tolist() == (before.requested[0] + 2 * pod.request).tolist()
    assert np.all(nodes.device_free[0, :2] >= 0)
    release(nodes, pod, 0, taken)
    for array, original in zip(nodes, occupied, strict=True):
        assert array.tolist() == original.tolist()


def test_a_sharing_pod_takes_no_part_of_a_named_device_that_is_too_full():
    nodes = cluster_of(Node(1000, GIB, (100, 1000)))
    assert occupy(nodes, pod_of(gpu_count=1, gpu_milli=400), 0, 0) == 0
    assert nodes.device_free[0, :2].tolist() == [100, 1000]
