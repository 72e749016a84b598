import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from extender.placement import (
    ABSENT_DEVICE,
    ANY_DEVICE,
    GPU,
    GPU_POD_CLASSES,
    WHOLE_DEVICE_MILLI,
    Candidates,
    NodeArrays,
    PodRequest,
    devices_after,
    fits,
    is_alternative,
    list_candidates,
    occupy,
    pod_class,
    pod_request,
    release,
    shares_device,
    tightest_device,
)
from tests.clusters import GIB, SILENT_CONTAINER, Node, cluster_of, clusters, copy_of, every_choice, pod_of, pods

PLENTY = 1000


def pairs(candidates: Candidates) -> list[tuple[int, int]]:
    return list(zip(candidates.rows.tolist(), candidates.devices.tolist(), strict=True))


def all_rows(nodes: NodeArrays) -> np.ndarray:
    return np.arange(len(nodes.allocatable))


def left_after(nodes: NodeArrays, pod: PodRequest, candidates: Candidates) -> np.ndarray:
    """What `devices_after` writes, with a row per candidate."""
    after = np.empty((nodes.device_free.shape[1], len(candidates.rows)), np.int64)
    devices_after(nodes, pod, candidates, after)
    return after.T


@pytest.mark.parametrize(
    ("gpu_count", "gpu_milli", "shares"), [(0, 0, False), (1, 500, True), (1, 1000, False), (2, 1000, False)]
)
def test_only_a_pod_with_part_of_one_device_shares(gpu_count, gpu_milli, shares):
    assert shares_device(pod_of(gpu_count=gpu_count, gpu_milli=gpu_milli)) == shares


@pytest.mark.parametrize(("gpu_count", "gpu_milli", "kind"), [(1, 500, 0), (1, 1000, 1), (8, 1000, 8), (16, 1000, 8)])
def test_gpu_pods_are_of_a_class_by_their_number_of_devices(gpu_count, gpu_milli, kind):
    assert pod_class(pod_of(gpu_count=gpu_count, gpu_milli=gpu_milli)) == kind


def test_a_pod_of_one_container_counts_in_scores_what_it_asks_for_or_else_the_default():
    assert pod_request(np.array([500, 0, 0])).nonzero.tolist() == [500, SILENT_CONTAINER[1]]
    assert pod_request(np.array([0, GIB, 0])).nonzero.tolist() == [SILENT_CONTAINER[0], GIB]


def test_a_pod_fits_into_exactly_what_is_free():
    nodes = cluster_of(Node(4000, 8 * GIB, cpu_used=1000), Node(4000, 8 * GIB, cpu_used=1001))
    assert fits(nodes, pod_of(cpu=3000), all_rows(nodes)).tolist() == [True, False]


def test_a_resource_that_is_not_asked_for_is_not_compared():
    overcommitted = cluster_of(Node(4000, 8 * GIB, cpu_used=5000))
    assert fits(overcommitted, pod_of(memory=GIB), np.array([0])).tolist() == [True]


def test_a_pod_needs_as_many_devices_with_room_as_it_asks_for():
    nodes = cluster_of(Node(4000, GIB, (1000, 500, 1000)), Node(4000, GIB, (1000, 999, 999)), Node(4000, GIB))
    assert fits(nodes, pod_of(gpu_count=2, gpu_milli=1000), all_rows(nodes)).tolist() == [True, False, False]


@given(clusters(), pods())
def test_one_row_alone_gets_the_answer_it_gets_among_others(nodes, pod):
    rows = all_rows(nodes)
    together, tightest = fits(nodes, pod, rows), tightest_device(nodes, pod, rows)
    assert [bool(fits(nodes, pod, row)) for row in rows.tolist()] == together.tolist()
    assert [int(tightest_device(nodes, pod, row)) for row in rows.tolist()] == tightest.tolist()
    for device in range(nodes.device_free.shape[1]):
        alone = [bool(is_alternative(nodes, pod, row, device, int(tightest[row]))) for row in rows.tolist()]
        assert alone == is_alternative(nodes, pod, rows, device, tightest).tolist()


@given(clusters(), pods())
def test_the_afterstate_of_one_candidate_alone_is_its_afterstate_among_others(nodes, pod):
    candidates = list_candidates(nodes, pod, all_rows(nodes), PLENTY)
    alone = np.empty(nodes.device_free.shape[1], np.int64)
    for (row, device), after in zip(pairs(candidates), left_after(nodes, pod, candidates), strict=True):
        devices_after(nodes, pod, Candidates(row, device), alone)
        assert alone.tolist() == after.tolist()


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
    nodes = cluster_of(
        Node(8000, GIB, (1000, 400, 300, 400)), Node(8000, GIB, (200, 100, 0)), Node(8000, GIB, (1000, 1000, 500, 500))
    )
    pod = pod_of(gpu_count=1, gpu_milli=400)
    assert tightest_device(nodes, pod, all_rows(nodes)).tolist() == [1, ANY_DEVICE, 2]


def test_a_limit_keeps_the_first_alternatives():
    nodes = cluster_of(Node(8000, GIB, (1000, 500, 700)), Node(8000, GIB, (500,)))
    pod = pod_of(gpu_count=1, gpu_milli=400)
    listed = [pairs(list_candidates(nodes, pod, all_rows(nodes), limit)) for limit in (4, 3, 2)]
    assert listed == [[(0, 1), (1, 0), (0, 0), (0, 2)], [(0, 1), (1, 0), (0, 0)], [(0, 1), (1, 0)]]


def test_the_afterstate_of_several_devices_takes_whole_ones_in_order():
    nodes = cluster_of(Node(8000, GIB, (500, 1000, 1000, 1000)), Node(8000, GIB, (1000, 0, 1000)), device_slots=4)
    pod = pod_of(gpu_count=2, gpu_milli=1000)
    after = left_after(nodes, pod, Candidates(all_rows(nodes), np.full(2, ANY_DEVICE)))
    assert after.tolist() == [[500, 0, 0, 1000], [0, 0, 0, ABSENT_DEVICE]]


@given(clusters(), pods())
def test_the_afterstate_is_what_occupying_leaves(nodes, pod):
    candidates = list_candidates(nodes, pod, all_rows(nodes), PLENTY)
    after = left_after(nodes, pod, candidates)
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

        asked_for, counted_in_scores = before.requested.copy(), before.nonzero.copy()
        by_class = before.gpu_pods.copy()
        for pod_there, row_there, _ in running:
            asked_for[row_there] += pod_there.request
            counted_in_scores[row_there] += pod_there.nonzero
            by_class[row_there] += np.arange(GPU_POD_CLASSES) == (pod_class(pod_there) if pod_there.gpu_count else -1)
        present = before.device_free != ABSENT_DEVICE
        devices_in_use = np.where(present, WHOLE_DEVICE_MILLI - nodes.device_free, 0).sum(axis=1)
        assert nodes.requested.tolist() == asked_for.tolist()
        assert nodes.nonzero.tolist() == counted_in_scores.tolist()
        assert nodes.gpu_pods.tolist() == by_class.tolist()
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
