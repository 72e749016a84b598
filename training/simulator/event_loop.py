"""A cluster under kube-scheduler, event by event.

Pods arrive, wait in the scheduling queue (`queues`), are placed one by one, run for their duration and leave.
`next_attempt` plays events until a pod is to be tried; `feasible_rows` says where it could go, as kube-scheduler looks:
from a rotating start, until it has found enough; the caller decides and calls `place` or `fail`. `scheduling` plays
whole episodes with rules and policies, `stepping` builds the learning problem on the same functions.

Times are seconds. An attempt to place a pod takes `ATTEMPT` of them, or `FAILED_ATTEMPT`, 0 unless told otherwise:
what it decides is decided at its beginning, and until its end nobody else is tried. Binding takes no time.
"""

import numpy as np

from extender.placement import ANY_DEVICE, is_alternative, shares_device, tightest_device
from training.simulator.compiled import inner, outer
from training.simulator.heap import pop, push, remove
from training.simulator.occupancy import has_room, put_on_node, take_off_node
from training.simulator.preemption import choose_preemption
from training.simulator.queues import (
    backoff_ends,
    end_backoffs,
    enqueue,
    next_in_queue,
    park,
    wake_for_room,
    wake_withheld,
)
from training.simulator.reservations import drop_reservation, is_withheld, reserve_if_due
from training.simulator.state import (
    ARRIVED,
    ATTEMPT,
    COST,
    CURRENT,
    EMPTY_NODES,
    EMPTY_NODES_NOW,
    FAILED_ATTEMPT,
    FIRST_ROW,
    FORCED,
    FRAGMENTED,
    HORIZON,
    NOBODY,
    NODES_TO_FIND,
    NOW,
    NOWHERE,
    PARKED,
    PLACED,
    PREEMPTION,
    RESERVATIONS,
    RESERVE_AFTER,
    RESERVE_AT_MOST,
    RESOURCES,
    WAITING,
    pending,
    request_of,
)

SECONDS_AN_HOUR = 3600.0


@inner
def next_attempt(episode):
    """Play events until a pod is to be tried; it has then left the queue.

    A pod leaves before another arrives in the same instant.

    Returns:
        the pod, NOBODY when the episode is over: nothing waits after the last arrival, nothing can happen any more, or
        the horizon is reached.
    """
    pods, counters = episode.pods, episode.counters
    count = pods.shape.shape[0]
    while True:
        is_over = np.inf
        if episode.busy_until[0] > episode.clock[NOW]:
            is_over = episode.busy_until[0]
        else:
            pod = next_in_queue(episode)
            if pod != NOBODY:
                return pod
        arrived = counters[ARRIVED]
        arrives = pods.arrival[arrived] if arrived < count else np.inf
        finishes = episode.running.keys[0] if episode.running.size[0] > 0 else np.inf
        returns = backoff_ends(episode)
        soonest = min(arrives, finishes, returns, is_over)
        nobody_waits = arrives == np.inf and pending(episode) == 0
        if nobody_waits or soonest == np.inf or soonest > episode.settings[HORIZON]:
            if not nobody_waits and soonest > episode.settings[HORIZON]:
                _pass_time(episode, episode.settings[HORIZON])
            if episode.samples.shape[0] > 0:
                for row in range(arrived, episode.samples.shape[0]):
                    _sample(episode, row)
            return NOBODY
        _pass_time(episode, soonest)
        if (
            episode.settings[RESERVE_AFTER] > 0.0 and counters[RESERVATIONS] < episode.settings[RESERVE_AT_MOST]
        ):  # before anybody else takes what is due to those that wait
            for position in range(counters[PARKED]):
                reserve_if_due(episode, episode.parked[position])
        if finishes <= soonest:
            _finish(episode, pop(episode.running))
        elif returns <= soonest:
            end_backoffs(episode)
        elif arrives <= soonest:
            if episode.samples.shape[0] > 0:
                _sample(episode, arrived)
            enqueue(episode, arrived)
            counters[ARRIVED] += 1
            wake_withheld(episode)


@inner
def list_feasible(episode, pod, rows):
    """Where the pod may go, in the order in which kube-scheduler looks, from a rotating start until it has enough.

    Nodes that are reserved for others are found like any others and then left out, as by an extender's filter.
    Source: pkg/scheduler/schedule_one.go (findNodesThatPassFilters, findNodesThatPassExtenders).

    Args:
        rows: (N,) int64, receives the nodes.

    Returns:
        how many nodes, and whether others were found that reservations withhold.
    """
    cluster, counters = episode.cluster, episode.counters
    count = cluster.pod_count.shape[0]
    shape = episode.pods.shape[pod]
    if episode.shapes.hopeless[shape]:
        return 0, False
    enough = int(episode.settings[NODES_TO_FIND])
    first = counters[FIRST_ROW] if enough < count else 0
    found, listed = 0, 0
    index = 0
    while index < count:
        row = first + index
        if row >= count:
            row -= count
        if has_room(cluster, episode.shapes, shape, row):
            if found == enough:  # it takes one more to know that there are enough, and the next search starts there
                break
            found += 1
            if counters[RESERVATIONS] == 0 or not is_withheld(episode, pod, row):
                rows[listed] = row
                listed += 1
        index += 1
    counters[FIRST_ROW] = (first + index) % count
    return listed, found > listed


