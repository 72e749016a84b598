"""Pods on nodes: putting them there, taking them off, and what is summed up over the nodes on the way.

Every change of a node goes through here, so that the sums that the clock integrates, the list of the pods on each
node, and the version by which `scoring` knows what to score again stay right.
"""

from extender.fragmentation import fragmentation
from extender.placement import CPU, fits, occupy, release, return_to
from training.simulator.compiled import inner
from training.simulator.state import CHANGES, EMPTY_NODES_NOW, NOBODY, request_of, shape_request


@inner
def has_room(cluster, shapes, shape, row):
    """Whether a pod of this shape may and could go to the node: NodeResourcesFit, and the mask of the other filters.

    Source: pkg/scheduler/framework/plugins/noderesources/fit.go (the pods-per-node limit is checked there too).
    """
    return (
        cluster.admits[shape, row]
        and cluster.pod_count[row] < cluster.pod_limit[row]
        and fits(cluster.nodes, shape_request(shapes, shape), row)
    )


@inner
def put_on_node(episode, pod, row, device):
    """Let a pod run on a node that has room for it; its queue entry and its times are the caller's."""
    cluster, pods = episode.cluster, episode.pods
    request = request_of(episode.shapes, pods, pod)
    pods.taken[pod] = occupy(cluster.nodes, request, row, device)
    pods.node[pod] = row
    after = cluster.first_pod[row]
    pods.next_pod[pod] = after
    pods.previous_pod[pod] = NOBODY
    if after != NOBODY:
        pods.previous_pod[after] = pod
    cluster.first_pod[row] = pod
    if cluster.pod_count[row] == 0:
        episode.counters[EMPTY_NODES_NOW] -= 1
        cluster.rates[1] += cluster.price[row]
    cluster.pod_count[row] += 1
    _sum_up(episode, request, row, 1)


@inner
def take_off_node(episode, pod):
    """Take a running pod off its node; returns the node."""
    cluster, pods = episode.cluster, episode.pods
    request = request_of(episode.shapes, pods, pod)
    row = pods.node[pod]
    release(cluster.nodes, request, row, pods.taken[pod])
    before, after = pods.previous_pod[pod], pods.next_pod[pod]
    if before == NOBODY:
        cluster.first_pod[row] = after
    else:
        pods.next_pod[before] = after
    if after != NOBODY:
        pods.previous_pod[after] = before
    cluster.pod_count[row] -= 1
    if cluster.pod_count[row] == 0:
        episode.counters[EMPTY_NODES_NOW] += 1
        cluster.rates[1] -= cluster.price[row]
    _sum_up(episode, request, row, -1)
    return row


@inner
def lift(episode, pod):
    """Take a running pod off its node for a moment, to see what would fit then; `put_back` undoes it."""
    request = request_of(episode.shapes, episode.pods, pod)
    row = episode.pods.node[pod]
    release(episode.cluster.nodes, request, row, episode.pods.taken[pod])
    episode.cluster.pod_count[row] -= 1


@inner
def put_back(episode, pod):
    """Undo `lift`, on the same devices."""
    request = request_of(episode.shapes, episode.pods, pod)
    row = episode.pods.node[pod]
    return_to(episode.cluster.nodes, request, row, episode.pods.taken[pod])
    episode.cluster.pod_count[row] += 1


@inner
def measure(cluster, tables, row):
    """Bring a node's fragmentation up to date."""
    nodes = cluster.nodes
    cpu_free = nodes.allocatable[row, CPU] - nodes.requested[row, CPU]
    wasted = fragmentation(tables, nodes.model[row], cpu_free, nodes.device_free[row])
    cluster.rates[0] += wasted - cluster.fragmentation[row]
    cluster.fragmentation[row] = wasted


@inner
def _sum_up(episode, request, row, sign):
    cluster, counters = episode.cluster, episode.counters
    for resource in range(request.request.shape[0]):
        cluster.in_use[resource] += sign * request.request[resource]
    measure(cluster, episode.tables, row)
    cluster.version[row] += 1
    cluster.changed[counters[CHANGES] % cluster.changed.shape[0]] = row
    counters[CHANGES] += 1
