from collections import Counter
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from extender.cluster.state import UNKNOWN_ROW, ClusterState
from extender.placement import ABSENT_DEVICE, PodRequest, pod_class
from tests.extender.objects import request

RESOURCES = ("cpu", "memory", "gpu")
MIB = 2**20


def capacity(cpu_milli: int = 8000, devices: int = 0) -> np.ndarray[Any, np.dtype[np.int64]]:
    return np.array([cpu_milli, 64, devices * 1000], dtype=np.int64)


def state_with(**devices_of: int) -> ClusterState:
    state = ClusterState(RESOURCES)
    for name, devices in devices_of.items():
        state.put_node(name, capacity(devices=devices), devices)
    return state


def requested(state: ClusterState, node: str) -> list[int]:
    amounts: list[int] = state.arrays.requested[state.row_of(node)].tolist()
    return amounts


def counted_in_scores(state: ClusterState, node: str) -> list[int]:
    amounts: list[int] = state.arrays.nonzero[state.row_of(node)].tolist()
    return amounts


def gpu_pods(state: ClusterState, node: str) -> dict[int, int]:
    """How many GPU pods of each class there are."""
    counts = state.arrays.gpu_pods[state.row_of(node)].tolist()
    return {kind: count for kind, count in enumerate(counts) if count}


def devices_free(state: ClusterState, node: str) -> list[int]:
    free = state.arrays.device_free[state.row_of(node)]
    left: list[int] = free[free != ABSENT_DEVICE].tolist()
    return left


def test_a_pod_counts_on_its_node_until_it_is_removed() -> None:
    state = state_with(a=2)
    state.put_pod("u", "a", request(500, 8, 1, 300))
    assert (requested(state, "a"), devices_free(state, "a")) == ([500, 8, 300], [700, 1000])

    assert state.remove_pod("u")
    assert (requested(state, "a"), devices_free(state, "a")) == ([0, 0, 0], [1000, 1000])
    assert not state.remove_pod("u")


def test_the_same_pod_again_changes_nothing_not_even_the_generation() -> None:
    state = state_with(a=1)
    state.put_pod("u", "a", request(500))
    generation = state.generation[state.row_of("a")]

    state.put_pod("u", "a", request(500))

    assert requested(state, "a") == [500, 0, 0]
    assert state.generation[state.row_of("a")] == generation


def test_a_pod_seen_on_another_node_leaves_the_first() -> None:
    state = state_with(a=1, b=1)
    state.put_pod("u", "a", request(500, 0, 1, 1000))
    state.put_pod("u", "b", request(500, 0, 1, 1000))

    assert (requested(state, "a"), devices_free(state, "a")) == ([0, 0, 0], [1000])
    assert (requested(state, "b"), devices_free(state, "b")) == ([500, 0, 1000], [0])


def test_a_pod_on_a_node_not_yet_known_counts_as_soon_as_the_node_appears() -> None:
    state = ClusterState(RESOURCES)
    state.put_pod("u", "late", request(500, 0, 1, 1000))
    assert len(state) == 0

    state.put_node("late", capacity(devices=2), 2)

    assert (requested(state, "late"), devices_free(state, "late")) == ([500, 0, 1000], [0, 1000])


def test_a_node_that_comes_back_has_the_pods_that_never_left() -> None:
    state = state_with(a=0, b=0)
    state.put_pod("stays", "a", request(500))
    state.put_pod("goes", "a", request(250))

    state.remove_node("a")
    state.remove_pod("goes")
    state.put_node("c", capacity(), 0)
    state.put_node("a", capacity(), 0)

    assert requested(state, "a") == [500, 0, 0]
    assert requested(state, "c") == [0, 0, 0]


def test_rows_of_deleted_nodes_are_reused_and_their_generation_goes_on() -> None:
    state = state_with(a=0)
    row = state.row_of("a")
    generation = state.generation[row]

    state.remove_node("a")
    state.put_node("b", capacity(), 0)

    assert state.row_of("b") == row
    assert state.generation[row] > generation


