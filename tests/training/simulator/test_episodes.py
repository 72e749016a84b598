from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from numba import njit

from extender.placement import ABSENT_DEVICE, WHOLE_DEVICE_MILLI
from tests.clusters import GIB, Node, typical_of
from tests.training.small_workloads import Pod, slots, workload_of, workloads
from training.simulator.episodes import DEVICE_SLOTS, allocate, episode_of, load, view, view_compiled
from training.simulator.event_loop import DECISION, NOWHERE, PODS, Episode, advance, place

PLENTY = 1000


@njit
def _compiled_view_of(batch, index):
    return view_compiled(batch, index)


def two_episodes() -> Episode:
    return allocate(2, nodes=3, resources=3, shapes=2, pods=2, typical=4)


def play(episode: Episode) -> None:
    while True:
        state, candidates = advance(episode, PLENTY)
        if state != DECISION:
            return
        place(episode, candidates.rows[0], candidates.devices[0])


def test_a_view_shares_the_batchs_memory():
    batch = two_episodes()
    view(batch, 1).requested[2, 0] = 7
    assert batch.requested[:, 2, 0].tolist() == [0, 7]


def test_compiled_code_sees_the_same_view():
    batch = two_episodes()
    for number, array in enumerate(batch):
        array[1] = number
    for seen, wanted in zip(_compiled_view_of(batch, 1), view(batch, 1), strict=True):
        assert np.shares_memory(seen, wanted)
        np.testing.assert_array_equal(seen, wanted)


def test_a_loaded_episode_is_empty_and_has_the_workloads_devices():
    nodes = [Node(8000, GIB, (1000, 1000)), Node(4000, GIB)]
    episode = episode_of(workload_of(nodes, [Pod(0, 1, 1000), Pod(1, 2, 500)]))
    assert not np.any(episode.requested)
    assert episode.device_free[0, :3].tolist() == [WHOLE_DEVICE_MILLI, WHOLE_DEVICE_MILLI, ABSENT_DEVICE]
    assert np.all(episode.device_free[1] == ABSENT_DEVICE)
    assert episode.node.tolist() == [NOWHERE, NOWHERE]
    assert np.all(np.isnan(episode.started))
    assert episode.counters[PODS] == 2


def test_a_node_with_more_devices_than_usual_gets_room_for_them():
    devices = 2 * DEVICE_SLOTS
    node = Node(8000, GIB, (1000,) * devices)
    episode = episode_of(workload_of([node], [Pod(0, 1, 1000, 0, devices, 1000)], device_slots=devices))
    play(episode)
    assert episode.device_free[0].tolist() == [0] * devices


@given(workloads())
def test_a_used_episode_loaded_again_is_like_new(workload):
    episode = episode_of(workload)
    fresh = Episode(*(array.copy() for array in episode))
    play(episode)
    load(episode, workload)
    scratch = {"finish_time", "finish_pod", "queue_key", "queue_pod", "parked"}  # meaningful up to their counters only
    for name in set(Episode._fields) - scratch:
        np.testing.assert_array_equal(getattr(episode, name), getattr(fresh, name), err_msg=name)


def test_unused_room_for_typical_pods_weighs_nothing():
    workload = workload_of(slots(3), [Pod(0, 1, 1000)] * 2, typical_of((1000, 1, 500, 1.0)))
    batch = two_episodes()
    batch.typical_share[:] = 0.3  # left by an earlier workload
    load(view(batch, 0), workload)
    assert batch.typical_share[0].tolist() == [1.0, 0.0, 0.0, 0.0]


@pytest.mark.parametrize(
    "workload",
    [
        workload_of(slots(2), [Pod(0, 1, 1000)] * 2),
        workload_of(slots(3), [Pod(0, 1, 1000)] * 3),
        replace(workload_of(slots(3), [Pod(0, 1, 1000)] * 2), devices=np.array([0, 0, DEVICE_SLOTS + 1])),
    ],
    ids=["nodes", "pods", "devices"],
)
def test_a_workload_of_another_size_is_refused(workload):
    with pytest.raises(ValueError, match=r"workload of .* arrays for"):
        load(view(two_episodes(), 0), workload)
