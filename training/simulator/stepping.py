"""The learning problem in compiled code: an action in, the next observation and the reward out, for a whole batch.

`env` owns the arrays and decides when an episode is replaced; here they are filled. What a policy sees of a candidate
are the extender's features; what only the critic sees is the cluster as a whole and its queue.
"""

from typing import NamedTuple

import numpy as np

from extender.placement import CPU, GPU, WHOLE_DEVICE_MILLI
from training.simulator.compiled import entry, inner
from training.simulator.described import describe_each
from training.simulator.event_loop import fail, next_decision, place
from training.simulator.state import (
    ARRIVED,
    COST,
    CURRENT,
    FRAGMENTED,
    NOBODY,
    NOW,
    PARKED,
    RESOURCES,
    WAITING,
)
from training.simulator.views import view_compiled

BEGIN = -1  # instead of an action, for an episode that has not begun
CLUSTER_FEATURES = 6  # what the critic sees beside the free share of each resource


class Terms(NamedTuple):
    """What rewards are made of; `rewards.RewardWeights` says what each weight means."""

    unit: float  # seconds
    waiting: float
    allocation: float
    cost: float
    violations: float
    fragmentation: float
    potential: float
    discount: float
    sparse: bool


class Spent(NamedTuple):
    """What an episode has come to, in the terms of the reward."""

    waiting: float  # seconds, of all pods
    idle: float  # seconds, of the whole cluster's GPUs
    cost: float  # price units
    late: int  # pods that have waited longer than promised
    useless: float  # seconds, of one device


class Room(NamedTuple):
    """Arrays to work in."""

    feasible: np.ndarray  # (N,) int64
    after: np.ndarray  # (D,) int64


@inner
def _potential(episode, weight):
    return -weight * episode.cluster.rates[0] / 1000.0


@inner
def _spent(episode, terms, promised):
    """What has been spent up to now; what has no weight is not looked at where looking takes time."""
    clock = episode.clock
    idle = _idle_seconds(episode) if terms.allocation > 0.0 else 0.0
    late = _late_pods(episode, promised) if terms.violations > 0.0 else 0
    return Spent(clock[1 + WAITING], idle, clock[1 + COST], late, clock[1 + FRAGMENTED])


@inner
def _idle_seconds(episode):
    allocatable = episode.cluster.nodes.allocatable
    capacity = 0
    resource = GPU
    for row in range(allocatable.shape[0]):
        capacity += allocatable[row, GPU]
    if capacity == 0:
        resource = CPU
        for row in range(allocatable.shape[0]):
            capacity += allocatable[row, CPU]
    return episode.clock[NOW] - episode.clock[1 + RESOURCES + resource] / max(capacity, 1)


@inner
def _late_pods(episode, promised):
    pods, now = episode.pods, episode.clock[NOW]
    late = 0
    for pod in range(episode.counters[ARRIVED]):
        waited = pods.waited[pod]
        if np.isnan(pods.finishes[pod]):
            waited += now - pods.pending_since[pod]
        late += waited > promised[pod]
    return late


@inner
def _price(terms, before, after):
    """What the time between cost, in units of the reward."""
    return (
        terms.waiting * (after.waiting - before.waiting) / terms.unit
        + terms.allocation * (after.idle - before.idle) / terms.unit
        + terms.cost * (after.cost - before.cost)
        + terms.violations * (after.late - before.late)
        + terms.fragmentation * (after.useless - before.useless) / terms.unit
    )


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
    owed,
    finished,
    generator,
    promised,
    terms,
):
    """Carry out one action in each of a row of episodes and play on to its next decision.

    An action that names no candidate leaves the pod unschedulable for now. The reward is minus what the time until the
    next decision cost, plus the change of the potential, discounted; the potential of a finished episode is 0. Sparse
    rewards are 0 until the end of the episode, which pays for everything since its first decision. An episode that is
    finished stays as it is.

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
        owed: (E,) float64, what each episode has cost since its first decision.
        finished: (E,) bool, receives whether each episode is finished.
        generator: numpy Generator, for decisions that are skipped and for preemption.
        promised: (E, P) float64, seconds that each pod may wait.
        terms: what rewards are made of.
    """
    for index in range(first, first + actions.shape[0]):
        action = actions[index - first]
        begins = action == BEGIN
        if finished[index] and not begins:
            rewards[index] = 0.0
            continue
        episode = view_compiled(batch, index)
        before = _spent(episode, terms, promised[index])
        potential = _potential(episode, terms.potential)
        remaining = skip if begins else 0
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
        price = _price(terms, before, _spent(episode, terms, promised[index]))
        owed[index] = 0.0 if begins else owed[index] + price
        if begins:
            rewards[index] = 0.0
        elif terms.sparse:
            rewards[index] = -owed[index] if finished[index] else 0.0
        else:
            after = 0.0 if finished[index] else _potential(episode, terms.potential)
            rewards[index] = terms.discount * after - potential - price
