"""Hand-written rules: kube-scheduler's own scorings and the packers of the literature, as policies.

They are the extender's fallback and every evaluation's baselines. A rule is a row of `RULES`: a function that scores
one candidate or many (see `elementwise`), so that the simulator runs the same functions compiled; the published openb
numbers, which are reproduced with them, hold for what the extender serves. Scores are comparable within one decision
only. Best-fit is scaled to the range of a decision's candidates (`normalised`), as it was published.
"""

from typing import Any, NamedTuple

import numpy as np

from extender.elementwise import where
from extender.fragmentation import (
    FloatArray,
    FragmentationTables,
    TypicalPods,
    fragmentation,
    fragmentation_tables,
)
from extender.placement import (
    CPU,
    GPU,
    GPU_POD_CLASSES,
    WHOLE_DEVICE_MILLI,
    Candidates,
    IntArray,
    NodeArrays,
    PodRequest,
    devices_after,
    pod_class,
)
from extender.policies.base import ScoreArray
from extender.profile import DEFAULT_WEIGHTS, ScoringWeights

HALF_SCORE = 50
MAX_NODE_SCORE = 100  # framework.MaxNodeScore, k8s.io/kube-scheduler/framework
UNMEASURABLE = 1e-6  # GPU milli: a smaller change of fragmentation is rounding noise


class Surroundings(NamedTuple):
    """What a rule may look at beside the candidate's node.

    Attributes:
        largest: (R,) int64, the largest allocatable amount of each resource in the cluster.
        tables: the workload's typical pods.
        fragmentation: (N,) float64, of each node as it is now.
        devices: (D, K) int64, or (D,) for a single candidate: room to work in.
        weights: how kube-scheduler's scorings are configured.
    """

    largest: IntArray
    tables: FragmentationTables
    fragmentation: FloatArray
    devices: Any
    weights: ScoringWeights = DEFAULT_WEIGHTS


def random_choice(nodes: NodeArrays, pod: PodRequest, candidates: Candidates, around: Surroundings) -> Any:
    """Every candidate alike: whoever ranks breaks the tie."""
    return 0 * candidates.rows


def first_fit(nodes: NodeArrays, pod: PodRequest, candidates: Candidates, around: Surroundings) -> Any:
    """The first node in the order of the rows."""
    return -candidates.rows


def least_allocated(nodes: NodeArrays, pod: PodRequest, candidates: Candidates, around: Surroundings) -> Any:
    """Weighted mean of the free shares of CPU and memory, or what is configured, in integer steps of 0..100.

    Source: pkg/scheduler/framework/plugins/noderesources/least_allocated.go (every division truncates).
    """
    return _mean_share(nodes, pod, candidates.rows, around.weights, True)


def most_allocated(nodes: NodeArrays, pod: PodRequest, candidates: Candidates, around: Surroundings) -> Any:
    """Weighted mean of the used shares of CPU and memory, or what is configured, in integer steps of 0..100.

    Source: pkg/scheduler/framework/plugins/noderesources/most_allocated.go (every division truncates).
    """
    return _mean_share(nodes, pod, candidates.rows, around.weights, False)


