"""One episode of a batch, without copying.

Episodes may be smaller than the arrays have room for. Compiled code is given the part of the nodes that an episode
uses, so that it never meets a node that is not there; in Python, `view` gives all of the room.
"""

from typing import Any

import numpy as np

from extender.fragmentation import FragmentationTables
from extender.placement import NodeArrays
from training.simulator.compiled import inner
from training.simulator.heap import Heap
from training.simulator.state import GROUPS, NODES, Cluster, Episode, Pods, Shapes


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


@inner
def _view_heap(heap, index):
    return Heap(heap.keys[index], heap.orders[index], heap.ranks[index], heap.items[index], heap.size[index])


@inner
def view_compiled(batch, index):
    """`view` for compiled code, which cannot iterate over fields; of nodes and groups those that there are."""
    nodes, cluster, shapes, pods, tables = batch.cluster.nodes, batch.cluster, batch.shapes, batch.pods, batch.tables
    count, groups = batch.sizes[index, NODES], batch.sizes[index, GROUPS]
    return Episode(
        Cluster(
            NodeArrays(
                nodes.allocatable[index, :count],
                nodes.requested[index, :count],
                nodes.nonzero[index, :count],
                nodes.device_free[index, :count],
                nodes.gpu_pods[index, :count],
                nodes.model[index, :count],
                nodes.order[index, :count],
            ),
            cluster.admits[index],
            cluster.pod_count[index, :count],
            cluster.pod_limit[index, :count],
            cluster.price[index, :count],
            cluster.largest[index],
            cluster.fragmentation[index, :count],
            cluster.first_pod[index, :count],
            cluster.reserved_for[index, :count],
            cluster.reserved_until[index, :count],
            cluster.version[index, :count],
            cluster.changed[index, :count],
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
            tables.group_level[index, :groups],
            tables.group_count[index, :groups],
            tables.served[index],
            tables.unserved[index],
        ),
        _view_heap(batch.active, index),
        _view_heap(batch.backoff, index),
        _view_heap(batch.running, index),
        batch.parked[index],
        batch.counters[index],
        batch.clock[index],
        batch.busy_until[index],
        batch.settings[index],
        batch.sizes[index],
        batch.samples[index],
    )
