from dataclasses import replace

import numba
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from extender.fragmentation import fragmentation, fragmentation_tables
from extender.placement import ABSENT_DEVICE, WHOLE_DEVICE_MILLI
from tests.clusters import GIB, Node, clusters, typical_of, typical_pods
from tests.training.small_workloads import Pod, slots, workload_of, workloads
from training.simulator.compiled import ENTRY
from training.simulator.episodes import DEVICE_SLOTS, allocate, load, sizes_of
from training.simulator.heap import Heap
from training.simulator.scheduling import (
    RANDOM_TIES,
    SchedulerArguments,
    order_of,
    outcome_of,
    play,
    play_rule,
    prepare,
    settings_of,
)
from training.simulator.scoring import RULE_NUMBERS, empty_cache
from training.simulator.state import EMPTY_NODES_NOW, Episode
from training.simulator.views import arrays_of, view, view_compiled
from training.workloads.base import Workload

FIRST_FIT = RULE_NUMBERS["first-fit"]
THREE_NODES = workload_of(
    [Node(1000, GIB, (1000,)), *slots(2)], [Pod(0, 1, 1000), Pod(0, 1, 500)], typical_of((1000, 1, 500, 1.0))
)


def load_default(episode: Episode, workload: Workload) -> None:
    arguments = SchedulerArguments()
    settings = settings_of(arguments, len(workload.allocatable))
    load(episode, workload, settings, order_of(workload, arguments.ordering))


def play_to_the_end(episode: Episode, workload: Workload) -> None:
    cache = empty_cache(len(workload.shapes), len(workload.allocatable))
    play_rule(episode, FIRST_FIT, cache, workload.typical, RANDOM_TIES, np.random.default_rng(0))


def test_a_loaded_episode_is_empty_and_has_the_workloads_devices():
    nodes = [Node(8000, GIB, (1000, 1000)), Node(4000, GIB)]
    episode = prepare(workload_of(nodes, [Pod(0, 1, 1000), Pod(1, 2, 500)]), SchedulerArguments())
    device_free = episode.cluster.nodes.device_free
    assert not np.any(episode.cluster.nodes.requested)
    assert device_free[0, :3].tolist() == [WHOLE_DEVICE_MILLI, WHOLE_DEVICE_MILLI, ABSENT_DEVICE]
    assert np.all(device_free[1] == ABSENT_DEVICE)
    assert episode.pods.node.tolist() == [-1, -1]
    assert np.all(np.isnan(episode.pods.started))


def test_a_node_with_more_devices_than_usual_gets_room_for_them():
    devices = 2 * DEVICE_SLOTS
    node = Node(8000, GIB, (1000,) * devices)
    workload = workload_of([node], [Pod(0, 1, 1000, 0, devices, 1000)], device_slots=devices)
    episode = prepare(workload, SchedulerArguments())
    play_to_the_end(episode, workload)
    assert episode.cluster.nodes.device_free[0].tolist() == [0] * devices


@given(workloads())
def test_a_used_episode_loaded_again_is_like_new(workload):
    episode = prepare(workload, SchedulerArguments())
    fresh = {name: array.copy() for name, array in arrays_of(episode).items()}
    play_to_the_end(episode, workload)
    load_default(episode, workload)
    # These mean something only up to their counters, or while a pod is pending or on a node.
    scratch = {"parked", "cluster.changed", *(f"pods.{name}" for name in ("rank", "pending_since", "attempts"))}
    scratch |= {f"pods.{name}" for name in ("failed_at", "next_pod", "previous_pod")}
    scratch |= {
        f"{heap}.{name}" for heap in ("active", "backoff", "running") for name in Heap._fields if name != "size"
    }
    for name, array in arrays_of(episode).items():
        if name not in scratch:
            np.testing.assert_array_equal(array, fresh[name], err_msg=name)


