"""The learning problem in compiled code: an action in, the next observation and the reward out, for a whole batch.

`env` owns the arrays and decides when an episode is replaced; here they are filled. What a policy sees of a candidate
are the extender's features; what only the critic sees is the cluster as a whole and its queue.
"""

import numpy as np

from extender.placement import GPU, WHOLE_DEVICE_MILLI
from training.simulator.compiled import inner, outer
from training.simulator.described import describe_candidates
from training.simulator.episodes import view_compiled
from training.simulator.event_loop import fail, next_decision, place
from training.simulator.state import (
    ARRIVED,
    CURRENT,
    NOBODY,
    PARKED,
    WAITING,
)

CLUSTER_FEATURES = 6  # what the critic sees beside the free share of each resource


@inner
def _potential(episode, weight):
    return -weight * episode.cluster.rates[0] / 1000.0


@outer
def _describe(episode, count, features, mask, cluster, rows, devices):
    """Write the observation of one episode."""
    mask[:] = 0.0
    features[:] = 0.0
    nodes, pods, shapes, counters = episode.cluster.nodes, episode.pods, episode.shapes, episode.counters
    if count > 0:
        describe_candidates(episode, counters[CURRENT], rows[:count], devices[:count], episode.tables, features)
        mask[:count] = 1.0
    resources = nodes.allocatable.shape[1]
    for resource in range(resources):
        capacity = max(np.sum(nodes.allocatable[:, resource]), 1)
        cluster[resource] = 1.0 - episode.cluster.in_use[resource] / capacity
    parked_gpu = 0
    for position in range(counters[PARKED]):
        shape = pods.shape[episode.parked[position]]
        parked_gpu += shapes.request[shape, GPU]
    gpu_capacity = max(np.sum(nodes.allocatable[:, GPU]), 1)
    cluster[resources] = episode.cluster.rates[0] / gpu_capacity
    cluster[resources + 1] = np.log1p(episode.active.size[0] + episode.backoff.size[0])
    cluster[resources + 2] = np.log1p(counters[PARKED])
    cluster[resources + 3] = parked_gpu / gpu_capacity
    cluster[resources + 4] = 1.0 - counters[ARRIVED] / max(pods.shape.shape[0], 1)
    cluster[resources + 5] = np.sum(nodes.device_free == WHOLE_DEVICE_MILLI) * 1000.0 / gpu_capacity


@outer
def begin(batch, index, skip, generator, features, mask, cluster, rows, devices, feasible):
    """Play one freshly loaded episode to a decision, `skip` of them taken at random before.

    Returns the number of candidates, 0 if the episode has no such decision; the other arguments are as for `step`.
    """
    episode = view_compiled(batch, index)
    count = next_decision(episode, feasible, rows[index], devices[index], generator)
    while skip > 0 and count > 0:
        chosen = int(generator.random() * count)
        place(episode, episode.counters[CURRENT], rows[index, chosen], devices[index, chosen])
        count = next_decision(episode, feasible, rows[index], devices[index], generator)
        skip -= 1
    _describe(episode, count, features[index], mask[index], cluster[index], rows[index], devices[index])
    return count


@outer
def step(
    batch,
    actions,
    features,
    mask,
    cluster,
    rows,
    devices,
    counts,
    feasible,
    rewards,
    finished,
    generator,
    unit,
    weight,
    discount,
):
    """Carry out one action in every episode and play on to its next decision.

    An action that names no candidate leaves the pod unschedulable for now. The reward is minus the waiting until the
    next decision in units of `unit` seconds, plus the change of the potential, discounted; the potential of a finished
    episode is 0.

    Args:
        batch: the episodes, changed in place.
        actions: (E,) int64, candidates' numbers.
        features: (E, K, F) float32, receives the candidates' features; so do the next four their parts.
        mask: (E, K) float32, 1 for a candidate, 0 for padding.
        cluster: (E, R + CLUSTER_FEATURES) float32, the cluster and its queue.
        rows: (E, K) int64, the candidates' nodes.
        devices: (E, K) int64, and their devices.
        counts: (E,) int64, the number of candidates.
        feasible: (N,) int64, room to work in.
        rewards: (E,) float64, receives the rewards.
        finished: (E,) bool, receives whether each episode is finished.
        generator: numpy Generator; only preemption draws from it.
        unit: seconds of waiting that cost 1.
        weight: of the potential, per useless device.
        discount: of the learning problem.
    """
    for index in range(actions.shape[0]):
        episode = view_compiled(batch, index)
        waiting = episode.clock[1 + WAITING]
        potential = _potential(episode, weight)
        pod = episode.counters[CURRENT]
        if 0 <= actions[index] < counts[index]:
            place(episode, pod, rows[index, actions[index]], devices[index, actions[index]])
        elif pod != NOBODY:
            fail(episode, pod, True, generator)
        counts[index] = next_decision(episode, feasible, rows[index], devices[index], generator)
        _describe(episode, counts[index], features[index], mask[index], cluster[index], rows[index], devices[index])
        finished[index] = counts[index] == 0
        after = 0.0 if finished[index] else _potential(episode, weight)
        rewards[index] = discount * after - potential - (episode.clock[1 + WAITING] - waiting) / unit
