"""What a decision rested on, in a few bytes: enough to tell whether a replay of it sees the same.

Digesting the features themselves would mean to carry them out of the policies, and to digest thousands of rows; they
are functions of the nodes' rows and of the pod, so those of the ranked nodes stand for them.
"""

import hashlib
from typing import Any

from extender.placement import IntArray, NodeArrays, PodRequest, shares_device

DIGEST_BYTES = 8


def features_digest(nodes: NodeArrays, pod: PodRequest, rows: IntArray) -> str:
    """Digest of the pod and of the rows, as they are before the pod is placed; empty without rows.

    Args:
        nodes: the rows.
        pod: what is to be placed.
        rows: (K,) int64, the ranked nodes.
    """
    if rows.shape[0] == 0:
        return ""
    digest = hashlib.blake2b(pod.request.tobytes(), digest_size=DIGEST_BYTES)
    digest.update(f"{pod.gpu_count} {pod.gpu_milli} {pod.priority} {pod.expected_seconds}".encode())
    for array in (nodes.allocatable, nodes.requested, nodes.nonzero, nodes.device_free, nodes.gpu_pods, nodes.model):
        digest.update(array[rows].tobytes())
    return digest.hexdigest()


def recorded(pod: PodRequest) -> dict[str, Any]:
    """What the decision log says of the pod's wants: fields of `decision_records.PodRecord`."""
    return {
        "pod_class": class_name(pod),
        "request": pod.request.tolist(),
        "gpu_count": pod.gpu_count,
        "gpu_milli": pod.gpu_milli,
        "priority": pod.priority,
        "expected_seconds": pod.expected_seconds,
    }


def class_name(pod: PodRequest) -> str:
    """What kind of pod it is: "cpu", "share" of a GPU, or "gpu-N"."""
    if pod.gpu_count == 0:
        return "cpu"
    return "share" if shares_device(pod) else f"gpu-{pod.gpu_count}"
