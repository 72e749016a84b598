"""What is asked in the benchmark: a cluster of 5,000 nodes, and pods of a few shapes as kube-scheduler sends them."""

import json
from pathlib import Path
from typing import Any

import numpy as np

NODES = 5_000
RUNNING_PODS = 20_000
GPU_MODELS = ("T4", "A10", "A100")
PENDING_SHAPES: tuple[dict[str, str], ...] = (
    {"cpu": "250m", "memory": "512Mi"},
    {"cpu": "1", "memory": "2Gi"},
    {"cpu": "4", "memory": "8Gi"},
    {"cpu": "16", "memory": "64Gi"},
    {"cpu": "2", "memory": "8Gi", "stowage.dev/gpu-milli": "300"},
    {"cpu": "4", "memory": "16Gi", "stowage.dev/gpu-milli": "500"},
    {"cpu": "8", "memory": "32Gi", "nvidia.com/gpu": "1"},
    {"cpu": "32", "memory": "128Gi", "nvidia.com/gpu": "4"},
)
SHAPE_SHARES = (0.2, 0.2, 0.15, 0.05, 0.15, 0.1, 0.1, 0.05)

Document = dict[str, Any]


def cluster(generator: np.random.Generator) -> tuple[list[Document], list[Document]]:
    """Nodes and the pods that run on them; a third of the nodes has no GPU, the others 2, 4 or 8 of one model."""
    nodes, pods = [], []
    gpus = generator.choice([0, 2, 4, 8], NODES, p=[0.34, 0.22, 0.22, 0.22])
    models = generator.choice(GPU_MODELS, NODES)
    for number in range(NODES):
        allocatable = {"cpu": "96", "memory": "400Gi", "pods": "110"}
        labels = {"kubernetes.io/hostname": node_name(number)}
        if gpus[number]:
            allocatable["nvidia.com/gpu"] = str(gpus[number])
            labels["nvidia.com/gpu.product"] = str(models[number])
        nodes.append(
            {
                "kind": "Node",
                "apiVersion": "v1",
                "metadata": {"name": node_name(number), "labels": labels, "resourceVersion": str(1000 + number)},
                "status": {"allocatable": allocatable},
            }
        )
    with_gpu = np.flatnonzero(gpus)
    for number in range(RUNNING_PODS):
        shape = PENDING_SHAPES[int(generator.choice(len(PENDING_SHAPES), p=SHAPE_SHARES))]
        anywhere = not any("gpu" in resource for resource in shape)
        node = int(generator.integers(NODES)) if anywhere else int(generator.choice(with_gpu))
        made = pod(f"running-{number}", shape)
        made["spec"]["nodeName"] = node_name(node)
        made["status"] = {"phase": "Running"}
        made["metadata"]["resourceVersion"] = str(10_000 + number)
        pods.append(made)
    return nodes, pods


def node_name(number: int) -> str:
    """Names as long as those of a cloud's nodes."""
    return f"ip-10-{number // 256}-{number % 256}-17"


def pod(name: str, requests: dict[str, str]) -> Document:
    """A pod with what a pod of a Deployment brings along, most of which nobody reads here."""
    return {
        "kind": "Pod",
        "apiVersion": "v1",
        "metadata": {
            "name": name,
            "generateName": "training-7d4b9c6f5d-",
            "namespace": "research",
            "uid": f"8c6f0f6e-3a3e-4f0e-9d55-{abs(hash(name)) % 10**12:012d}",
            "creationTimestamp": "2026-11-21T19:00:00Z",
            "labels": {"app": "training", "pod-template-hash": "7d4b9c6f5d", "team": "vision"},
            "annotations": {"prometheus.io/scrape": "true", "prometheus.io/port": "9090"},
            "ownerReferences": [
                {"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "training-7d4b9c6f5d", "controller": True}
            ],
        },
        "spec": {
            "volumes": [{"name": "kube-api-access", "projected": {"defaultMode": 420, "sources": []}}],
            "containers": [
                {
                    "name": "main",
                    "image": "registry.example/research/training:1.4.2",
                    "args": ["--epochs=20", "--data=/data", "--checkpoint=/data/checkpoints"],
                    "env": [{"name": f"SETTING_{number}", "value": f"value-{number}"} for number in range(8)],
                    "resources": {"requests": dict(requests), "limits": dict(requests)},
                    "volumeMounts": [{"name": "kube-api-access", "mountPath": "/var/run/secrets", "readOnly": True}],
                    "terminationMessagePath": "/dev/termination-log",
                    "imagePullPolicy": "IfNotPresent",
                }
            ],
            "restartPolicy": "Always",
            "schedulerName": "stowage",
            "tolerations": [
                {"key": "node.kubernetes.io/not-ready", "operator": "Exists", "effect": "NoExecute"},
                {"key": "node.kubernetes.io/unreachable", "operator": "Exists", "effect": "NoExecute"},
            ],
            "priority": 0,
            "preemptionPolicy": "PreemptLowerPriority",
        },
        "status": {"phase": "Pending", "qosClass": "Burstable"},
    }


def questions(
    generator: np.random.Generator, count: int, candidates: int, prefix: str
) -> list[tuple[Document, list[str]]]:
    """Pods and the nodes they may go to: a window of a fixed order of the nodes, as kube-scheduler takes them."""
    order = generator.permutation(NODES)
    asked = []
    for number in range(count):
        shape = PENDING_SHAPES[int(generator.choice(len(PENDING_SHAPES), p=SHAPE_SHARES))]
        window = np.take(order, np.arange(candidates) + int(generator.integers(NODES)), mode="wrap")
        asked.append((pod(f"{prefix}-{number}", shape), [node_name(int(node)) for node in window]))
    return asked


def write_requests(path: Path, asked: list[tuple[Document, list[str]]]) -> None:
    """The questions as `load` sends them."""
    with path.open("wb") as file:
        for asked_pod, names in asked:
            body = json.dumps({"Pod": asked_pod, "Nodes": None, "NodeNames": names}, separators=(",", ":")).encode()
            head = (
                "POST /prioritize HTTP/1.1\r\nHost: 127.0.0.1\r\nUser-Agent: Go-http-client/1.1\r\n"
                f"Content-Length: {len(body)}\r\nContent-Type: application/json\r\nAccept-Encoding: gzip\r\n\r\n"
            ).encode()
            file.write((len(head) + len(body)).to_bytes(4, "little") + head + body)
