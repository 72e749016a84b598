"""Everything about an episode, as arrays that are changed in place.

Copying the arrays is a checkpoint, and a batch of episodes is the same arrays with one more dimension (`episodes`).
Functions take the groups that they need rather than the whole episode.

N nodes, R resources, D devices a node at most, S pod shapes, P pods.
"""

from typing import NamedTuple

import numpy as np

from extender.fragmentation import FragmentationTables
from extender.placement import NodeArrays, PodRequest
from training.simulator.compiled import inner
from training.simulator.heap import Heap

NOWHERE = -1
NOBODY = -1

# Positions in Episode.counters; CURRENT is the pod that is being decided on.
(
    ARRIVED,
    PARKED,
    PLACED,
    FORCED,
    SEQUENCE,
    CHANGES,
    FIRST_ROW,
    RESERVATIONS,
    EMPTY_NODES_NOW,
    WITHHELD_NOW,
    CURRENT,
    HOPELESS,
) = range(12)
COUNTERS = 12

# Positions in Episode.clock: the time, then integrals over it. See `Outcome` for their units.
NOW = 0
WAITING, FRAGMENTED, EMPTY_NODES, COST, RESOURCES = range(5)  # positions in Outcome.integrals; RESOURCES and following

# Positions in Episode.settings.
(
    NODES_TO_FIND,
    BACKOFF_INITIAL,
    BACKOFF_MAX,
    POP_FROM_BACKOFF,
    PREEMPTION,
    RESERVE_AFTER,
    RESERVE_GPUS,
    HORIZON,
    FUTILE_ATTEMPTS,
    RESERVE_AT_MOST,
    ATTEMPT,
    FAILED_ATTEMPT,
) = range(12)
SETTINGS = 12

# Positions in Episode.sizes: how many nodes and groups of typical pods there are, in arrays with room for more.
NODES, GROUPS = range(2)
SIZES = 2


class Cluster(NamedTuple):
    """The nodes, and what is on them."""

    nodes: NodeArrays
    admits: np.ndarray  # (S, N) bool: selectors, GPU models and taints
    pod_count: np.ndarray  # (N,) int64
    pod_limit: np.ndarray  # (N,) int64
    price: np.ndarray  # (N,) float64 per hour
    largest: np.ndarray  # (R,) int64, the largest allocatable amounts
    fragmentation: np.ndarray  # (N,) float64, thousandths of a device
    first_pod: np.ndarray  # (N,) int64, the pod that came last; `Pods.next_pod` leads to the others
    reserved_for: np.ndarray  # (N,) int64 pod, NOBODY
    reserved_until: np.ndarray  # (N,) float64, when the node is believed to be free enough for that pod
    version: np.ndarray  # (N,) int64, counts the changes of a node
    changed: np.ndarray  # (N,) int64, the nodes that changed last, in a ring
    in_use: np.ndarray  # (R,) int64, the sum of `nodes.requested`
    rates: np.ndarray  # (2,) float64: sum of `fragmentation`; price of the nodes that are not empty


class Shapes(NamedTuple):
    """The distinct requests of the pods."""

    request: np.ndarray  # (S, R) int64
    nonzero: np.ndarray  # (S, 2) int64
    gpu_count: np.ndarray  # (S,) int64
    gpu_milli: np.ndarray  # (S,) int64
    hopeless: np.ndarray  # (S,) bool: fitted nowhere when last tried, and nothing that could help has happened since
    hopeless_ones: np.ndarray  # (S,) int64, these shapes, as many as `HOPELESS` counts


class Pods(NamedTuple):
    """The pods, in order of arrival."""

    shape: np.ndarray  # (P,) int64
    arrival: np.ndarray  # (P,) float64 seconds, ascending
    duration: np.ndarray  # (P,) float64 seconds
    priority: np.ndarray  # (P,) int64
    expected: np.ndarray  # (P,) float64 seconds, 0 for unknown
    order: np.ndarray  # (P,) float64, the queue is sorted by it, the smallest first
    rank: np.ndarray  # (P,) int64, and then by it: when the pod came or last failed
    node: np.ndarray  # (P,) int64, where it is or was, NOWHERE before
    taken: np.ndarray  # (P,) int64, its devices as a bit mask
    started: np.ndarray  # (P,) float64, the first start, NaN before
    began: np.ndarray  # (P,) float64, the last start
    finishes: np.ndarray  # (P,) float64, NaN while pending
    pending_since: np.ndarray  # (P,) float64
    waited: np.ndarray  # (P,) float64, up to the last start
    attempts: np.ndarray  # (P,) int64, since it came or was evicted
    failed_at: np.ndarray  # (P,) float64, the last failed attempt
    preempted: np.ndarray  # (P,) int64
    withheld: np.ndarray  # (P,) bool, whether reservations alone kept it from a node when it was last tried
    reserves: np.ndarray  # (P,) int64, the node that is reserved for it, NOWHERE
    next_pod: np.ndarray  # (P,) int64, on the same node, NOBODY at the end
    previous_pod: np.ndarray  # (P,) int64


class Episode(NamedTuple):
    """All of it."""

    cluster: Cluster
    shapes: Shapes
    pods: Pods
    tables: FragmentationTables
    active: Heap
    backoff: Heap
    running: Heap
    parked: np.ndarray  # (P,) int64, the unschedulable pods
    counters: np.ndarray  # (COUNTERS,) int64
    clock: np.ndarray  # (1 + RESOURCES + R,) float64
    busy_until: np.ndarray  # (1,) float64, when the attempt that is being made is over
    settings: np.ndarray  # (SETTINGS,) float64
    sizes: np.ndarray  # (SIZES,) int64
    samples: np.ndarray  # (P + 1, 1 + RESOURCES + R) float64: the clock at each arrival and at the end; or (0, …)


@inner
def request_of(shapes, pods, pod):
    """What a pod asks for; for functions of the inner loop only (see `compiled.inner`)."""
    shape = pods.shape[pod]
    return PodRequest(
        shapes.request[shape],
        shapes.nonzero[shape],
        shapes.gpu_count[shape],
        shapes.gpu_milli[shape],
        pods.priority[pod],
        pods.expected[pod],
    )


@inner
def shape_request(shapes, shape):
    """What pods of a shape ask for; for functions of the inner loop only (see `compiled.inner`)."""
    return PodRequest(
        shapes.request[shape], shapes.nonzero[shape], shapes.gpu_count[shape], shapes.gpu_milli[shape], 0, 0.0
    )


@inner
def pending(episode):
    """How many pods wait."""
    return episode.active.size[0] + episode.backoff.size[0] + episode.counters[PARKED]


def pod_request_of(episode: Episode, pod: int) -> PodRequest:
    """What a pod asks for, for callers in Python."""
    shapes, pods = episode.shapes, episode.pods
    shape = pods.shape[pod]
    return PodRequest(
        shapes.request[shape],
        shapes.nonzero[shape],
        int(shapes.gpu_count[shape]),
        int(shapes.gpu_milli[shape]),
        int(pods.priority[pod]),
        float(pods.expected[pod]),
    )
