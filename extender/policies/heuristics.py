"""Hand-written rules: kube-scheduler's own scorings and the packers of the literature, as policies.

They are the extender's fallback and every evaluation's baselines, and the same functions run compiled in the
simulator. A rule is one row of `RULES`; scores are comparable within one decision only.
"""

from typing import Any

import numpy as np

from extender.features import FloatArray
from extender.placement import CPU, GPU, MEMORY, Candidates, IntArray, NodeArrays, PodRequest
from extender.policies.base import ScoreArray

HALF_SCORE = 50
MAX_NODE_SCORE = 100  # framework.MaxNodeScore, k8s.io/kube-scheduler/framework


def least_allocated(nodes: NodeArrays, pod: PodRequest, candidates: Candidates) -> FloatArray:
    """Mean free share of CPU, memory and each further resource the pod asks for, in integer steps of 0..100; (K,).

    Source: pkg/scheduler/framework/plugins/noderesources/least_allocated.go (every division truncates).
    """
    return _allocation_score(nodes, pod, candidates, pod.request.shape[0], True)


def most_allocated(nodes: NodeArrays, pod: PodRequest, candidates: Candidates) -> FloatArray:
    """Mean used share of CPU, memory and each further resource the pod asks for, in integer steps of 0..100; (K,).

    Source: pkg/scheduler/framework/plugins/noderesources/most_allocated.go (every division truncates).
    """
    return _allocation_score(nodes, pod, candidates, pod.request.shape[0], False)


def kube_scheduler_default(nodes: NodeArrays, pod: PodRequest, candidates: Candidates) -> FloatArray:
    """LeastAllocated plus BalancedAllocation over CPU and memory, as in kube-scheduler's default profile; (K,).

    The default profile does not see GPUs when it scores. BalancedAllocation scores how the placement changes the
    balance of CPU and memory, and nothing for a pod that asks for neither.
    Source: pkg/scheduler/apis/config/v1/default_plugins.go and defaults.go (both at weight 1),
    pkg/scheduler/framework/plugins/noderesources/balanced_allocation.go (1.36).
    """
    score = _allocation_score(nodes, pod, candidates, GPU, True)
    if pod.request[CPU] > 0 or pod.request[MEMORY] > 0:
        allocatable, before = nodes.allocatable[candidates.rows], nodes.requested[candidates.rows]
        with_pod = _balance_score(allocatable, before + pod.request)
        score += HALF_SCORE + (HALF_SCORE + with_pod - _balance_score(allocatable, before)) // 2
    return score


def best_fit(nodes: NodeArrays, pod: PodRequest, candidates: Candidates) -> FloatArray:
    """The less is left of CPU, memory and GPU together, the better; shares of the largest node, continuous; (K,)."""
    rows = candidates.rows
    left: FloatArray = np.zeros(rows.shape[0])
    for resource in range(pod.request.shape[0]):
        largest = max(np.max(nodes.allocatable[:, resource]), 1)
        free = nodes.allocatable[rows, resource] - nodes.requested[rows, resource] - pod.request[resource]
        left -= free / largest
    return left


def random_choice(nodes: NodeArrays, pod: PodRequest, candidates: Candidates) -> FloatArray:
    """Every candidate alike: whoever ranks breaks the tie; (K,)."""
    return np.zeros(candidates.rows.shape[0])


def _balance_score(allocatable: IntArray, requested: IntArray) -> IntArray:
    cpu = np.minimum(requested[:, CPU] / np.maximum(allocatable[:, CPU], 1), 1.0)
    memory = np.minimum(requested[:, MEMORY] / np.maximum(allocatable[:, MEMORY], 1), 1.0)
    both = (allocatable[:, CPU] > 0) & (allocatable[:, MEMORY] > 0)
    deviation = np.where(both, np.abs((cpu - memory) / 2.0), 0.0)
    score: IntArray = ((1.0 - deviation) * MAX_NODE_SCORE).astype(np.int64)
    return score


def _allocation_score(
    nodes: NodeArrays, pod: PodRequest, candidates: Candidates, resources: int, least: bool
) -> FloatArray:
    rows = candidates.rows
    total = np.zeros(rows.shape[0], dtype=np.int64)
    weights = np.zeros(rows.shape[0], dtype=np.int64)
    for resource in range(resources):
        # A resource beyond CPU and memory counts only for pods that ask for it: resource_allocation.go.
        if resource < GPU or pod.request[resource] > 0:
            capacity = nodes.allocatable[rows, resource]
            after = nodes.requested[rows, resource] + pod.request[resource]
            part = np.maximum(capacity - after, 0) if least else np.minimum(after, capacity)
            total += part * MAX_NODE_SCORE // np.maximum(capacity, 1)
            weights += np.where(capacity > 0, 1, 0)
    return (total // np.maximum(weights, 1)).astype(np.float64)


RULES: dict[str, Any] = {
    "random": random_choice,
    "kube-scheduler-default": kube_scheduler_default,
    "least-allocated": least_allocated,
    "most-allocated": most_allocated,
    "best-fit": best_fit,
}

COMPILABLE: tuple[Any, ...] = (
    _balance_score,
    _allocation_score,
    random_choice,
    least_allocated,
    most_allocated,
    kube_scheduler_default,
    best_fit,
)
"""What the simulator compiles, callees before callers."""


class Heuristic:
    """One of `RULES` behind the interface of a policy."""

    def __init__(self, name: str) -> None:
        if name not in RULES:
            raise ValueError(f"no heuristic is named {name!r}; there are: {', '.join(sorted(RULES))}")
        self.name = name
        self._rule = RULES[name]

    def scores(self, nodes: NodeArrays, pod: PodRequest, candidates: Candidates) -> ScoreArray:
        """Score the candidates by the rule; (K,) float64."""
        result: ScoreArray = self._rule(nodes, pod, candidates)
        return result


HEURISTICS: dict[str, Heuristic] = {name: Heuristic(name) for name in RULES}