def requested_to_capacity_ratio(
    nodes: NodeArrays, pod: PodRequest, candidates: Candidates, around: Surroundings
) -> Any:
    """The used shares of CPU and memory, or what is configured, put through the configured shape; rounded mean.

    A resource whose score is 0 does not count in the mean, and one that would be overcommitted scores as a full one.
    Source: pkg/scheduler/framework/plugins/noderesources/requested_to_capacity_ratio.go; the shape that is not
    configured otherwise, 0 % -> 0 and 100 % -> 10, is that of Kubernetes' documentation.
    """
    rows, weights = candidates.rows, around.weights
    total = 0 * rows
    weight_sum = 0 * rows
    for index in range(weights.resources.shape[0]):
        resource = weights.resources[index]
        capacity = scored_capacity(nodes, pod, rows, resource)
        used = np.minimum(scored_use(nodes, pod, rows, resource), capacity)
        score = shape_score(weights, used * MAX_NODE_SCORE // np.maximum(capacity, 1))
        counts = (score > 0) & (capacity > 0)
        total = total + where(counts, score * weights.resource_weights[index], 0)
        weight_sum = weight_sum + where(counts, weights.resource_weights[index], 0)
    return np.floor(total / np.maximum(weight_sum, 1) + 0.5)  # Go rounds halves away from zero


def balanced_allocation(nodes: NodeArrays, pod: PodRequest, candidates: Candidates, around: Surroundings) -> Any:
    """How the placement changes the balance of CPU and memory, or what is configured, 0..100.

    A pod that asks for none of them scores 0.
    Source: pkg/scheduler/framework/plugins/noderesources/balanced_allocation.go (1.36).
    """
    rows, balanced = candidates.rows, around.weights.balanced
    change = _balance(nodes, pod, rows, balanced, 1) - _balance(nodes, pod, rows, balanced, 0)
    asks = False
    for index in range(balanced.shape[0]):
        asks = asks or pod.request[balanced[index]] > 0
    return where(asks, HALF_SCORE + (HALF_SCORE + change) // 2, 0 * rows)


def kube_scheduler_default(nodes: NodeArrays, pod: PodRequest, candidates: Candidates, around: Surroundings) -> Any:
    """LeastAllocated plus BalancedAllocation, weighed, as in kube-scheduler's default profile.

    The default profile does not see GPUs when it scores.
    Source: pkg/scheduler/apis/config/v1/default_plugins.go and defaults.go (both at weight 1);
    pkg/scheduler/framework/runtime/framework.go (RunScorePlugins).
    """
    free = least_allocated(nodes, pod, candidates, around)
    balance = balanced_allocation(nodes, pod, candidates, around)
    return around.weights.fit_weight * free + around.weights.balanced_weight * balance


def best_fit(nodes: NodeArrays, pod: PodRequest, candidates: Candidates, around: Surroundings) -> Any:
    """The less CPU and GPU is left, as shares of the largest node, the better; 0..100 before normalisation.

    Source for this rule and the next four: the public simulator of the FGD paper (USENIX ATC'23).
    """
    rows = candidates.rows
    cpu_left = nodes.allocatable[rows, CPU] - nodes.requested[rows, CPU] - pod.request[CPU]
    gpu_left = nodes.allocatable[rows, GPU] - nodes.requested[rows, GPU] - pod.request[GPU]
    left = 0.5 * cpu_left / max(around.largest[CPU], 1) + 0.5 * gpu_left / max(around.largest[GPU], 1)
    return np.trunc((1.0 - left) * MAX_NODE_SCORE)


def dot_product(nodes: NodeArrays, pod: PodRequest, candidates: Candidates, around: Surroundings) -> Any:
    """The pod's demand and the node's free amounts should point in different directions; 0..100."""
    rows = candidates.rows
    cpu, gpu = max(around.largest[CPU], 1), max(around.largest[GPU], 1)
    cpu_free = nodes.allocatable[rows, CPU] - nodes.requested[rows, CPU]
    gpu_free = nodes.allocatable[rows, GPU] - nodes.requested[rows, GPU]
    product = (cpu_free / cpu) * (pod.request[CPU] / cpu) + (gpu_free / gpu) * (pod.request[GPU] / gpu)
    return np.trunc(MAX_NODE_SCORE * (1.0 - product / 2.0))


def gpu_packing(nodes: NodeArrays, pod: PodRequest, candidates: Candidates, around: Surroundings) -> Any:
    """Devices in use first, then idle devices of nodes in use, idle nodes last; 0 for a pod without GPU."""
    rows = candidates.rows
    present = 0 * rows
    whole = 0 * rows
    least = 0 * rows + WHOLE_DEVICE_MILLI
    for device in range(nodes.device_free.shape[1]):
        free = nodes.device_free[rows, device]
        present = present + where(free >= 0, 1, 0)
        whole = whole + where(free == WHOLE_DEVICE_MILLI, 1, 0)
        least = where((free >= pod.gpu_milli) & (free < least), free, least)
    # The pod opens `opened` idle devices; one that shares a device in use opens none.
    opened = where(least == WHOLE_DEVICE_MILLI, pod.gpu_count, 0)
    in_use = where(opened > 0, np.maximum(50 - opened, 33), np.maximum(100 - least * 100 // 1000 // 10, 50))
    score = where(whole == present, np.maximum(33 - whole, whole), in_use)
    return where(pod.gpu_count == 0, 0 * rows, score)


def gpu_clustering(nodes: NodeArrays, pod: PodRequest, candidates: Candidates, around: Surroundings) -> Any:
    """Pods that ask for as many GPUs together on a node; 0 for a pod without GPU."""
    rows = candidates.rows
    largest = max(around.largest[GPU], 1)
    gpu_free = nodes.allocatable[rows, GPU] - nodes.requested[rows, GPU]
    present = 0 * rows
    for index in range(GPU_POD_CLASSES):
        present = present + where(nodes.gpu_pods[rows, index] > 0, 1, 0)
    with_own = where(present == 1, 75, 50)
    without_own = where(present == 0, 25, 0)
    company = where(nodes.gpu_pods[rows, pod_class(pod)] > 0, with_own, without_own)
    return where(pod.gpu_count == 0, 0 * rows, 25 * (largest - gpu_free) // largest + company)


def fgd(nodes: NodeArrays, pod: PodRequest, candidates: Candidates, around: Surroundings) -> Any:
    """Fragmentation gradient descent: the less a placement adds to the node's fragmentation, the better; 0..100."""
    rows = candidates.rows
    devices_after(nodes, pod, candidates, around.devices)
    cpu_free = nodes.allocatable[rows, CPU] - nodes.requested[rows, CPU] - pod.request[CPU]
    change = around.fragmentation[rows] - fragmentation(around.tables, nodes.model[rows], cpu_free, around.devices)
    return fgd_score(where(np.abs(change) < UNMEASURABLE, 0.0, change))


def fgd_score(change: Any) -> Any:
    """FGD's integer score of a placement that lowers fragmentation by so many GPU milli; 50 for no change."""
    return np.trunc(MAX_NODE_SCORE * (1.0 / (1.0 + np.exp(-change / WHOLE_DEVICE_MILLI))))


def normalised(scores: FloatArray) -> FloatArray:
    """Spread integer scores of one decision over 0..100, truncating; all 0 where they are equal; (K,)."""
    low, high = scores.min(), scores.max()
    spread: FloatArray = (scores - low) * MAX_NODE_SCORE // max(high - low, 1)
    return spread


def scored_capacity(nodes: NodeArrays, pod: PodRequest, rows: Any, resource: int) -> Any:
    """A node's capacity where kube-scheduler's scorings look at it, else 0: an extended resource counts if asked for.

    Source: pkg/scheduler/framework/plugins/noderesources/resource_allocation.go (calculateNodeAllocatableRequest).
    """
    return where(resource < GPU or pod.request[resource] > 0, nodes.allocatable[rows, resource], 0)


def scored_use(nodes: NodeArrays, pod: PodRequest, rows: Any, resource: int) -> Any:
    """What is in use of a resource with the pod, where containers that do not say count a little CPU and memory."""
    if resource < GPU:
        return nodes.nonzero[rows, resource] + pod.nonzero[resource]
    return nodes.requested[rows, resource] + pod.request[resource]


def shape_score(weights: ScoringWeights, utilization: Any) -> Any:
    """The shape's score, 0..100, at a utilization in %: lines between its points, cut off towards zero.

    Source: pkg/scheduler/framework/plugins/helper/shape_score.go (BuildBrokenLinearFunction).
    """
    score = 0 * utilization + weights.score[weights.score.shape[0] - 1]
    for index in range(weights.score.shape[0] - 1, 0, -1):  # the leftmost point that is not passed decides
        left, right = weights.utilization[index - 1], weights.utilization[index]
        rise = (weights.score[index] - weights.score[index - 1]) * (utilization - left)
        step = where(rise < 0, -(-rise // (right - left)), rise // (right - left))
        score = where(utilization <= right, weights.score[index - 1] + step, score)
    return where(utilization <= weights.utilization[0], weights.score[0], score)


def _mean_share(nodes: NodeArrays, pod: PodRequest, rows: Any, weights: ScoringWeights, free: bool) -> Any:
    total = 0 * rows
    weight_sum = 0 * rows
    for index in range(weights.resources.shape[0]):
        resource, weight = weights.resources[index], weights.resource_weights[index]
        capacity = scored_capacity(nodes, pod, rows, resource)
        used = np.minimum(scored_use(nodes, pod, rows, resource), capacity)
        part = capacity - used if free else used
        total = total + part * MAX_NODE_SCORE // np.maximum(capacity, 1) * weight
        weight_sum = weight_sum + where(capacity > 0, weight, 0)
    return total // np.maximum(weight_sum, 1)


def _used_share(nodes: NodeArrays, pod: PodRequest, rows: Any, resource: int, times: int) -> Any:
    used = nodes.requested[rows, resource] + times * pod.request[resource]
    return np.minimum(used / np.maximum(nodes.allocatable[rows, resource], 1), 1.0)


def _balance(nodes: NodeArrays, pod: PodRequest, rows: Any, balanced: IntArray, times: int) -> Any:
    """100 less the standard deviation of the used shares in %, with the pod on the node so many times."""
    present = 0 * rows
    total = 0.0 * rows
    difference = 0.0 * rows  # of the first two
    for index in range(balanced.shape[0]):
        there = scored_capacity(nodes, pod, rows, balanced[index]) > 0
        share = where(there, _used_share(nodes, pod, rows, balanced[index], times), 0.0)
        total = total + share
        difference = where(there & (present == 0), share, where(there & (present == 1), difference - share, difference))
        present = present + where(there, 1, 0)
    deviation = where(present == 2, np.abs(difference / 2.0), 0.0)
    if balanced.shape[0] > 2:
        mean = total / np.maximum(present, 1)
        squares = 0.0 * rows
        for index in range(balanced.shape[0]):
            there = scored_capacity(nodes, pod, rows, balanced[index]) > 0
            apart = _used_share(nodes, pod, rows, balanced[index], times) - mean
            squares = squares + where(there, apart * apart, 0.0)
        deviation = where(present > 2, np.sqrt(squares / np.maximum(present, 1)), deviation)
    return np.trunc((1.0 - deviation) * MAX_NODE_SCORE)


RULES: dict[str, Any] = {
    "random": random_choice,
    "first-fit": first_fit,
    "least-allocated": least_allocated,
    "most-allocated": most_allocated,
    "requested-to-capacity-ratio": requested_to_capacity_ratio,
    "balanced-allocation": balanced_allocation,
    "kube-scheduler-default": kube_scheduler_default,
    "best-fit": best_fit,
    "dot-product": dot_product,
    "gpu-packing": gpu_packing,
    "gpu-clustering": gpu_clustering,
    "fgd": fgd,
}
NORMALISED = ("best-fit",)
NEEDS_TYPICAL_PODS = ("fgd",)

COMPILABLE: tuple[Any, ...] = (
    scored_capacity,
    scored_use,
    shape_score,
    _mean_share,
    _used_share,
    _balance,
    fgd_score,
    random_choice,
    first_fit,
    least_allocated,
    most_allocated,
    requested_to_capacity_ratio,
    balanced_allocation,
    kube_scheduler_default,
    best_fit,
    dot_product,
    gpu_packing,
    gpu_clustering,
    fgd,
)
"""What the simulator compiles, callees before callers."""

NO_TYPICAL_PODS = TypicalPods(
    np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0), np.zeros((0, 1), np.bool_)
)


class Heuristic:
    """One of `RULES` behind the interface of a policy."""

    def __init__(
        self, name: str, typical: TypicalPods | None = None, weights: ScoringWeights = DEFAULT_WEIGHTS
    ) -> None:
        """Choose a rule.

        Args:
            name: a key of `RULES`.
            typical: the workload's typical pods, for the rules in `NEEDS_TYPICAL_PODS`.
            weights: how kube-scheduler's scorings are configured.

        Raises:
            ValueError: there is no such rule, or it needs typical pods and got none.
        """
        if name not in RULES:
            raise ValueError(f"no heuristic is named {name!r}; there are: {', '.join(sorted(RULES))}")
        if name in NEEDS_TYPICAL_PODS and typical is None:
            raise ValueError(f"the heuristic {name!r} needs the workload's typical pods")
        self.name = name
        self._rule = RULES[name]
        self._weights = weights
        self._tables = fragmentation_tables(NO_TYPICAL_PODS if typical is None else typical)

    def scores(self, nodes: NodeArrays, pod: PodRequest, candidates: Candidates) -> ScoreArray:
        """Score the candidates by the rule; (K,) float64."""
        rows = candidates.rows
        now = np.zeros(len(nodes.allocatable))
        if self.name in NEEDS_TYPICAL_PODS:
            cpu_free = nodes.allocatable[rows, CPU] - nodes.requested[rows, CPU]
            now[rows] = fragmentation(self._tables, nodes.model[rows], cpu_free, nodes.device_free[rows].T)
        devices = np.empty((nodes.device_free.shape[1], len(rows)), np.int64)
        around = Surroundings(nodes.allocatable.max(axis=0, initial=0), self._tables, now, devices, self._weights)
        scores: FloatArray = np.asarray(self._rule(nodes, pod, candidates, around), dtype=np.float64)
        return normalised(scores) if self.name in NORMALISED and len(scores) else scores


HEURISTICS: dict[str, Heuristic] = {name: Heuristic(name) for name in RULES if name not in NEEDS_TYPICAL_PODS}
"""The rules that need no more than the nodes and the pod."""
