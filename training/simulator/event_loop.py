"""A cluster under kube-scheduler, event by event.

Pods arrive, wait in kube-scheduler's active queue (higher priority first, then earlier arrival), are placed one by
one, run for their duration and leave. A pod that fits nowhere is parked; when a pod leaves, those parked pods which
now fit on that node return to the queue (only there can anything have become possible). `advance` plays until a
placement has to be decided between two or more candidates, and stops there: like kube-scheduler, it asks nobody when
there is just one feasible node. `place` carries the decision out. `env` builds the learning problem on these two.

All state is in the arrays of an `Episode`, so copying them is a checkpoint, and a batch is the same arrays with one
more dimension. Times are seconds. The model leaves out what takes no time here: backoff, binding, image pulls.
"""

from typing import NamedTuple

import numpy as np
from numba import njit

from extender.features import TypicalPods, fragmentation, placement_features
from extender.placement import (
    CPU,
    GPU,
    Candidates,
    NodeArrays,
    PodRequest,
    list_candidates,
    occupy,
    release,
)
from training.simulator.heap import pop, push

NOWHERE = -1

# Positions in Episode.counters.
PODS, ARRIVED, RUNNING, QUEUED, PARKED, PLACED, FORCED = range(7)
COUNTERS = 7
# Positions in Episode.clock. The integrals are over time: pods that wait; devices in use; useless free devices.
NOW, WAITING_SECONDS, GPU_SECONDS, FRAGMENTED_SECONDS = range(4)
CLOCKS = 4

# What `advance` stopped for.
FINISHED, DECISION = 0, 1


class Episode(NamedTuple):
    """Everything about one episode, as arrays that are changed in place.

    N nodes, R resources, D devices a node at most, S pod shapes, P pods, T typical pods.
    """

    allocatable: np.ndarray  # (N, R) int64
    requested: np.ndarray  # (N, R) int64
    device_free: np.ndarray  # (N, D) int64
    fragmented: np.ndarray  # (N,) float64, what `fragmentation` says of each node now

    shape_request: np.ndarray  # (S, R) int64
    shape_gpu_count: np.ndarray  # (S,) int64
    shape_gpu_milli: np.ndarray  # (S,) int64

    shape: np.ndarray  # (P,) int64
    arrival: np.ndarray  # (P,) float64, ascending
    duration: np.ndarray  # (P,) float64
    priority: np.ndarray  # (P,) int64
    expected: np.ndarray  # (P,) float64
    node: np.ndarray  # (P,) int64, where the pod is or was, NOWHERE before
    taken: np.ndarray  # (P,) int64, its devices as a bit mask
    started: np.ndarray  # (P,) float64, NaN before

    typical_cpu: np.ndarray  # (T,) int64
    typical_gpu_count: np.ndarray  # (T,) int64
    typical_gpu_milli: np.ndarray  # (T,) int64
    typical_share: np.ndarray  # (T,) float64

    finish_time: np.ndarray  # (P,) float64: heap of running pods by the time they leave
    finish_pod: np.ndarray  # (P,) int64
    queue_key: np.ndarray  # (P,) float64: heap of the active queue, by priority and then arrival
    queue_pod: np.ndarray  # (P,) int64
    parked: np.ndarray  # (P,) int64: unschedulable pods
    counters: np.ndarray  # (COUNTERS,) int64
    clock: np.ndarray  # (CLOCKS,) float64


@njit(cache=True)
def nodes_of(episode):
    """The nodes as the extender's functions take them."""
    return NodeArrays(episode.allocatable, episode.requested, episode.device_free)


@njit(cache=True)
def typical_of(episode):
    """The typical pods as the extender's functions take them."""
    return TypicalPods(episode.typical_cpu, episode.typical_gpu_count, episode.typical_gpu_milli, episode.typical_share)


@njit(cache=True)
def request_of(episode, pod):
    """What a pod asks for."""
    shape = episode.shape[pod]
    return PodRequest(
        episode.shape_request[shape],
        episode.shape_gpu_count[shape],
        episode.shape_gpu_milli[shape],
        episode.priority[pod],
        episode.expected[pod],
    )


@njit(cache=True)
def head_of_queue(episode):
    """The pod that is scheduled next."""
    return episode.queue_pod[0]


@njit(cache=True)
def candidates_of_head(episode, limit):
    """Where the next pod could go."""
    rows = np.arange(episode.allocatable.shape[0])
    return list_candidates(nodes_of(episode), request_of(episode, head_of_queue(episode)), rows, limit)


@njit(cache=True)
def _dequeue(episode):
    counters = episode.counters
    pod = pop(episode.queue_key, episode.queue_pod, counters[QUEUED])
    counters[QUEUED] -= 1
    return pod


