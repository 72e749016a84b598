"""Pods for the tests: a seeded mix of shapes that come, run for some seconds, and leave.

Between them they spell their requests in the ways that Kubernetes allows: fractions, suffixes, several containers,
init containers, sidecars, totals for the whole pod, GPUs as thousandths and as whole devices.
"""

from typing import NamedTuple

import numpy as np

from tests.cluster.api import Document

SCHEDULER_NAME = "stowage"
MEAN_SECONDS = 16.0
SHORTEST_SECONDS = 4.0

CPU_SPELLINGS = ("500m", "0.75", "1500m", "2", "4", "7500m", "12", "16")
MEMORY_SPELLINGS = ("256Mi", "900M", "1.5Gi", "4Gi", "8G", "16Gi", "24Gi", "1e9")
GPU_SHARES = ("100", "250", "333", "500", "500", "700")


class Arrival(NamedTuple):
    """A pod and when it is created, in seconds from the start."""

    at_seconds: float
    pod: Document


def arrivals(
    count: int, per_second: float, random: np.random.Generator, longest_seconds: float = 12.0
) -> list[Arrival]:
    """A Poisson process of random pods, in the order of their arrival; `math.inf` per second is a burst."""
    times = np.cumsum(random.exponential(1.0 / per_second, count))
    return [
        Arrival(float(time), random_pod(f"job-{number}", random, longest_seconds)) for number, time in enumerate(times)
    ]


def random_pod(name: str, random: np.random.Generator, longest_seconds: float) -> Document:
    """A pod of a random shape and duration."""
    requests = {"cpu": str(random.choice(CPU_SPELLINGS)), "memory": str(random.choice(MEMORY_SPELLINGS))}
    kind = random.choice(["general", "share", "devices", "nvidia"], p=[0.55, 0.27, 0.08, 0.10])
    if kind == "share":
        requests["stowage.dev/gpu-milli"] = str(random.choice(GPU_SHARES))
    elif kind == "devices":
        requests["stowage.dev/gpu-milli"] = str(random.choice(["1000", "2k"]))
    elif kind == "nvidia":
        requests["nvidia.com/gpu"] = str(random.choice(["1", "2", "4"]))
    seconds = float(np.clip(random.exponential(MEAN_SECONDS), SHORTEST_SECONDS, longest_seconds))
    pod = make_pod(name, requests, seconds)
    return _rearrange(pod, random) if random.random() < 0.3 else pod


def make_pod(
    name: str, requests: dict[str, str], seconds: float | None = None, scheduler: str = SCHEDULER_NAME
) -> Document:
    """A pod of one container.

    Args:
        requests: quantities by resource; an extended resource becomes a limit as well, as the API server demands.
        seconds: how long it runs; None for a pod that runs until it is deleted.
    """
    annotations = {}
    if seconds is not None:
        annotations = {"stowage.dev/duration": f"{seconds:.3f}s", "stowage.dev/expected-seconds": f"{seconds:.3f}"}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": "default", "annotations": annotations},
        "spec": {
            "schedulerName": scheduler,
            "restartPolicy": "Never",
            "containers": [make_container("main", requests)],
        },
    }


def _rearrange(pod: Document, random: np.random.Generator) -> Document:
    """Spell the requests in another way, or add to them what only counts at times."""
    spec = pod["spec"]
    arrangement = random.choice(["second container", "init container", "sidecar", "pod total"])
    if arrangement == "second container":
        spec["containers"].append(make_container("second", {"cpu": "250m", "memory": "100Mi"}))
    elif arrangement == "init container":
        spec["initContainers"] = [make_container("prepare", {"cpu": "8", "memory": "64Mi"})]
    elif arrangement == "sidecar":
        sidecar = make_container("proxy", {"cpu": "100m", "memory": "128Mi"}) | {"restartPolicy": "Always"}
        spec["initContainers"] = [sidecar, make_container("prepare", {"cpu": "3", "memory": "2Gi"})]
    else:
        spec["resources"] = {"requests": {"cpu": "20", "memory": "40Gi"}}
    return pod


def make_container(name: str, requests: dict[str, str]) -> Document:
    """A container that requests these amounts; extended resources become limits as well, as the API server demands."""
    extended = {resource: amount for resource, amount in requests.items() if "/" in resource}
    resources = {"requests": requests, "limits": extended} if extended else {"requests": requests}
    return {"name": name, "image": "example.invalid/none", "resources": resources}