def test_a_deleted_node_offers_nothing() -> None:
    state = state_with(a=1)
    row = state.row_of("a")
    state.put_pod("u", "a", request(500, 0, 1, 1000))

    assert state.remove_node("a")

    assert state.rows_of(["a"]).tolist() == [UNKNOWN_ROW]
    assert not state.arrays.allocatable[row].any()
    assert not state.arrays.requested[row].any()
    assert state.pods["u"].taken == 0
    assert not state.remove_node("a")


def test_rows_grow_without_losing_anything() -> None:
    state = ClusterState(RESOURCES)
    names = [f"node-{number}" for number in range(300)]
    for number, name in enumerate(names):
        state.put_node(name, capacity(number + 1), 0)
        state.put_pod(f"u{number}", name, request(number))

    rows = state.rows_of(names)
    assert state.arrays.allocatable[rows, 0].tolist() == list(range(1, 301))
    assert state.arrays.requested[rows, 0].tolist() == list(range(300))
    assert [state.name_of(row) for row in rows.tolist()] == names


def test_new_allocatable_amounts_leave_the_pods_counted() -> None:
    state = state_with(a=0)
    state.put_pod("u", "a", request(500))

    state.put_node("a", capacity(16000), 0)

    assert state.arrays.allocatable[state.row_of("a"), 0] == 16000
    assert requested(state, "a") == [500, 0, 0]


def test_a_node_that_gains_devices_keeps_those_in_use() -> None:
    state = state_with(a=1)
    state.put_pod("u", "a", request(0, 0, 1, 300))

    state.put_node("a", capacity(devices=3), 3)

    assert sorted(devices_free(state, "a")) == [700, 1000, 1000]


def test_a_heartbeat_that_says_nothing_new_leaves_the_generation() -> None:
    state = state_with(a=1)
    generation = state.generation[state.row_of("a")]

    state.put_node("a", capacity(devices=1), 1)

    assert state.generation[state.row_of("a")] == generation


def test_a_resized_pod_keeps_its_device() -> None:
    state = state_with(a=2)
    state.put_pod("u", "a", request(500, 0, 1, 300), device=1)

    state.put_pod("u", "a", request(900, 0, 1, 300))

    assert (requested(state, "a"), devices_free(state, "a")) == ([900, 0, 300], [1000, 700])


def test_a_pod_that_asks_for_nothing_counts_in_scores_while_it_is_there() -> None:
    state = state_with(a=0)
    state.put_pod("u", "a", request(0))
    assert (requested(state, "a"), counted_in_scores(state, "a")) == ([0, 0, 0], [100, 200 * MIB])

    state.remove_pod("u")
    assert counted_in_scores(state, "a") == [0, 0]


def test_gpu_pods_are_counted_by_the_number_of_their_devices_while_they_are_there() -> None:
    state = state_with(a=4)
    for number, gpus in enumerate([(0, 0), (1, 250), (1, 250), (1, 1000), (2, 1000)]):
        state.put_pod(f"u{number}", "a", request(0, 0, *gpus))
    assert gpu_pods(state, "a") == {0: 2, 1: 1, 2: 1}

    state.remove_pod("u1")
    assert gpu_pods(state, "a") == {0: 1, 1: 1, 2: 1}


def test_a_resize_that_only_scores_see_is_a_change() -> None:
    state = state_with(a=0)
    state.put_pod("u", "a", request(0))
    generation = state.generation[state.row_of("a")]

    state.put_pod("u", "a", request(0)._replace(nonzero=np.array([0, 0])))

    assert counted_in_scores(state, "a") == [0, 0]
    assert state.generation[state.row_of("a")] == generation + 1


def test_a_pod_that_moves_or_changes_its_gpus_changes_the_counts_of_both_nodes() -> None:
    state = state_with(a=2, b=2)
    state.put_pod("u", "a", request(0, 0, 1, 500))
    state.put_pod("u", "b", request(0, 0, 1, 500))
    assert (gpu_pods(state, "a"), gpu_pods(state, "b")) == ({}, {0: 1})
    assert (counted_in_scores(state, "a"), counted_in_scores(state, "b")) == ([0, 0], [100, 200 * MIB])

    state.put_pod("u", "b", request(0, 0, 2, 1000))
    assert gpu_pods(state, "b") == {2: 1}