@given(workloads())
def test_a_used_episode_loaded_again_plays_as_a_new_one(workload):
    episode = prepare(workload, SchedulerArguments(), sampled=True)
    for _ in range(2):
        load_default(episode, workload)
        play_to_the_end(episode, workload)
    again, new = outcome_of(episode), play(workload, "first-fit", SchedulerArguments(), 0)
    for name in ("started", "finished", "waited", "node", "preempted", "times", "integrals"):
        np.testing.assert_array_equal(getattr(again, name), getattr(new, name), err_msg=name)


@given(workloads(), st.integers(0, 3), st.integers(0, 3), st.integers(0, 2))
def test_compiled_code_gets_the_nodes_and_groups_that_there_are(workload, nodes, shapes, groups):
    exact = sizes_of(workload)
    larger = exact._replace(
        nodes=exact.nodes + nodes, shapes=exact.shapes + shapes, groups=exact.groups + groups, models=exact.models + 1
    )
    episodes = [view(allocate(1, sizes), 0) for sizes in (exact, larger)]
    for episode in episodes:
        for array in arrays_of(episode).values():
            array[:] = 1  # what an earlier episode left
        load_default(episode, workload)
    assert episodes[1].sizes.tolist() == [exact.nodes, exact.groups]
    assert episodes[1].counters[EMPTY_NODES_NOW] == exact.nodes
    assert episodes[1].cluster.rates[0] == episodes[0].cluster.rates[0]
    batch = allocate(2, larger)
    load_default(view(batch, 1), workload)
    assert in_use(batch, 1) == (exact.nodes, exact.nodes, exact.groups, exact.groups)


@numba.njit(**ENTRY)
def in_use(batch, index):
    episode = view_compiled(batch, index)
    return (
        len(episode.cluster.pod_count),
        len(episode.cluster.nodes.device_free),
        len(episode.tables.group_level),
        len(episode.tables.group_count),
    )


@given(typical_pods(models=2), typical_pods(models=2), clusters(models=2))
def test_tables_in_arrays_with_room_for_more_measure_the_same(typical, larger, nodes):
    # Sorted by size, so that the arrays are as large as either needs.
    if np.any(np.array(fragmentation_tables(typical).served.shape) > fragmentation_tables(larger).served.shape):
        typical, larger = larger, typical
    room, given_tables = fragmentation_tables(larger), fragmentation_tables(typical)
    fits = np.all(np.array(given_tables.served.shape) <= room.served.shape)
    workload = replace(THREE_NODES, typical=larger)
    episode = view(allocate(1, sizes_of(workload)), 0)
    load_default(episode, workload)  # something is left of it
    if not fits or len(given_tables.level_milli) > len(room.level_milli):
        with pytest.raises(ValueError, match="typical pods make tables of"):
            load_default(episode, replace(THREE_NODES, typical=typical))
        return
    load_default(episode, replace(THREE_NODES, typical=typical))
    cpu_free = nodes.allocatable[:, 0] - nodes.requested[:, 0]
    measured = [
        fragmentation(tables, nodes.model, cpu_free, nodes.device_free.T) for tables in (episode.tables, given_tables)
    ]
    np.testing.assert_array_equal(*measured)


@pytest.mark.parametrize(
    "workload",
    [
        workload_of(slots(4), [Pod(0, 1, 1000), Pod(0, 1, 500)]),
        workload_of(slots(3), [Pod(0, 1, 1000), Pod(0, 1, 500), Pod(0, 1, 500)]),
        workload_of(slots(3), [Pod(0, 1, 1000), Pod(0, 1, 500), Pod(0, 1, 250)]),
        replace(THREE_NODES, devices=np.array([0, 0, DEVICE_SLOTS + 1])),
    ],
    ids=["nodes", "pods", "shapes", "devices"],
)
def test_a_workload_that_does_not_fit_is_refused(workload):
    with pytest.raises(ValueError, match=r"workload of .* arrays for"):
        load_default(view(allocate(2, sizes_of(THREE_NODES)), 0), workload)
