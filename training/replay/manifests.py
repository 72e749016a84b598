"""A workload's nodes and pods as Kubernetes objects, with the amounts that the extender reads back from them.

GPUs are asked for as the extended resource that counts thousandths of a device, so that shared and whole devices add
up in one column of kube-scheduler's own accounting.
"""

from typing import Any

from extender.cluster.requests import DEVICE_RESOURCE, MODEL_LABELS
from extender.placement import CPU, GPU, MEMORY, WHOLE_DEVICE_MILLI, IntArray
from training.workloads.base import Workload

GPU_RESOURCE = "stowage.dev/gpu-milli"
PODS_PER_NODE = "110"
MIB = 1024 * 1024

Manifest = dict[str, Any]


def node_name(row: int) -> str:
    """Name of the node of this row."""
    return f"node-{row:05d}"


def quantities(resources: tuple[str, ...], amounts: IntArray, whole_devices: bool = False) -> dict[str, str]:
    """Amounts in base units as Kubernetes writes them; those of 0 are left out.

    Args:
        resources: names of the columns.
        amounts: (R,) int64.
        whole_devices: whether GPUs are counted in devices instead of thousandths.
    """
    result = {}
    for position, amount in enumerate(amounts.tolist()):
        if amount and position == CPU:
            result["cpu"] = f"{amount}m"
        elif amount and position == MEMORY:
            result["memory"] = f"{amount // MIB}Mi" if amount % MIB == 0 else str(amount)
        elif amount and position == GPU and whole_devices:
            result[DEVICE_RESOURCE] = str(amount // WHOLE_DEVICE_MILLI)
        elif amount:
            result[GPU_RESOURCE if position == GPU else resources[position]] = str(amount)
    return result


def node_manifest(workload: Workload, row: int) -> Manifest:
    """The node of this row, ready."""
    amounts = quantities(workload.resources, workload.allocatable[row]) | {"pods": PODS_PER_NODE}
    model = workload.models[workload.model[row]]
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {
            "name": node_name(row),
            "uid": f"uid-{node_name(row)}",
            "labels": {MODEL_LABELS[0]: model} if model else {},
        },
        "status": {"allocatable": amounts, "capacity": amounts},
    }


def pod_manifest(workload: Workload, pod: int, row: int | None = None) -> Manifest:
    """A pod of the workload: pending, or running on the node of `row`."""
    amounts = quantities(workload.resources, workload.shapes.request[workload.shape[pod]])
    manifest: Manifest = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": f"pod-{pod:06d}", "namespace": "default", "uid": f"uid-pod-{pod:06d}"},
        "spec": {
            "schedulerName": "stowage",
            "priority": int(workload.priority[pod]),
            "containers": [
                {"name": "main", "image": "workload", "resources": {"requests": amounts, "limits": amounts}}
            ],
        },
        "status": {"phase": "Pending" if row is None else "Running"},
    }
    if row is not None:
        manifest["spec"]["nodeName"] = node_name(row)
    return manifest
