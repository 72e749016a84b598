"""The learning problem in compiled code: an action in, the next observation and the reward out, for a whole batch.

`env` owns the arrays and decides when an episode is replaced; here they are filled. What a policy sees of a candidate
are the extender's features; what only the critic sees is the cluster as a whole and its queue.
"""

from typing import NamedTuple

import numpy as np

from extender.placement import GPU, WHOLE_DEVICE_MILLI
from training.simulator.compiled import entry, inner
from training.simulator.described import describe_each
from training.simulator.episodes import view_compiled
from training.simulator.event_loop import fail, next_decision, place
from training.simulator.state import (
    ARRIVED,
    CURRENT,
    NOBODY,
    PARKED,
    WAITING,
)

BEGIN = -1  # instead of an action, for an episode that has not begun
CLUSTER_FEATURES = 6  # what the critic sees beside the free share of each resource


@inner
def _potential(episode, weight):
    return -weight * episode.cluster.rates[0] / 1000.0


class Room(NamedTuple):
    """Arrays to work in."""

    feasible: np.ndarray  # (N,) int64
    after: np.ndarray  # (D,) int64


@inner
def _describe(episode, count, features, mask, cluster, rows, devices, room):
    """Write the observation of one episode."""
    mask[:] = 0.0
    features[:] = 0.0
    nodes, pods, shapes, counters = episode.cluster.nodes, episode.pods, episode.shapes, episode.counters
    if count > 0:
        describe_each(episode, counters[CURRENT], rows[:count], devices[:count], episode.tables, room.after, features)
        mask[:count] = 1.0
    resources = nodes.allocatable.shape[1]
    gpu_capacity = 1
    for resource in range(resources):
        capacity = 0
        for row in range(nodes.allocatable.shape[0]):
            capacity += nodes.allocatable[row, resource]
        cluster[resource] = 1.0 - episode.cluster.in_use[resource] / max(capacity, 1)
        if resource == GPU:
            gpu_capacity = max(capacity, 1)
    whole = 0
    for row in range(nodes.device_free.shape[0]):
        for device in range(nodes.device_free.shape[1]):
            whole += nodes.device_free[row, device] == WHOLE_DEVICE_MILLI
    parked_gpu = 0
    for position in range(counters[PARKED]):
        shape = pods.shape[episode.parked[position]]
        parked_gpu += shapes.request[shape, GPU]
    cluster[resources] = episode.cluster.rates[0] / gpu_capacity
    cluster[resources + 1] = np.log1p(episode.active.size[0] + episode.backoff.size[0])
    cluster[resources + 2] = np.log1p(counters[PARKED])
    cluster[resources + 3] = parked_gpu / gpu_capacity
    cluster[resources + 4] = 1.0 - counters[ARRIVED] / max(pods.shape.shape[0], 1)
    cluster[resources + 5] = whole * 1000.0 / gpu_capacity


@entry
def step(
    batch,
    first,
    actions,
    skip,
    features,
    mask,
    cluster,
    rows,
    devices,
    counts,
    room,
    rewards,
    finished,
    generator,
    unit,
    weight,
    discount,
):
    """Carry out one action in each of a row of episodes and play on to its next decision.

    An action that names no candidate leaves the pod unschedulable for now. The reward is minus the waiting until the
    next decision in units of `unit` seconds, plus the change of the potential, discounted; the potential of a finished
    episode is 0.

    Args:
        batch: E episodes, changed in place.
        first: the first of the episodes that are stepped.
        actions: (n,) int64, candidates' numbers for these; `BEGIN` for one that was freshly loaded.
        skip: an episode that begins goes on to its decision of this number, those before are taken at random.
        features: (E, K, F) float32, receives the candidates' features; so do the next four their parts.
        mask: (E, K) float32, 1 for a candidate, 0 for padding.
        cluster: (E, R + CLUSTER_FEATURES) float32, the cluster and its queue.
        rows: (E, K) int64, the candidates' nodes.
        devices: (E, K) int64, and their devices.
        counts: (E,) int64, the number of candidates.
        room: arrays to work in.
        rewards: (E,) float64, receives the rewards.
        finished: (E,) bool, receives whether each episode is finished.
        generator: numpy Generator, for decisions that are skipped and for preemption.
        unit: seconds of waiting that cost 1.
        weight: of the potential, per useless device.
        discount: of the learning problem.
    """
    for index in range(first, first + actions.shape[0]):
        episode = view_compiled(batch, index)
        waiting = episode.clock[1 + WAITING]
        potential = _potential(episode, weight)
        action = actions[index - first]
        remaining = skip if action == BEGIN else 0
        count = counts[index]
        while True:
            pod = episode.counters[CURRENT]
            if 0 <= action < count:
                place(episode, pod, rows[index, action], devices[index, action])
            elif pod != NOBODY:
                fail(episode, pod, True, generator)
            count = next_decision(episode, room.feasible, rows[index], devices[index], generator)
            if remaining == 0 or count == 0:
                break
            remaining -= 1
            action = int(generator.random() * count)
        counts[index] = count
        _describe(episode, count, features[index], mask[index], cluster[index], rows[index], devices[index], room)
        finished[index] = count == 0
        after = 0.0 if finished[index] else _potential(episode, weight)
        rewards[index] = discount * after - potential - (episode.clock[1 + WAITING] - waiting) / unit
