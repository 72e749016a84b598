"""A cluster from a file: what `kubectl get nodes,pods -A -o json` prints, for runs without an API server.

The events are those of a complete list; `cluster.feed` takes them as it takes the watch's.
"""

from collections.abc import Sequence

from extender import wire
from extender.cluster.feed import Event, Kind, Listed, pod_uid, seen_node, seen_pod


def decode_file(body: bytes, resources: Sequence[str]) -> list[Event]:
    """Events of a file of Kubernetes objects: a `List` of nodes and pods, as kubectl prints it.

    Raises:
        WireError: the file is no such list.
        QuantityError: an amount in it is no quantity.
    """
    nodes, pods = wire.decode_mixed_list(body)
    events: list[Event] = [seen_node(node, resources, True) for node in nodes]
    events += [seen_pod(pod, resources, True) for pod in pods]
    events.append(Listed(Kind.NODES, frozenset(node.metadata.name for node in nodes)))
    events.append(Listed(Kind.PODS, frozenset(pod_uid(pod.metadata) for pod in pods)))
    return events
