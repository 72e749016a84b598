"""From workloads to the arrays of the event loop, one episode or a batch of them.

A batch is an `Episode` whose arrays have a leading dimension; `view` gives one of its episodes without copying.
"""

from typing import Any

import numpy as np

from extender.fragmentation import FragmentationTables, fragmentation, fragmentation_tables
from extender.placement import CPU, GPU_POD_CLASSES, NodeArrays, empty_nodes
from training.simulator.compiled import inner
from training.simulator.heap import Heap
from training.simulator.state import (
    COUNTERS,
    CURRENT,
    EMPTY_NODES_NOW,
    NOBODY,
    NOWHERE,
    RESOURCES,
    SETTINGS,
    Cluster,
    Episode,
    Pods,
    Shapes,
)
from training.workloads.base import FloatArray, Workload

DEVICE_SLOTS = 8  # the largest GPU node of the known traces; wider nodes widen the arrays of their episodes
BEYOND_ALL_CPU = np.iinfo(np.int64).max


def allocate(batch: int, workload: Workload, *, sampled: bool = False) -> Episode:
    """Empty arrays for `batch` episodes of the size of this workload.

    Args:
        batch: number of episodes.
        workload: a sample; others may have fewer typical pods, everything else has to be of the same size.
        sampled: whether the clock is to be kept at each arrival.
    """
    nodes, resources = workload.allocatable.shape
    pods, shapes = len(workload), len(workload.shapes)
    slots = max(DEVICE_SLOTS, int(workload.devices.max(initial=0)))
    tables = fragmentation_tables(workload.typical)

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
        tables=FragmentationTables(*(np.zeros((batch, *array.shape), array.dtype) for array in tables)),
        active=heap(),
        backoff=heap(),
        running=heap(),
        parked=integers(pods),
        counters=integers(COUNTERS),
        clock=floats(1 + RESOURCES + resources),
        settings=floats(SETTINGS),
        samples=floats(pods + 1 if sampled else 0, 1 + RESOURCES + resources),
    )


def view(batch: Any, index: int) -> Any:
    """One episode of a batch, sharing its memory; works on every group of arrays alike."""
    return type(batch)(*(part[index] if isinstance(part, np.ndarray) else view(part, index) for part in batch))


def arrays_of(group: Any, prefix: str = "") -> dict[str, np.ndarray]:
    """The arrays of an episode or a batch by their dotted names."""
    arrays: dict[str, np.ndarray] = {}
    for name, part in group._asdict().items():
        if isinstance(part, np.ndarray):
            arrays[prefix + name] = part
        else:
            arrays |= arrays_of(part, f"{prefix}{name}.")
    return arrays


def load(episode: Episode, workload: Workload, settings: FloatArray, order: FloatArray) -> None:
    """Fill an episode's arrays with a workload and bring it to its start.

    Args:
        episode: changed in place.
        workload: what is played.
        settings: (SETTINGS,), see `state`.
        order: (P,), by which the queue is sorted.

    Raises:
        ValueError: the workload does not have the size that the arrays were allocated for.
    """
    cluster, shapes, pods = episode.cluster, episode.shapes, episode.pods
    given = (workload.allocatable.shape, len(workload), len(workload.shapes))
    wanted = (cluster.nodes.allocatable.shape, len(pods.shape), len(shapes.gpu_count))
    if given != wanted or workload.devices.max(initial=0) > cluster.nodes.device_free.shape[1]:
        raise ValueError(f"workload of (nodes, resources), pods, shapes {given}, arrays for {wanted}")
    nodes = empty_nodes(workload.allocatable, workload.devices, workload.model)
    cluster.nodes.device_free[:] = -1
    cluster.nodes.device_free[:, : nodes.device_free.shape[1]] = nodes.device_free
    cluster.nodes.allocatable[:] = workload.allocatable
    for target, name in ((cluster, "pod_limit"), (cluster, "price"), (cluster, "admits"), (cluster.nodes, "model")):
        getattr(target, name)[:] = getattr(workload, name)
    for name in ("request", "nonzero", "gpu_count", "gpu_milli"):
        getattr(shapes, name)[:] = getattr(workload.shapes, name)
    for name in ("shape", "arrival", "duration", "priority", "expected"):
        getattr(pods, name)[:] = getattr(workload, name)
    pods.order[:] = order
    episode.settings[:] = settings
    _load_tables(episode.tables, fragmentation_tables(workload.typical))
    _start(episode)


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
    cluster.rates[:] = cluster.fragmentation.sum(), 0.0
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
    episode.counters[EMPTY_NODES_NOW] = len(nodes.allocatable)
    episode.counters[CURRENT] = NOBODY
    episode.clock[:] = 0.0


