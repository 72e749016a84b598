"""Kubernetes objects as JSON, small enough to be read in a test."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from extender.placement import PodRequest, pod_request

Document = dict[str, Any]
GIB = 2**30


def node(name: str, cpu: str = "8", memory: str = "32Gi", version: int | None = None, **extended: str) -> Document:
    """A node; `extended` names GPUs as `gpus="4"` or `gpu_milli="2000"`."""
    allocatable = {"cpu": cpu, "memory": memory, "pods": "110"}
    if "gpus" in extended:
        allocatable["nvidia.com/gpu"] = extended["gpus"]
    if "gpu_milli" in extended:
        allocatable["stowage.dev/gpu-milli"] = extended["gpu_milli"]
    metadata: Document = {"name": name}
    if version is not None:
        metadata["resourceVersion"] = str(version)
    return {"kind": "Node", "apiVersion": "v1", "metadata": metadata, "status": {"allocatable": allocatable}}


def pod(
    name: str,
    requests: Mapping[str, str] | None = None,
    node_name: str | None = None,
    phase: str = "Pending",
    version: int | None = None,
    **spec: Any,
) -> Document:
    """A pod with one container; its uid is `uid-NAME`."""
    metadata: Document = {"name": name, "namespace": "default", "uid": f"uid-{name}"}
    if version is not None:
        metadata["resourceVersion"] = str(version)
    containers = [{"name": "main", "resources": {"requests": dict(requests or {"cpu": "1", "memory": "1Gi"})}}]
    whole: Document = {"containers": containers, **spec}
    if node_name is not None:
        whole["nodeName"] = node_name
    return {"kind": "Pod", "apiVersion": "v1", "metadata": metadata, "spec": whole, "status": {"phase": phase}}


def cluster_list(*items: Document) -> bytes:
    """What `kubectl get nodes,pods -A -o json` prints."""
    return json.dumps({"kind": "List", "apiVersion": "v1", "items": list(items)}).encode()


def extender_args(asked: Document, names: Sequence[str]) -> bytes:
    """The body that kube-scheduler posts with nodeCacheCapable."""
    return json.dumps({"Pod": asked, "Nodes": None, "NodeNames": list(names)}).encode()


def request(cpu_milli: int, memory: int = 0, gpu_count: int = 0, gpu_milli: int = 0) -> PodRequest:
    """What a pod asks for, in the columns CPU, memory, GPU."""
    amounts = np.array([cpu_milli, memory, gpu_count * gpu_milli], dtype=np.int64)
    return pod_request(amounts, gpu_count, gpu_milli)
