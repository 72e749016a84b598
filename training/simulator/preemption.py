"""Preemption of lower priorities, with kube-scheduler's choice of node and victims.

On each node where the pod would fit without the pods of lower priority, as many of these as possible are spared, the
most important first; the rest are the node's victims. The node is taken whose most important victim matters least;
then by the sum of the victims' priorities, their number, and whose most important victims started last. The search
begins anywhere among the nodes where it might help, and ends with a tenth of them, or a hundred, where it does.
Simplified: victims leave at once, the pod takes their place in the same instant, and there are no disruption budgets.
A node that is reserved for another pod is none to preempt on, whatever the priorities.

Source: pkg/scheduler/framework/plugins/defaultpreemption/default_preemption.go (SelectVictimsOnNode),
pkg/scheduler/framework/preemption/preemption.go (pickOneNodeForPreemption), pkg/scheduler/util/utils.go.
"""

import numpy as np

from training.simulator.compiled import inner, outer
from training.simulator.occupancy import has_room, lift, put_back
from training.simulator.reservations import is_withheld
from training.simulator.state import NOBODY, NOWHERE

LEAST_CANDIDATES = 100  # DefaultPreemptionArgs.minCandidateNodesAbsolute
CANDIDATE_PERCENTAGE = 10  # DefaultPreemptionArgs.minCandidateNodesPercentage
PRIORITY_OFFSET = 1 << 31  # makes every priority positive before they are added up


@inner
def _is_more_important(pods, one, other):
    if pods.priority[one] != pods.priority[other]:
        return pods.priority[one] > pods.priority[other]
    return pods.began[one] < pods.began[other]


@outer
def victims_on(episode, pod, row):
    """The pods that would have to leave the node for this one, the most important first.

    Returns:
        (V,) int64; empty where that would not help, or no pod there has a lower priority.
    """
    pods, cluster = episode.pods, episode.cluster
    shape, priority = pods.shape[pod], pods.priority[pod]
    lower = np.empty(cluster.pod_count[row], dtype=np.int64)
    count = 0
    other = cluster.first_pod[row]
    while other != NOBODY:
        if pods.priority[other] < priority:
            position = count
            while position > 0 and _is_more_important(pods, other, lower[position - 1]):
                lower[position] = lower[position - 1]
                position -= 1
            lower[position] = other
            count += 1
        other = pods.next_pod[other]
    for index in range(count):
        lift(episode, lower[index])
    fits = count > 0 and has_room(cluster, episode.shapes, shape, row)
    victims = 0
    for index in range(count):
        candidate = lower[index]
        put_back(episode, candidate)
        if fits and not has_room(cluster, episode.shapes, shape, row):
            lift(episode, candidate)
            lower[victims] = candidate
            victims += 1
    for index in range(victims):
        put_back(episode, lower[index])
    return lower[:victims] if fits else lower[:0]


@outer
def choose_preemption(episode, pod, generator):
    """The node on which to preempt, and the victims.

    Returns:
        row, NOWHERE if preemption does not help; victims (V,) int64.
    """
    rows = np.empty(episode.cluster.pod_count.shape[0], dtype=np.int64)
    count = 0
    for row in range(rows.shape[0]):
        if _might_help(episode, pod, row):
            rows[count] = row
            count += 1
    wanted = max(count * CANDIDATE_PERCENTAGE // 100, LEAST_CANDIDATES)
    offset = int(generator.random() * count)
    best = NOWHERE
    best_victims = np.empty(0, dtype=np.int64)
    found = 0
    for index in range(count):
        row = rows[(offset + index) % count]
        victims = victims_on(episode, pod, row)
        if victims.shape[0] == 0:
            continue
        if best == NOWHERE or _is_better(episode.pods, victims, best_victims):
            best, best_victims = row, victims
        found += 1
        if found == wanted:
            break
    return best, best_victims


@inner
def _might_help(episode, pod, row):
    """Whether kube-scheduler would look for victims there: the pod may go there, and an empty node would do."""
    shape = episode.pods.shape[pod]
    request, allocatable = episode.shapes.request, episode.cluster.nodes.allocatable
    might = episode.cluster.admits[shape, row] and not is_withheld(episode, pod, row)
    for resource in range(request.shape[1]):
        might = might and request[shape, resource] <= allocatable[row, resource]
    return might


@inner
def _is_better(pods, victims, others):
    highest, other_highest = pods.priority[victims[0]], pods.priority[others[0]]
    if highest != other_highest:
        return highest < other_highest
    total, other_total = 0, 0
    for victim in victims:
        total += pods.priority[victim] + PRIORITY_OFFSET
    for victim in others:
        other_total += pods.priority[victim] + PRIORITY_OFFSET
    if total != other_total:
        return total < other_total
    if victims.shape[0] != others.shape[0]:
        return victims.shape[0] < others.shape[0]
    # Victims are in the order of importance, so the first is the earliest of those with the highest priority.
    one, other = victims[0], others[0]
    return pods.began[one] > pods.began[other]