def test_what_a_deleted_nodes_pods_counted_is_gone_from_its_row() -> None:
    state = state_with(a=1)
    row = state.row_of("a")
    state.put_pod("u", "a", request(500, 0, 1, 1000))
    state.remove_node("a")

    assert not state.arrays.nonzero[row].any()
    assert not state.arrays.gpu_pods[row].any()


def test_a_pod_without_room_on_a_device_gets_one_when_another_leaves() -> None:
    state = state_with(a=1)
    state.put_pod("first", "a", request(0, 0, 1, 1000))
    state.put_pod("squeezed in by others", "a", request(0, 0, 1, 600))
    assert (requested(state, "a"), devices_free(state, "a")) == ([0, 0, 1600], [0])

    state.remove_pod("first")

    assert devices_free(state, "a") == [400]


def test_pods_are_packed_anew_when_a_guess_about_their_devices_proves_wrong() -> None:
    state = state_with(a=2)
    # Guessed onto the first device together; with 500 on either, the whole device would not have fitted.
    state.put_pod("one", "a", request(0, 0, 1, 500), device=0)
    state.put_pod("two", "a", request(0, 0, 1, 500), device=1)

    state.put_pod("whole", "a", request(0, 0, 1, 1000))

    assert devices_free(state, "a") == [0, 0]
    assert not state.pods["whole"].lacks_devices()


def test_a_pod_that_wants_devices_of_a_node_without_any_is_counted_all_the_same() -> None:
    state = state_with(a=0)
    state.put_pod("u", "a", request(500, 0, 2, 1000))

    assert requested(state, "a") == [500, 0, 2000]
    state.remove_pod("u")
    assert requested(state, "a") == [0, 0, 0]


NODES = ("a", "b", "c")
requests = st.builds(
    lambda cpu, gpus, nonzero: request(cpu, 0, *gpus)._replace(nonzero=np.array(nonzero)),
    st.integers(0, 3000),
    st.sampled_from([(0, 0), (1, 250), (1, 500), (1, 700), (1, 1000), (2, 1000)]),
    st.tuples(st.integers(0, 3000), st.integers(0, 3) | st.just(200 * MIB)),
)
operations = st.one_of(
    st.tuples(st.just("put_node"), st.sampled_from(NODES), st.integers(0, 3)),
    st.tuples(st.just("remove_node"), st.sampled_from(NODES), st.none()),
    st.tuples(st.just("put_pod"), st.sampled_from("uvwxyz"), st.tuples(st.sampled_from(NODES), requests)),
    st.tuples(st.just("remove_pod"), st.sampled_from("uvwxyz"), st.none()),
)


@settings(max_examples=300)
@given(st.lists(operations, max_size=60))
def test_after_any_events_the_state_is_what_a_recount_gives(events: list[tuple[str, str, Any]]) -> None:
    state = ClusterState(RESOURCES)
    nodes: dict[str, int] = {}
    pods: dict[str, tuple[str, PodRequest]] = {}
    for operation, key, what in events:
        if operation == "put_node":
            state.put_node(key, capacity(devices=what), what)
            nodes[key] = what
        elif operation == "remove_node":
            assert state.remove_node(key) == (nodes.pop(key, None) is not None)
        elif operation == "put_pod":
            state.put_pod(key, *what)
            pods[key] = what
        else:
            assert state.remove_pod(key) == (pods.pop(key, None) is not None)

    assert sorted(state.node_names()) == sorted(nodes)
    assert state.pods.keys() == pods.keys()
    for name, devices in nodes.items():
        here = [asked for node, asked in pods.values() if node == name]
        assert requested(state, name) == np.sum([asked.request for asked in here] or [[0, 0, 0]], axis=0).tolist()
        assert counted_in_scores(state, name) == np.sum([asked.nonzero for asked in here] or [[0, 0]], axis=0).tolist()
        assert gpu_pods(state, name) == Counter(pod_class(asked) for asked in here if asked.gpu_count)
        free = devices_free(state, name)
        assert len(free) == devices
        taken = sum(
            state.pods[uid].taken.bit_count() * asked.gpu_milli for uid, (node, asked) in pods.items() if node == name
        )
        assert sum(free) == devices * 1000 - taken
        assert all(0 <= left <= 1000 for left in free)
    for uid, (node, _) in pods.items():
        if node not in nodes:
            assert (state.pods[uid].row, state.pods[uid].taken) == (UNKNOWN_ROW, 0)
    unused = np.ones(state.generation.shape[0], dtype=bool)
    unused[state.rows_of(list(nodes))] = False
    for counted in (state.arrays.requested, state.arrays.nonzero, state.arrays.gpu_pods):
        assert not counted[unused].any()
    assert (state.arrays.device_free[unused] == ABSENT_DEVICE).all()


