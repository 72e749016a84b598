"""What each node has and what is taken of it, by the API server's account.

Computed from the stored objects with other code than the extender's, so that the two can be compared; the sums are
compared with kube-scheduler's own as well, for the rules (init containers, sidecars, pod-level resources) are written
down a second time here.
"""

import math
from collections.abc import Iterable, Mapping
from decimal import Decimal

from kubernetes.utils.quantity import parse_quantity

from tests.cluster.api import Document
from tests.cluster.extender_process import NodeView

Amounts = dict[str, Decimal]
NOTHING = Decimal(0)
RESOURCES = ("cpu", "memory", "gpu")


def account(nodes: Iterable[Document], pods: Iterable[Document]) -> dict[str, NodeView]:
    """What the extender ought to know of each node."""
    held: dict[str, list[Document]] = {}
    for pod in pods:
        if "nodeName" in pod["spec"] and not has_ended(pod):
            held.setdefault(pod["spec"]["nodeName"], []).append(pod)
    return {
        node["metadata"]["name"]: NodeView(
            base_units(read_amounts(node["status"]["allocatable"])),
            add_up(base_units(pod_requests(pod)) for pod in held.get(node["metadata"]["name"], [])),
        )
        for node in nodes
    }


def has_ended(pod: Document) -> bool:
    """Whether the pod has run its course; it is on its node still, and takes nothing."""
    return pod["status"]["phase"] in ("Succeeded", "Failed")


def add_up(amounts: Iterable[Mapping[str, int]]) -> dict[str, int]:
    """The sum, with every resource named."""
    total = dict.fromkeys(RESOURCES, 0)
    for each in amounts:
        for name in RESOURCES:
            total[name] += each[name]
    return total


def pod_requests(pod: Document) -> Amounts:
    """What the pod reserves: all that runs together at the worst moment, unless the pod names a total itself.

    Source: Kubernetes' documentation, "Sidecar containers: resource sharing within containers" and
    "Pod-level resources".
    """
    spec = pod["spec"]
    moments: list[Amounts] = []
    sidecars: Amounts = {}
    for container in spec.get("initContainers", []):
        requests = read_amounts(container["resources"].get("requests", {}))
        moments.append(plus(sidecars, requests))
        if container.get("restartPolicy") == "Always":
            sidecars = plus(sidecars, requests)
    running = sidecars
    for container in spec["containers"]:
        running = plus(running, read_amounts(container["resources"].get("requests", {})))
    moments.append(running)
    worst = {name: max(moment.get(name, NOTHING) for moment in moments) for moment in moments for name in moment}
    return worst | read_amounts(spec.get("resources", {}).get("requests", {}))


def plus(left: Amounts, right: Amounts) -> Amounts:
    """The sum of two lists of amounts."""
    return {name: left.get(name, NOTHING) + right.get(name, NOTHING) for name in left.keys() | right.keys()}


def read_amounts(quantities: Mapping[str, str]) -> Amounts:
    """The amounts in a list of quantities."""
    # The package has no types.
    return {name: Decimal(parse_quantity(text)) for name, text in quantities.items()}  # type: ignore[no-untyped-call]


def base_units(amounts: Amounts) -> dict[str, int]:
    """The columns of the extender: whole devices and shares of one are one resource."""
    devices = 1000 * amounts.get("nvidia.com/gpu", NOTHING) + amounts.get("stowage.dev/gpu-milli", NOTHING)
    return {
        "cpu": math.ceil(1000 * amounts.get("cpu", NOTHING)),
        "memory": math.ceil(amounts.get("memory", NOTHING)),
        "gpu": int(devices),
    }


def base_units_of_scheduler(requested: Mapping[tuple[str, str], float]) -> dict[str, dict[str, int]]:
    """kube-scheduler's sums by node, in the same columns; a node without pods is not in them."""
    nodes: dict[str, Amounts] = {}
    for (node, resource), amount in requested.items():
        # Sums of floats: a millionth is far below any amount that can be asked for.
        nodes.setdefault(node, {})[resource] = Decimal(amount).quantize(Decimal("0.000001"))
    return {node: base_units(amounts) for node, amounts in nodes.items()}


def differences(seen: Mapping[str, NodeView], expected: Mapping[str, NodeView]) -> list[str]:
    """A line for each amount on which the extender and the API server differ, and for each node that only one has."""
    lines = [f"{name}: only the extender has it" for name in sorted(seen.keys() - expected.keys())]
    lines += [f"{name}: the extender does not have it" for name in sorted(expected.keys() - seen.keys())]
    for name in sorted(seen.keys() & expected.keys()):
        for kind in NodeView._fields:
            ours, theirs = getattr(seen[name], kind), getattr(expected[name], kind)
            lines += [
                f"{name}: {kind} {resource} is {ours[resource]} to the extender, {theirs[resource]} to the API server"
                for resource in RESOURCES
                if ours[resource] != theirs[resource]
            ]
    return lines
