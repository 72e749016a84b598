"""Reservations for pods that wait, with backfilling: the one fixed rule that policies have to beat.

A pod of several whole GPUs that has waited long enough reserves a node: of those that could hold it, the one on which
enough running pods are believed to end soonest. Nobody else may use that node unless it is believed to end before
then. What is held back so may cost the others more than it gives: `reservations_at_most` bounds it. In a cluster an
extender's `filter` does this; pods that it turns away are retried on any event.
What durations are believed to be is `Workload.expected`; a pod of unknown duration is taken to run as long again as it
has run so far, and never backfills.
"""

import numpy as np

from training.simulator.compiled import inner, outer
from training.simulator.occupancy import has_room, lift, put_back
from training.simulator.state import (
    NOBODY,
    NOW,
    NOWHERE,
    RESERVATIONS,
    RESERVE_AFTER,
    RESERVE_AT_MOST,
    RESERVE_GPUS,
)


@inner
def is_withheld(episode, pod, row):
    """Whether the node is reserved for another pod that this one would delay."""
    cluster = episode.cluster
    holder = cluster.reserved_for[row]
    if holder in (NOBODY, pod):
        return False
    expected = episode.pods.expected[pod]
    return expected == 0.0 or episode.clock[NOW] + expected > cluster.reserved_until[row]


@outer
def reserve_if_due(episode, pod):
    """Reserve a node for a pod that could not be placed, if it is one that may and has waited long enough."""
    pods, shapes, cluster = episode.pods, episode.shapes, episode.cluster
    after = episode.settings[RESERVE_AFTER]
    if (
        after <= 0.0
        or episode.counters[RESERVATIONS] >= episode.settings[RESERVE_AT_MOST]
        or pods.reserves[pod] != NOWHERE
        or shapes.gpu_count[pods.shape[pod]] < episode.settings[RESERVE_GPUS]
        or episode.clock[NOW] - pods.pending_since[pod] < after
    ):
        return
    best, soonest = NOWHERE, np.inf
    for row in range(cluster.pod_count.shape[0]):
        if cluster.reserved_for[row] == NOBODY and cluster.admits[pods.shape[pod], row]:
            free_at = _free_enough_at(episode, pod, row)
            if free_at < soonest:
                best, soonest = row, free_at
    if best != NOWHERE:
        cluster.reserved_for[best] = pod
        cluster.reserved_until[best] = soonest
        pods.reserves[pod] = best
        episode.counters[RESERVATIONS] += 1


@inner
def drop_reservation(episode, pod):
    """The pod has started: whatever was reserved for it is free for others."""
    row = episode.pods.reserves[pod]
    if row != NOWHERE:
        episode.cluster.reserved_for[row] = NOBODY
        episode.cluster.reserved_until[row] = np.inf
        episode.pods.reserves[pod] = NOWHERE
        episode.counters[RESERVATIONS] -= 1


@inner
def believed_end(episode, pod):
    """When a running pod is believed to end, never in the past."""
    now = episode.clock[NOW]
    pods = episode.pods
    started = pods.began[pod]
    if pods.expected[pod] == 0.0:
        return now + (now - started)
    return max(started + pods.expected[pod], now)


@outer
def _free_enough_at(episode, pod, row):
    """When enough pods on the node are believed to have ended for this one; infinity if it would never fit."""
    cluster, pods = episode.cluster, episode.pods
    shape = pods.shape[pod]
    there = np.empty(cluster.pod_count[row], dtype=np.int64)
    ends = np.empty(cluster.pod_count[row])
    count = 0
    other = cluster.first_pod[row]
    while other != NOBODY:
        end = believed_end(episode, other)
        position = count
        while position > 0 and end < ends[position - 1]:
            there[position], ends[position] = there[position - 1], ends[position - 1]
            position -= 1
        there[position], ends[position] = other, end
        count += 1
        other = pods.next_pod[other]
    lifted = 0
    fits = has_room(cluster, episode.shapes, shape, row)
    free_at = episode.clock[NOW]
    while not fits and lifted < count:
        lift(episode, there[lifted])
        free_at = ends[lifted]
        lifted += 1
        fits = has_room(cluster, episode.shapes, shape, row)
    for index in range(lifted):
        put_back(episode, there[index])
    return free_at if fits else np.inf