@given(st.lists(st.tuples(st.sampled_from("uvwxyz"), requests), max_size=30))
def test_no_pod_lacks_devices_that_lie_free(pods: list[tuple[str, PodRequest]]) -> None:
    state = state_with(a=3)
    for number, (uid, asked) in enumerate(pods):
        if number % 3 == 2:
            state.remove_pod(uid)
        else:
            state.put_pod(uid, "a", asked)

    free = devices_free(state, "a")
    for pod in state.pods.values():
        if pod.lacks_devices():
            assert not any(left >= pod.request.gpu_milli for left in free)


@pytest.mark.parametrize("names", [[], ["a"], ["zz", "a", "b", "a"]])
def test_rows_are_found_in_the_order_of_the_names(names: list[str]) -> None:
    state = state_with(a=0, b=0)

    assert state.rows_of(names).tolist() == [state.row_of(name) for name in names]


def test_policies_see_as_many_rows_as_there_have_been_nodes() -> None:
    state = ClusterState(("cpu", "memory", "gpu"))
    for index in range(5):
        state.put_node(f"n{index}", np.array([1000, 1, 0]), 0)
    assert {len(array) for array in state.nodes} == {5}
    state.nodes.requested[3, 0] = 7
    assert state.arrays.requested[3, 0] == 7


def model_of(state: ClusterState, node: str) -> str:
    return state.models[state.arrays.model[state.row_of(node)]]


def test_gpu_models_are_numbered_as_they_are_first_seen_and_none_is_number_0() -> None:
    state = ClusterState(RESOURCES)
    for name, model in (("a", "T4"), ("b", ""), ("c", "A100"), ("d", "T4")):
        state.put_node(name, capacity(devices=1), 1, model)
    assert state.models == ("", "T4", "A100")
    assert state.nodes.model.tolist()[:4] == [1, 0, 2, 1]


def test_a_node_that_is_relabelled_has_another_model_and_keeps_its_pods() -> None:
    state = ClusterState(RESOURCES)
    state.put_node("a", capacity(devices=1), 1, "T4")
    state.put_pod("u", "a", request(500, 0, 1, 300))
    generation = state.generation[state.row_of("a")]

    state.put_node("a", capacity(devices=1), 1, "A100")

    assert model_of(state, "a") == "A100"
    assert devices_free(state, "a") == [700]
    assert state.generation[state.row_of("a")] == generation + 1


def test_a_node_that_loses_its_label_is_of_no_known_model() -> None:
    state = ClusterState(RESOURCES)
    state.put_node("a", capacity(devices=1), 1, "T4")
    state.put_node("a", capacity(devices=1), 1)
    assert model_of(state, "a") == ""


def test_the_same_report_of_a_node_changes_nothing_and_leaves_the_list_of_models_alone() -> None:
    state = ClusterState(RESOURCES)
    state.put_node("a", capacity(devices=1), 1, "T4")
    generation, models = state.generation[state.row_of("a")], state.models
    state.put_node("a", capacity(devices=1), 1, "T4")
    assert state.generation[state.row_of("a")] == generation
    assert state.models is models


def test_the_model_of_a_node_that_left_is_not_inherited() -> None:
    state = ClusterState(RESOURCES)
    state.put_node("a", capacity(devices=1), 1, "T4")
    row = state.row_of("a")
    state.remove_node("a")
    assert state.arrays.model[row] == 0
    state.put_node("b", capacity(devices=1), 1)
    assert (state.row_of("b"), model_of(state, "b")) == (row, "")


def test_models_survive_when_the_arrays_grow() -> None:
    state = ClusterState(RESOURCES)
    for number in range(100):
        state.put_node(f"n{number}", capacity(devices=number % 5), number % 5, f"model-{number % 3}")
    assert [model_of(state, f"n{number}") for number in range(100)] == [f"model-{number % 3}" for number in range(100)]