@inner
def list_candidates_of(episode, pod, feasible, rows, devices):
    """The candidates on these nodes, in the order of `placement.list_candidates`.

    Args:
        feasible: (n,) int64, nodes with room for the pod.
        rows: (K,) int64, receives the candidates' nodes; K >= n cuts only looser devices.
        devices: (K,) int64, receives their devices.

    Returns:
        how many candidates.
    """
    nodes = episode.cluster.nodes
    request = request_of(episode.shapes, episode.pods, pod)
    count = feasible.shape[0]
    shares = shares_device(request)
    for index in range(count):
        rows[index] = feasible[index]
        devices[index] = tightest_device(nodes, request, feasible[index]) if shares else ANY_DEVICE
    if not shares:
        return count
    listed = count
    for device in range(nodes.device_free.shape[1]):
        for index in range(count):
            if listed < rows.shape[0] and is_alternative(nodes, request, rows[index], device, devices[index]):
                rows[listed] = rows[index]
                devices[listed] = device
                listed += 1
    return listed


@inner
def next_decision(episode, feasible, rows, devices, generator):
    """Play on until there is something to decide, and list the candidates.

    Like kube-scheduler it asks nobody where there is only one way to place a pod.

    Args:
        episode: changed in place; its CURRENT pod is the one to decide on.
        feasible: (N,) int64, room to work in.
        rows: (K,) int64, receives the candidates' nodes.
        devices: (K,) int64, and their devices.
        generator: numpy Generator.

    Returns:
        how many candidates; 0 when the episode is over.
    """
    while True:
        pod = next_attempt(episode)
        episode.counters[CURRENT] = pod
        if pod == NOBODY:
            return 0
        found, withheld = list_feasible(episode, pod, feasible)
        if found == 0:
            fail(episode, pod, withheld, generator)
            continue
        count = list_candidates_of(episode, pod, feasible[:found], rows, devices)
        if count > 1:
            return count
        episode.counters[FORCED] += 1
        place(episode, pod, rows[0], devices[0])


@inner
def place(episode, pod, row, device):
    """Start the pod on a node."""
    pods, counters = episode.pods, episode.counters
    now = episode.clock[NOW]
    episode.busy_until[0] = now + episode.settings[ATTEMPT]
    drop_reservation(episode, pod)
    put_on_node(episode, pod, row, device)
    if np.isnan(pods.started[pod]):
        pods.started[pod] = now
        counters[PLACED] += 1
    pods.began[pod] = now
    pods.waited[pod] += now - pods.pending_since[pod]
    pods.finishes[pod] = now + pods.duration[pod]
    push(episode.running, pods.finishes[pod], 0.0, pods.rank[pod], pod)
    wake_withheld(episode)


@outer
def fail(episode, pod, withheld, generator):
    """The pod cannot be placed now: preempt for it if that is on and helps, or park it, and reserve if that is due.

    Args:
        withheld: whether reservations alone keep it from a node.
        generator: numpy Generator, says where the search for victims starts.
    """
    if episode.settings[PREEMPTION] > 0:
        row, victims = choose_preemption(episode, pod, generator)
        if row != NOWHERE:
            for victim in victims:
                _evict(episode, victim)
            place(episode, pod, row, ANY_DEVICE)
            wake_for_room(episode, row)
            return
    episode.busy_until[0] = episode.clock[NOW] + episode.settings[FAILED_ATTEMPT]
    park(episode, pod, withheld)
    reserve_if_due(episode, pod)


@inner
def _finish(episode, pod):
    row = take_off_node(episode, pod)
    wake_for_room(episode, row)


@inner
def _evict(episode, victim):
    """Send a running pod back to the queue; what it has done is lost."""
    remove(episode.running, victim)
    take_off_node(episode, victim)
    episode.pods.finishes[victim] = np.nan
    episode.pods.preempted[victim] += 1
    enqueue(episode, victim)


@inner
def _pass_time(episode, until):
    clock, cluster = episode.clock, episode.cluster
    elapsed = until - clock[NOW]
    if elapsed > 0.0:
        clock[1 + WAITING] += elapsed * pending(episode)
        clock[1 + FRAGMENTED] += elapsed * cluster.rates[0] / 1000.0
        clock[1 + EMPTY_NODES] += elapsed * episode.counters[EMPTY_NODES_NOW]
        clock[1 + COST] += elapsed * cluster.rates[1] / SECONDS_AN_HOUR
        for resource in range(cluster.in_use.shape[0]):
            clock[1 + RESOURCES + resource] += elapsed * cluster.in_use[resource]
        clock[NOW] = until


@inner
def _sample(episode, row):
    for position in range(episode.clock.shape[0]):
        episode.samples[row, position] = episode.clock[position]
