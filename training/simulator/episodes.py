"""From workloads to the arrays of the event loop, one episode or a batch of them.

A batch is an `Episode` whose arrays have a leading dimension, with room for the largest of its episodes: they may have
different numbers of nodes, shapes and typical pods. `views` gives one of them.
"""

from typing import NamedTuple

import numpy as np

from extender.fragmentation import FragmentationTables, fragmentation, fragmentation_tables
from extender.placement import ABSENT_DEVICE, CPU, GPU_POD_CLASSES, NodeArrays, empty_nodes
from training.simulator.heap import Heap
from training.simulator.state import (
    COUNTERS,
    CURRENT,
    EMPTY_NODES_NOW,
    NOBODY,
    NODES,
    NOWHERE,
    RESOURCES,
    SETTINGS,
    SIZES,
    Cluster,
    Episode,
    Pods,
    Shapes,
)
from training.simulator.views import view
from training.workloads.base import FloatArray, Workload

DEVICE_SLOTS = 8  # the largest GPU node of the known traces; wider nodes widen the arrays of their episodes
BEYOND_ALL_CPU = np.iinfo(np.int64).max


class Sizes(NamedTuple):
    """Room that episodes need; every episode has all of the resources and pods, of the others it may have fewer."""

    nodes: int
    resources: int
    pods: int
    shapes: int
    slots: int  # devices of a node
    models: int  # of GPUs, the unknown one included
    cpu_edges: int  # of `FragmentationTables`, as the next two
    levels: int
    groups: int


def sizes_of(workload: Workload) -> Sizes:
    """What an episode of this workload needs."""
    tables = fragmentation_tables(workload.typical)
    nodes, resources = workload.allocatable.shape
    return Sizes(
        nodes=nodes,
        resources=resources,
        pods=len(workload),
        shapes=len(workload.shapes),
        slots=max(DEVICE_SLOTS, int(workload.devices.max(initial=0))),
        models=len(tables.served),
        cpu_edges=len(tables.cpu_edges),
        levels=len(tables.level_milli),
        groups=len(tables.group_level),
    )


def allocate(batch: int, sizes: Sizes, *, sampled: bool = False) -> Episode:
    """Empty arrays for `batch` episodes.

    Args:
        batch: number of episodes.
        sizes: of the largest of them.
        sampled: whether the clock is to be kept at each arrival.
    """
    nodes, resources, pods, shapes, slots, models, edges, levels, groups = sizes

    def integers(*dimensions: int) -> np.ndarray:
        return np.zeros((batch, *dimensions), dtype=np.int64)

    def floats(*dimensions: int) -> np.ndarray:
        return np.zeros((batch, *dimensions), dtype=np.float64)

    def booleans(*dimensions: int) -> np.ndarray:
        return np.zeros((batch, *dimensions), dtype=np.bool_)

    def heap() -> Heap:
        return Heap(floats(pods), floats(pods), integers(pods), integers(pods), integers(1))

    return Episode(
        cluster=Cluster(
            nodes=NodeArrays(
                allocatable=integers(nodes, resources),
                requested=integers(nodes, resources),
                nonzero=integers(nodes, 2),
                device_free=integers(nodes, slots),
                gpu_pods=integers(nodes, GPU_POD_CLASSES),
                model=integers(nodes),
                order=floats(nodes),
            ),
            admits=booleans(shapes, nodes),
            pod_count=integers(nodes),
            pod_limit=integers(nodes),
            price=floats(nodes),
            largest=integers(resources),
            fragmentation=floats(nodes),
            first_pod=integers(nodes),
            reserved_for=integers(nodes),
            reserved_until=floats(nodes),
            version=integers(nodes),
            changed=integers(nodes),
            in_use=integers(resources),
            rates=floats(2),
        ),
        shapes=Shapes(
            request=integers(shapes, resources),
            nonzero=integers(shapes, 2),
            gpu_count=integers(shapes),
            gpu_milli=integers(shapes),
            hopeless=booleans(shapes),
            hopeless_ones=integers(shapes),
        ),
        pods=Pods(
            shape=integers(pods),
            arrival=floats(pods),
            duration=floats(pods),
            priority=integers(pods),
            expected=floats(pods),
            order=floats(pods),
            rank=integers(pods),
            node=integers(pods),
            taken=integers(pods),
            started=floats(pods),
            began=floats(pods),
            finishes=floats(pods),
            pending_since=floats(pods),
            waited=floats(pods),
            attempts=integers(pods),
            failed_at=floats(pods),
            preempted=integers(pods),
            withheld=booleans(pods),
            reserves=integers(pods),
            next_pod=integers(pods),
            previous_pod=integers(pods),
        ),
        tables=FragmentationTables(
            cpu_edges=integers(edges),
            level_milli=integers(levels),
            group_level=integers(groups),
            group_count=integers(groups),
            served=floats(models, edges + 1, groups),
            unserved=floats(models, edges + 1),
        ),
        active=heap(),
        backoff=heap(),
        running=heap(),
        parked=integers(pods),
        counters=integers(COUNTERS),
        clock=floats(1 + RESOURCES + resources),
        busy_until=floats(1),
        settings=floats(SETTINGS),
        sizes=integers(SIZES),
        samples=floats(pods + 1 if sampled else 0, 1 + RESOURCES + resources),
    )


