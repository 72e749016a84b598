"""The learning problem in compiled code: an action in, the next observation and the reward out, for a whole batch.

`env` owns the arrays and decides when an episode is replaced; here they are filled. What a policy sees of a candidate
are the extender's features; what only the critic sees is the cluster as a whole and its queue.
"""

import numpy as np
from numba import njit

from extender.placement import GPU, WHOLE_DEVICE_MILLI
from training.simulator.episodes import view_compiled
from training.simulator.event_loop import (
    ARRIVED,
    DECISION,
    PARKED,
    PODS,
    QUEUED,
    WAITING_SECONDS,
    advance,
    describe_candidates,
    park,
    place,
    typical_of,
)

CLUSTER_FEATURES = 6  # what the critic sees beside the free share of each resource


@njit(cache=True)
def _potential(episode, weight):
    return -weight * np.sum(episode.fragmented) / 1000.0


@njit(cache=True)
def _describe(episode, candidates, features, mask, cluster):
    """Write the observation of one episode; returns the number of candidates."""
    count = candidates.rows.shape[0]
    mask[:] = 0.0
    features[:] = 0.0
    if count > 0:
        features[:count] = describe_candidates(episode, candidates, typical_of(episode))
        mask[:count] = 1.0
    resources = episode.allocatable.shape[1]
    for resource in range(resources):
        capacity = max(np.sum(episode.allocatable[:, resource]), 1)
        cluster[resource] = 1.0 - np.sum(episode.requested[:, resource]) / capacity
    counters = episode.counters
    parked_gpu = 0
    for position in range(counters[PARKED]):
        parked_gpu += episode.shape_request[episode.shape[episode.parked[position]], GPU]
    gpu_capacity = max(np.sum(episode.allocatable[:, GPU]), 1)
    cluster[resources] = np.sum(episode.fragmented) / gpu_capacity
    cluster[resources + 1] = np.log1p(counters[QUEUED])
    cluster[resources + 2] = np.log1p(counters[PARKED])
    cluster[resources + 3] = parked_gpu / gpu_capacity
    cluster[resources + 4] = 1.0 - counters[ARRIVED] / max(counters[PODS], 1)
    cluster[resources + 5] = np.sum(episode.device_free == WHOLE_DEVICE_MILLI) * 1000.0 / gpu_capacity
    return count


@njit(cache=True)
def begin(batch, index, skip, generator, features, mask, cluster, rows, devices):
    """Play one freshly loaded episode to a decision, `skip` of them taken at random before.

    Returns the number of candidates, 0 if the episode has no such decision; the other arguments are as for `step`.
    """
    episode = view_compiled(batch, index)
    state, candidates = advance(episode, rows.shape[1])
    while skip > 0 and state == DECISION:
        chosen = int(generator.random() * candidates.rows.shape[0])
        place(episode, candidates.rows[chosen], candidates.devices[chosen])
        state, candidates = advance(episode, rows.shape[1])
        skip -= 1
    count = _describe(episode, candidates, features[index], mask[index], cluster[index])
    rows[index, :count] = candidates.rows
    devices[index, :count] = candidates.devices
    return count


@njit(cache=True)
def step(batch, actions, features, mask, cluster, rows, devices, counts, rewards, finished, unit, weight, discount):
    """Carry out one action in every episode and play on to its next decision.

    An action that names no candidate parks the pod. The reward is minus the waiting until the next decision in units of
    `unit` seconds, plus the change of the potential, discounted; the potential of a finished episode is 0.

    Args:
        batch: the episodes, changed in place.
        actions: (E,) int64.
        features: (E, K, F) float32, receives the candidates' features; so do the next four their parts.
        mask: (E, K) float32, 1 for a candidate, 0 for padding.
        cluster: (E, R + CLUSTER_FEATURES) float32, the cluster and its queue.
        rows: (E, K) int64, the candidates' nodes.
        devices: (E, K) int64, and their devices.
        counts: (E,) int64, the number of candidates.
        rewards: (E,) float64, receives the rewards.
        finished: (E,) bool, receives whether each episode is finished.
        unit: seconds of waiting that cost 1.
        weight: of the potential, per useless device.
        discount: of the learning problem.
    """
    for index in range(actions.shape[0]):
        episode = view_compiled(batch, index)
        waiting = episode.clock[WAITING_SECONDS]
        potential = _potential(episode, weight)
        action = actions[index]
        if 0 <= action < counts[index]:
            place(episode, rows[index, action], devices[index, action])
        else:
            park(episode)
        state, candidates = advance(episode, rows.shape[1])
        counts[index] = _describe(episode, candidates, features[index], mask[index], cluster[index])
        rows[index, : counts[index]] = candidates.rows
        devices[index, : counts[index]] = candidates.devices
        finished[index] = state != DECISION
        after = 0.0 if finished[index] else _potential(episode, weight)
        rewards[index] = discount * after - potential - (episode.clock[WAITING_SECONDS] - waiting) / unit
