"""Whether pods go where the policy ranks first, asked of the extender before kube-scheduler asks it."""

from typing import Any

from tests.cluster.api import PODS, Api
from tests.cluster.kind.arriving import tolerant_pod
from tests.cluster.kind.release import Extender
from tests.cluster.processes import wait_for

BOUND_LIMIT_SECONDS = 180.0
NODES_LIMIT_SECONDS = 120.0
SHAPES = (
    {"cpu": "4", "memory": "8Gi"},
    {"cpu": "8", "memory": "8Gi", "stowage.dev/gpu-milli": "300"},
    {"cpu": "2", "memory": "4Gi", "stowage.dev/gpu-milli": "700"},
    {"cpu": "8", "memory": "32Gi", "nvidia.com/gpu": "1"},
    {"cpu": "16", "memory": "32Gi", "nvidia.com/gpu": "4"},
    {"cpu": "1", "memory": "1Gi"},
)


def is_bound(api: Api, name: str) -> bool:
    """Whether a pod has a node."""
    return "nodeName" in api.get(f"{PODS}/{name}")["spec"]


def simulated_nodes(api: Api) -> list[str]:
    """Names of the nodes that KWOK answers for, once all of them are ready.

    On a machine that does much else their heartbeats are late at times, and kube-scheduler leaves them out meanwhile.
    """

    def found() -> list[dict[str, Any]]:
        return [node for node in api.list_nodes() if node["metadata"]["labels"].get("type") == "kwok"]

    def are_ready() -> bool:
        taints = [taint["key"] for node in found() for taint in node["spec"].get("taints", [])]
        return not any(key.startswith("node.kubernetes.io/") for key in taints)

    wait_for(are_ready, NODES_LIMIT_SECONDS, "every simulated node to be ready", 0.5)
    return [node["metadata"]["name"] for node in found()]


def assert_pods_go_where_ranked_first(api: Api, extender: Extender, scheduler: str) -> None:
    """Create a pod of each shape, one after the other, and compare its node with the extender's first choice.

    A gate holds each pod back until the extender has been asked about it.
    """
    wanted, placed = {}, {}
    decided_before = extender.counted("stowage_decisions_total").get("policy", 0.0)
    try:
        for number, requests in enumerate(SHAPES):
            name = f"ranked-{number}"
            pod = tolerant_pod(name, requests)
            pod["spec"] |= {"schedulerName": scheduler, "schedulingGates": [{"name": "stowage.dev/test"}]}
            created = api.create(pod)
            nodes = [node for node in simulated_nodes(api) if has_devices(node, requests)]
            wanted[name] = extender.ranked_first(created, nodes)
            api.patch(f"{PODS}/{name}", {"spec": {"schedulingGates": None}})
            wait_for(lambda bound=name: is_bound(api, bound), BOUND_LIMIT_SECONDS, f"{name} to be bound", 0.2)
            placed[name] = api.get(f"{PODS}/{name}")["spec"]["nodeName"]
    finally:
        for name in wanted:
            api.delete(f"{PODS}/{name}")
    decided = extender.counted("stowage_decisions_total").get("policy", 0.0) - decided_before
    assert placed == wanted, f"placed on {placed}, ranked first {wanted}"
    # Asked twice for each pod: once here, once by kube-scheduler.
    assert decided >= 2 * len(SHAPES)


def has_devices(node: str, requests: dict[str, str]) -> bool:
    """Whether a simulated node has the devices that a pod asks for; all have enough of the rest."""
    if "stowage.dev/gpu-milli" in requests:
        return node.startswith("gpu-shared")
    return "nvidia.com/gpu" not in requests or node.startswith("gpu-whole")