@njit(cache=True)
def _enqueue(episode, pod):
    counters = episode.counters
    counters[QUEUED] = push(episode.queue_key, episode.queue_pod, counters[QUEUED], -float(episode.priority[pod]), pod)


@njit(cache=True)
def _measure_fragmentation(episode, row):
    cpu_free = episode.allocatable[row : row + 1, CPU] - episode.requested[row : row + 1, CPU]
    wasted = fragmentation(cpu_free, episode.device_free[row : row + 1], typical_of(episode))
    episode.fragmented[row] = wasted[0]


@njit(cache=True)
def start(episode):
    """Prepare the state of an episode whose workload has been filled in."""
    episode.requested[:] = 0
    episode.node[:] = NOWHERE
    episode.taken[:] = 0
    episode.started[:] = np.nan
    pods = episode.counters[PODS]
    episode.counters[:] = 0
    episode.counters[PODS] = pods
    episode.clock[:] = 0.0
    for row in range(episode.allocatable.shape[0]):
        _measure_fragmentation(episode, row)


@njit(cache=True)
def place(episode, row, device):
    """Put the head of the queue on a node."""
    counters = episode.counters
    pod = _dequeue(episode)
    episode.taken[pod] = occupy(nodes_of(episode), request_of(episode, pod), row, device)
    episode.node[pod] = row
    now = episode.clock[NOW]
    episode.started[pod] = now
    counters[RUNNING] = push(
        episode.finish_time, episode.finish_pod, counters[RUNNING], now + episode.duration[pod], pod
    )
    counters[PLACED] += 1
    _measure_fragmentation(episode, row)


@njit(cache=True)
def park(episode):
    """Set the head of the queue aside until a pod leaves a node that it would fit on."""
    pod = _dequeue(episode)
    episode.parked[episode.counters[PARKED]] = pod
    episode.counters[PARKED] += 1


@njit(cache=True)
def _pass_time(episode, until):
    clock, counters = episode.clock, episode.counters
    elapsed = until - clock[NOW]
    if elapsed > 0.0:
        clock[WAITING_SECONDS] += elapsed * (counters[QUEUED] + counters[PARKED])
        clock[GPU_SECONDS] += elapsed * np.sum(episode.requested[:, GPU]) / 1000.0
        clock[FRAGMENTED_SECONDS] += elapsed * np.sum(episode.fragmented) / 1000.0
        clock[NOW] = until


@njit(cache=True)
def _finish_next(episode):
    counters = episode.counters
    pod = pop(episode.finish_time, episode.finish_pod, counters[RUNNING])
    counters[RUNNING] -= 1
    row = episode.node[pod]
    release(nodes_of(episode), request_of(episode, pod), row, episode.taken[pod])
    _measure_fragmentation(episode, row)

    only_here = np.full(1, row, dtype=np.int64)
    still_parked = 0
    for position in range(counters[PARKED]):
        waiting = episode.parked[position]
        candidates = list_candidates(nodes_of(episode), request_of(episode, waiting), only_here, 1)
        if candidates.rows.shape[0] > 0:
            _enqueue(episode, waiting)
        else:
            episode.parked[still_parked] = waiting
            still_parked += 1
    counters[PARKED] = still_parked


@njit(cache=True)
def advance(episode, limit):
    """Play until a placement has to be decided, or until nothing can happen any more.

    A pod leaves before another arrives in the same instant.

    Args:
        episode: changed in place.
        limit: how many candidates are listed at most.

    Returns:
        `DECISION` (ask about `head_of_queue`) or `FINISHED`, and the candidates of that decision.
    """
    counters = episode.counters
    while True:
        if counters[QUEUED] > 0:
            candidates = candidates_of_head(episode, limit)
            count = candidates.rows.shape[0]
            if count == 0:
                park(episode)
            elif count == 1:
                counters[FORCED] += 1
                place(episode, candidates.rows[0], candidates.devices[0])
            else:
                return DECISION, candidates
            continue

        arrived = counters[ARRIVED]
        arrives = episode.arrival[arrived] if arrived < counters[PODS] else np.inf
        finishes = episode.finish_time[0] if counters[RUNNING] > 0 else np.inf
        everyone_started = arrives == np.inf and counters[PARKED] == 0
        if everyone_started or (arrives == np.inf and finishes == np.inf):
            return FINISHED, Candidates(np.empty(0, dtype=np.int64), np.empty(0, dtype=np.int64))
        if finishes <= arrives:
            _pass_time(episode, finishes)
            _finish_next(episode)
        else:
            _pass_time(episode, arrives)
            _enqueue(episode, arrived)
            counters[ARRIVED] += 1


@njit(cache=True)
def describe_candidates(episode, candidates, typical):
    """The features of the candidates of the head of the queue; (K, F) float32."""
    pod = request_of(episode, head_of_queue(episode))
    return placement_features(nodes_of(episode), pod, candidates, typical)
