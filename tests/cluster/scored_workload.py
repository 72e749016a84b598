"""Nodes and pods on which scorings differ: seeded mixes that reach every rule by which kube-scheduler counts amounts.

Nobody runs the pods. kube-scheduler asks for no kubelet, so a node is an object with amounts, and a pod holds its
requests until it is deleted.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from tests.cluster.api import Document
from tests.cluster.workload import make_container, make_pod

NODE_CPU = ("3920m", "7.91", "15890m", "31850m", "63.77", "96")
NODE_MEMORY = ("7645Mi", "15.5Gi", "30Gi", "126Gi", "263841616Ki", "540G")
NODE_GPUS = (0, 0, 0, 1, 2, 4, 8)
ODD_NODES: dict[str, dict[str, str]] = {
    "tiny": {"cpu": "500m", "memory": "1Gi", "pods": "110"},  # pods without requests count for more than it has
    "crowded": {"cpu": "16", "memory": "64Gi", "pods": "6"},  # is full by the number of pods
    "no-memory": {"cpu": "8", "pods": "110"},
    "no-cpu": {"memory": "32Gi", "pods": "110"},
}

CPU = ("50m", "100m", "0.25", "500m", "1", "1500m", "2", "3.3", "6", "12")
MEMORY = ("64Mi", "200Mi", "500M", "1Gi", "1.5Gi", "4Gi", "7G", "12Gi", "24Gi", "5e9")
GPUS = ("1", "1", "2", "4", "8")
ARRANGEMENTS = {
    "one container": 0.35,
    "several containers": 0.2,
    "init containers": 0.1,
    "sidecar": 0.1,
    "limits": 0.05,
    "devices": 0.2,
}
# Of the containers and of the whole pod, where it names a total: the one must not exceed the other.
PARTS: tuple[dict[str, str], ...] = ({}, {"cpu": "50m"}, {"memory": "64Mi"}, {"cpu": "100m", "memory": "200Mi"})
TOTALS = ({"cpu": "1500m"}, {"memory": "3Gi"}, {"cpu": "700m", "memory": "1Gi"})


def varied_nodes(count: int, random: np.random.Generator) -> list[Document]:
    """`ODD_NODES`, and so many of random sizes."""
    nodes = [make_node(name, allocatable) for name, allocatable in ODD_NODES.items()]
    for number in range(count):
        size = int(random.integers(len(NODE_CPU)))
        memory = int(np.clip(size + random.integers(-1, 2), 0, len(NODE_MEMORY) - 1))
        allocatable = {"cpu": NODE_CPU[size], "memory": NODE_MEMORY[memory], "pods": "110"}
        gpus = int(random.choice(NODE_GPUS))
        if gpus:
            allocatable["nvidia.com/gpu"] = str(gpus)
        nodes.append(make_node(f"node-{number}", allocatable))
    return nodes


def make_node(name: str, allocatable: dict[str, str]) -> Document:
    """A node that has these amounts."""
    status = {"allocatable": allocatable, "capacity": allocatable}
    return {"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}, "status": status}


def varied_pods(
    count: int,
    schedulers: Sequence[str],
    prefix: str,
    random: np.random.Generator,
    arrangements: Mapping[str, float] = ARRANGEMENTS,
) -> list[Document]:
    """Random pods, handed to the schedulers in turn.

    Args:
        count: number of pods.
        schedulers: their `schedulerName`s.
        prefix: of the pods' names; a number follows.
        random: where chance comes from.
        arrangements: how often a pod spreads its requests in which way.
    """
    names = random.choice(list(arrangements), count, p=list(arrangements.values()))
    return [
        _varied_pod(f"{prefix}-{number}", schedulers[number % len(schedulers)], str(name), random)
        for number, name in enumerate(names)
    ]


def _varied_pod(name: str, scheduler: str, arrangement: str, random: np.random.Generator) -> Document:
    pod = make_pod(name, _requests(random), scheduler=scheduler)
    spec = pod["spec"]
    if arrangement == "several containers":
        spec["containers"] += [make_container(f"more-{number}", _requests(random)) for number in range(2)]
    elif arrangement == "init containers":
        spec["initContainers"] = [make_container(f"prepare-{number}", _requests(random)) for number in range(2)]
    elif arrangement == "sidecar":
        sidecar = make_container("proxy", _requests(random)) | {"restartPolicy": "Always"}
        spec["initContainers"] = [sidecar, make_container("prepare", _requests(random))]
    elif arrangement == "limits":
        spec["containers"][0]["resources"] = {"limits": _requests(random)}
    elif arrangement == "devices":
        spec["containers"] = [make_container("main", _requests(random) | {"nvidia.com/gpu": str(random.choice(GPUS))})]
    elif arrangement == "pod total":
        parts = [PARTS[random.integers(len(PARTS))] for _ in range(2)]
        spec["containers"] = [make_container(f"part-{number}", part) for number, part in enumerate(parts)]
        spec["resources"] = {"requests": TOTALS[random.integers(len(TOTALS))]}
    return pod


def _requests(random: np.random.Generator) -> dict[str, str]:
    """CPU, memory, both or neither; an amount that is named may be nothing."""
    cpu, memory = {"cpu": str(random.choice(CPU))}, {"memory": str(random.choice(MEMORY))}
    kind = random.choice(["both", "cpu", "memory", "neither", "zero"], p=[0.6, 0.13, 0.13, 0.09, 0.05])
    if kind == "both":
        return cpu | memory
    if kind == "zero":
        return {"cpu": "0", "memory": "0"} if random.random() < 0.5 else memory | {"cpu": "0"}
    return {"cpu": cpu, "memory": memory, "neither": {}}[str(kind)]