def load(episode: Episode, workload: Workload, settings: FloatArray, order: FloatArray) -> None:
    """Fill an episode's arrays with a workload and bring it to its start.

    Args:
        episode: changed in place.
        workload: what is played.
        settings: (SETTINGS,), see `state`.
        order: (P,), by which the queue is sorted.

    Raises:
        ValueError: the workload does not fit into the arrays.
    """
    cluster, shapes, pods = episode.cluster, episode.shapes, episode.pods
    tables = fragmentation_tables(workload.typical)
    _check(episode, workload, tables)
    count, kinds = len(workload.allocatable), len(workload.shapes)
    episode.sizes[:] = count, len(tables.group_level)
    _clear_rest(episode, count, kinds)
    nodes = empty_nodes(workload.allocatable, workload.devices, workload.model)
    cluster.nodes.device_free[:] = ABSENT_DEVICE
    cluster.nodes.device_free[:count, : nodes.device_free.shape[1]] = nodes.device_free
    cluster.nodes.allocatable[:count] = workload.allocatable
    cluster.nodes.model[:count] = workload.model
    cluster.nodes.order[:count] = nodes.order
    for name in ("pod_limit", "price"):
        getattr(cluster, name)[:count] = getattr(workload, name)
    cluster.admits[:kinds, :count] = workload.admits
    for name in ("request", "nonzero", "gpu_count", "gpu_milli"):
        getattr(shapes, name)[:kinds] = getattr(workload.shapes, name)
    for name in ("shape", "arrival", "duration", "priority", "expected"):
        getattr(pods, name)[:] = getattr(workload, name)
    pods.order[:] = order
    episode.settings[:] = settings
    _load_tables(episode.tables, tables)
    _start(episode)


def _check(episode: Episode, workload: Workload, tables: FragmentationTables) -> None:
    cluster = episode.cluster
    nodes, resources = cluster.nodes.allocatable.shape
    given = (*workload.allocatable.shape, len(workload), len(workload.shapes), int(workload.devices.max(initial=0)))
    slots = cluster.nodes.device_free.shape[1]
    room = (nodes, resources, len(episode.pods.shape), len(episode.shapes.gpu_count), slots)
    fixed = given[1:3] == room[1:3]
    if not fixed or any(wanted > there for wanted, there in zip(given, room, strict=True)):
        raise ValueError(f"workload of nodes, resources, pods, shapes, devices a node {given}, arrays for {room}")
    fits = all(wanted <= there for wanted, there in zip(tables.served.shape, episode.tables.served.shape, strict=True))
    if not fits or len(tables.level_milli) > len(episode.tables.level_milli):
        raise ValueError(
            f"typical pods make tables of {tables.served.shape}, arrays are for {episode.tables.served.shape}"
        )


def _clear_rest(episode: Episode, nodes: int, shapes: int) -> None:
    """Empty what an earlier, larger episode left where this one has no nodes and shapes."""
    cluster = episode.cluster
    node_arrays = cluster.nodes
    for array in (node_arrays.allocatable, node_arrays.model, node_arrays.order, cluster.pod_limit, cluster.price):
        array[nodes:] = 0
    cluster.admits[:, nodes:] = False
    cluster.admits[shapes:] = False
    for array in episode.shapes:
        array[shapes:] = 0


def _start(episode: Episode) -> None:
    """Empty the cluster, the queues and the clock of an episode whose workload has been filled in."""
    cluster, nodes, pods = episode.cluster, episode.cluster.nodes, episode.pods
    for array in (nodes.requested, nodes.nonzero, nodes.gpu_pods, cluster.pod_count, cluster.version, cluster.in_use):
        array[:] = 0
    cluster.first_pod[:] = NOBODY
    cluster.reserved_for[:] = NOBODY
    cluster.reserved_until[:] = np.inf
    cluster.largest[:] = nodes.allocatable.max(axis=0)
    cpu_free = nodes.allocatable[:, CPU]
    cluster.fragmentation[:] = fragmentation(episode.tables, nodes.model, cpu_free, nodes.device_free.T)
    cluster.rates[:] = cluster.fragmentation[: episode.sizes[NODES]].sum(), 0.0
    for array in (pods.taken, pods.waited, pods.preempted, pods.withheld):
        array[:] = 0
    for array in (pods.started, pods.began, pods.finishes):
        array[:] = np.nan
    for array in (pods.node, pods.reserves):
        array[:] = NOWHERE
    for array in (episode.shapes.hopeless, episode.shapes.hopeless_ones):
        array[:] = 0
    for heap in (episode.active, episode.backoff, episode.running):
        heap.size[:] = 0
    episode.counters[:] = 0
    episode.counters[EMPTY_NODES_NOW] = episode.sizes[NODES]
    episode.counters[CURRENT] = NOBODY
    episode.clock[:] = 0.0
    episode.busy_until[:] = 0.0


def _load_tables(target: FragmentationTables, tables: FragmentationTables) -> None:
    """Fill the tables so that what is more than these have weighs nothing, whoever reads it."""
    models, bins, groups = tables.served.shape
    target.cpu_edges[: bins - 1], target.cpu_edges[bins - 1 :] = tables.cpu_edges, BEYOND_ALL_CPU
    target.level_milli[: len(tables.level_milli)] = tables.level_milli
    target.group_level[:groups] = tables.group_level
    target.group_level[groups:] = tables.group_level[-1] if groups else 0
    target.group_count[:groups] = tables.group_count
    target.served[:], target.unserved[:] = 0.0, 0.0
    target.served[:models, :bins, :groups] = tables.served
    target.unserved[:models, :bins] = tables.unserved


def episode_of(workload: Workload, settings: FloatArray, order: FloatArray, *, sampled: bool = False) -> Episode:
    """A single episode at its start."""
    episode: Episode = view(allocate(1, sizes_of(workload), sampled=sampled), 0)
    load(episode, workload, settings, order)
    return episode