def _load_tables(target: FragmentationTables, tables: FragmentationTables) -> None:
    fitting = all(given <= room for given, room in zip(tables.served.shape, target.served.shape, strict=True))
    if not fitting or len(tables.level_milli) > len(target.level_milli):
        raise ValueError(f"typical pods make tables of {tables.served.shape}, arrays are for {target.served.shape}")
    models, bins, groups = tables.served.shape
    target.cpu_edges[: bins - 1], target.cpu_edges[bins - 1 :] = tables.cpu_edges, BEYOND_ALL_CPU
    target.level_milli[: len(tables.level_milli)] = tables.level_milli
    # Groups that are not used are of the last size, so that they cost no look at the devices, and weigh nothing.
    target.group_level[:groups] = tables.group_level
    target.group_level[groups:] = tables.group_level[-1] if groups else 0
    target.group_count[:groups] = tables.group_count
    target.served[:], target.unserved[:] = 0.0, 0.0
    target.served[:models, :bins, :groups] = tables.served
    target.unserved[:models, :bins] = tables.unserved


def episode_of(workload: Workload, settings: FloatArray, order: FloatArray, *, sampled: bool = False) -> Episode:
    """A single episode at its start."""
    episode: Episode = view(allocate(1, workload, sampled=sampled), 0)
    load(episode, workload, settings, order)
    return episode


@inner
def _view_heap(heap, index):
    return Heap(heap.keys[index], heap.orders[index], heap.ranks[index], heap.items[index], heap.size[index])


@inner
def view_compiled(batch, index):
    """`view` for compiled code, which cannot iterate over fields."""
    nodes, cluster, shapes, pods, tables = batch.cluster.nodes, batch.cluster, batch.shapes, batch.pods, batch.tables
    return Episode(
        Cluster(
            NodeArrays(
                nodes.allocatable[index],
                nodes.requested[index],
                nodes.nonzero[index],
                nodes.device_free[index],
                nodes.gpu_pods[index],
                nodes.model[index],
            ),
            cluster.admits[index],
            cluster.pod_count[index],
            cluster.pod_limit[index],
            cluster.price[index],
            cluster.largest[index],
            cluster.fragmentation[index],
            cluster.first_pod[index],
            cluster.reserved_for[index],
            cluster.reserved_until[index],
            cluster.version[index],
            cluster.changed[index],
            cluster.in_use[index],
            cluster.rates[index],
        ),
        Shapes(
            shapes.request[index],
            shapes.nonzero[index],
            shapes.gpu_count[index],
            shapes.gpu_milli[index],
            shapes.hopeless[index],
            shapes.hopeless_ones[index],
        ),
        Pods(
            pods.shape[index],
            pods.arrival[index],
            pods.duration[index],
            pods.priority[index],
            pods.expected[index],
            pods.order[index],
            pods.rank[index],
            pods.node[index],
            pods.taken[index],
            pods.started[index],
            pods.began[index],
            pods.finishes[index],
            pods.pending_since[index],
            pods.waited[index],
            pods.attempts[index],
            pods.failed_at[index],
            pods.preempted[index],
            pods.withheld[index],
            pods.reserves[index],
            pods.next_pod[index],
            pods.previous_pod[index],
        ),
        FragmentationTables(
            tables.cpu_edges[index],
            tables.level_milli[index],
            tables.group_level[index],
            tables.group_count[index],
            tables.served[index],
            tables.unserved[index],
        ),
        _view_heap(batch.active, index),
        _view_heap(batch.backoff, index),
        _view_heap(batch.running, index),
        batch.parked[index],
        batch.counters[index],
        batch.clock[index],
        batch.settings[index],
        batch.samples[index],
    )
