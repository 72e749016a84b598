"""Every rule against its source, slowly: kube-scheduler 1.36's Go functions line by line, and the published rules.

The Go functions are of pkg/scheduler/framework/plugins/noderesources, the names are theirs. The published rules are
those of the FGD paper's simulator, one node, one device and one typical pod at a time.
"""

import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from extender.fragmentation import TypicalPods, fragmentation, fragmentation_tables
from extender.placement import ANY_DEVICE, Candidates, NodeArrays, PodRequest, list_candidates
from extender.policies.heuristics import HEURISTICS, NEEDS_TYPICAL_PODS, RULES, Heuristic, Surroundings
from extender.profile import ScoringProfile, UtilizationShapePoint, weights_of
from tests.clusters import GIB, Node, cluster_of, clusters, copy_of, pod_of, pods, typical_of, typical_pods
from tests.profiles import profiles

PLENTY = 1000
RESOURCES = ("cpu", "memory", "gpu")
MAX_NODE_SCORE = 100
MAX_CUSTOM_PRIORITY_SCORE = 10
MODELS = 2

Scorer = Callable[[list[int], list[int], list[int]], int]


def everywhere(nodes: NodeArrays) -> Candidates:
    count = len(nodes.allocatable)
    return Candidates(np.arange(count), np.full(count, ANY_DEVICE))


def feasible(nodes: NodeArrays, pod: PodRequest) -> Candidates:
    return list_candidates(nodes, pod, np.arange(len(nodes.allocatable)), PLENTY)


def scores(name: str, nodes: NodeArrays, pod: PodRequest, candidates: Candidates | None = None) -> list[float]:
    chosen = everywhere(nodes) if candidates is None else candidates
    scored: list[float] = HEURISTICS[name].scores(nodes, pod, chosen).tolist()
    return scored


def go_int(value: float) -> int:
    """int64(value) of a float in Go truncates."""
    return math.trunc(value)


def go_divide(dividend: int, divisor: int) -> int:
    """Integers in Go divide towards zero."""
    quotient = abs(dividend) // abs(divisor)
    return quotient if (dividend < 0) == (divisor < 0) else -quotient


def least_requested_score(requested: int, capacity: int) -> int:
    if capacity == 0:
        return 0
    if requested > capacity:
        return 0
    return go_divide((capacity - requested) * MAX_NODE_SCORE, capacity)


def most_requested_score(requested: int, capacity: int) -> int:
    if capacity == 0:
        return 0
    if requested > capacity:
        requested = capacity
    return go_divide(requested * MAX_NODE_SCORE, capacity)


def least_resource_scorer(weights: list[int]) -> Scorer:
    def scorer(requested: list[int], _: list[int], allocable: list[int]) -> int:
        node_score = weight_sum = 0
        for amount, capacity, weight in zip(requested, allocable, weights, strict=True):
            if capacity == 0:
                continue
            node_score += least_requested_score(amount, capacity) * weight
            weight_sum += weight
        return go_divide(node_score, weight_sum) if weight_sum else 0

    return scorer


def most_resource_scorer(weights: list[int]) -> Scorer:
    def scorer(requested: list[int], _: list[int], allocable: list[int]) -> int:
        node_score = weight_sum = 0
        for amount, capacity, weight in zip(requested, allocable, weights, strict=True):
            if capacity == 0:
                continue
            node_score += most_requested_score(amount, capacity) * weight
            weight_sum += weight
        return go_divide(node_score, weight_sum) if weight_sum else 0

    return scorer


def broken_linear_function(shape: list[tuple[int, int]], at: int) -> int:
    """BuildBrokenLinearFunction of ../helper/shape_score.go."""
    for index, (utilization, score) in enumerate(shape):
        if at <= utilization:
            if index == 0:
                return shape[0][1]
            low_utilization, low_score = shape[index - 1]
            rise = (score - low_score) * (at - low_utilization)
            return low_score + go_divide(rise, utilization - low_utilization)
    return shape[-1][1]


def requested_to_capacity_ratio_scorer(weights: list[int], points: list[UtilizationShapePoint]) -> Scorer:
    shape = [(point.utilization, point.score * (MAX_NODE_SCORE // MAX_CUSTOM_PRIORITY_SCORE)) for point in points]

    def scorer(requested: list[int], _: list[int], allocable: list[int]) -> int:
        node_score = weight_sum = 0
        for amount, capacity, weight in zip(requested, allocable, weights, strict=True):
            if capacity == 0:
                continue
            utilization = 100 if amount > capacity else go_divide(amount * 100, capacity)
            resource_score = broken_linear_function(shape, utilization)
            if resource_score > 0:
                node_score += resource_score * weight
                weight_sum += weight
        if weight_sum == 0:
            return 0
        mean = node_score / weight_sum
        return math.floor(mean) + (mean - math.floor(mean) >= 0.5)  # math.Round: halves away from zero

    return scorer


def balanced_resource_score(requested: list[int], allocatable: list[int]) -> int:
    fractions = []
    total_fraction = 0.0
    for amount, capacity in zip(requested, allocatable, strict=True):
        if capacity == 0:
            continue
        fraction = amount / capacity
        if fraction > 1:
            fraction = 1.0
        total_fraction += fraction
        fractions.append(fraction)
    std = 0.0
    if len(fractions) == 2:
        std = abs((fractions[0] - fractions[1]) / 2)
    elif len(fractions) > 2:
        mean = total_fraction / len(fractions)
        sum_ = 0.0
        for fraction in fractions:
            sum_ = sum_ + (fraction - mean) * (fraction - mean)
        std = math.sqrt(sum_ / len(fractions))
    return go_int((1 - std) * MAX_NODE_SCORE)


def balanced_resource_scorer(requested: list[int], allocated: list[int], allocatable: list[int]) -> int:
    with_pod = balanced_resource_score(requested, allocatable)
    without_pod = balanced_resource_score(allocated, allocatable)
    return MAX_NODE_SCORE // 2 + go_divide(MAX_NODE_SCORE // 2 + with_pod - without_pod, 2)


def resource_allocation_scorer(
    nodes: NodeArrays, pod: PodRequest, row: int, resources: list[int], scorer: Scorer, use_requested: bool
) -> int:
    """score and calculateNodeAllocatableRequest of resource_allocation.go; the first two columns are no scalars."""
    requested, allocated, allocatable = ([0] * len(resources) for _ in range(3))
    for index, resource in enumerate(resources):
        counts_nonzero = not use_requested and resource < 2
        pod_request = int((pod.nonzero if counts_nonzero else pod.request)[resource])
        if pod_request == 0 and resource >= 2:
            continue
        if nodes.allocatable[row, resource] == 0:
            continue
        allocatable[index] = int(nodes.allocatable[row, resource])
        allocated[index] = int((nodes.nonzero if counts_nonzero else nodes.requested)[row, resource])
        requested[index] = allocated[index] + pod_request
    return scorer(requested, allocated, allocatable)


class Configured:
    """kube-scheduler's plugins as a profile configures them, over columns named by `RESOURCES`."""

    def __init__(self, profile: ScoringProfile) -> None:
        self.resources = [RESOURCES.index(resource.name) for resource in profile.resources]
        self.weights = [resource.weight for resource in profile.resources]
        self.balanced = [RESOURCES.index(name) for name in profile.balanced_resources]
        self.profile = profile

    def least_allocated(self, nodes: NodeArrays, pod: PodRequest, row: int) -> int:
        scorer = least_resource_scorer(self.weights)
        return resource_allocation_scorer(nodes, pod, row, self.resources, scorer, use_requested=False)

    def most_allocated(self, nodes: NodeArrays, pod: PodRequest, row: int) -> int:
        scorer = most_resource_scorer(self.weights)
        return resource_allocation_scorer(nodes, pod, row, self.resources, scorer, use_requested=False)

    def requested_to_capacity_ratio(self, nodes: NodeArrays, pod: PodRequest, row: int) -> int:
        scorer = requested_to_capacity_ratio_scorer(self.weights, self.profile.shape)
        return resource_allocation_scorer(nodes, pod, row, self.resources, scorer, use_requested=False)

    def balanced_allocation(self, nodes: NodeArrays, pod: PodRequest, row: int) -> int:
        """PreScore and Score of balanced_allocation.go; what PreScore skips counts 0."""
        if not any(pod.request[self.balanced]):
            return 0
        return resource_allocation_scorer(nodes, pod, row, self.balanced, balanced_resource_scorer, use_requested=True)

    def kube_scheduler_default(self, nodes: NodeArrays, pod: PodRequest, row: int) -> int:
        """The weighted sum of RunScorePlugins, framework/runtime/framework.go."""
        fit = self.least_allocated(nodes, pod, row) * self.profile.fit_weight
        return fit + self.balanced_allocation(nodes, pod, row) * self.profile.balanced_weight

    def score(self, name: str, nodes: NodeArrays, pod: PodRequest, row: int) -> int:
        plugin: Callable[[NodeArrays, PodRequest, int], int] = getattr(self, name.replace("-", "_"))
        return plugin(nodes, pod, row)


KUBE_SCHEDULERS = (
    "least-allocated",
    "most-allocated",
    "requested-to-capacity-ratio",
    "balanced-allocation",
    "kube-scheduler-default",
)


def free_devices(nodes: NodeArrays, row: int) -> list[int]:
    return [left for left in nodes.device_free[row].tolist() if left >= 0]


def cpu_free(nodes: NodeArrays, row: int) -> int:
    return int(nodes.allocatable[row, 0] - nodes.requested[row, 0])


def slow_best_fit(nodes: NodeArrays, pod: PodRequest, rows: list[int]) -> list[int]:
    largest_cpu = max(int(nodes.allocatable[:, 0].max()), 1)
    largest_gpu = max(int(nodes.allocatable[:, 2].max()), 1)
    raw = []
    for row in rows:
        cpu_left = cpu_free(nodes, row) - int(pod.request[0])
        gpu_left = sum(free_devices(nodes, row)) - pod.gpu_count * pod.gpu_milli
        raw.append(int((1 - (0.5 * cpu_left / largest_cpu + 0.5 * gpu_left / largest_gpu)) * 100))
    low, high = min(raw), max(raw)
    return [0 if high == low else (score - low) * 100 // (high - low) for score in raw]


def slow_dot_product(nodes: NodeArrays, pod: PodRequest, rows: list[int]) -> list[int]:
    largest_cpu = max(int(nodes.allocatable[:, 0].max()), 1)
    largest_gpu = max(int(nodes.allocatable[:, 2].max()), 1)
    scored = []
    for row in rows:
        cpu = (cpu_free(nodes, row) / largest_cpu) * (int(pod.request[0]) / largest_cpu)
        gpu = (sum(free_devices(nodes, row)) / largest_gpu) * (pod.gpu_count * pod.gpu_milli / largest_gpu)
        scored.append(int(100 * (1 - (cpu + gpu) / 2)))
    return scored


def slow_gpu_packing(nodes: NodeArrays, pod: PodRequest, rows: list[int]) -> list[int]:
    scored = []
    for row in rows:
        devices = free_devices(nodes, row)
        whole = devices.count(1000)
        if pod.gpu_count == 0:
            scored.append(0)
        elif whole == len(devices):
            scored.append(max(33 - whole, whole))
        else:
            taken = [free for free in sorted(devices) if free >= pod.gpu_milli][: pod.gpu_count]
            opened = taken.count(1000)
            remaining = sum(free * 100 // 1000 for free in taken)
            scored.append(max(50 - opened, 33) if opened else max(100 - remaining // 10, 50))
    return scored


def slow_gpu_clustering(nodes: NodeArrays, pod: PodRequest, rows: list[int]) -> list[int]:
    largest_gpu = max(int(nodes.allocatable[:, 2].max()), 1)
    own = 0 if pod.gpu_count == 1 and pod.gpu_milli < 1000 else pod.gpu_count
    scored = []
    for row in rows:
        if pod.gpu_count == 0:
            scored.append(0)
            continue
        there = {kind for kind, count in enumerate(nodes.gpu_pods[row]) if count}
        base = 25 * (largest_gpu - sum(free_devices(nodes, row))) // largest_gpu
        if own in there:
            scored.append(base + (75 if there == {own} else 50))
        else:
            scored.append(base + (0 if there else 25))
    return scored


PUBLISHED = {
    "best-fit": slow_best_fit,
    "dot-product": slow_dot_product,
    "gpu-packing": slow_gpu_packing,
    "gpu-clustering": slow_gpu_clustering,
}


def slow_fragmentation(model: int, cpu: int, devices: list[int], typical: TypicalPods) -> float:
    expected = 0.0
    for index, share in enumerate(typical.share.tolist()):
        milli = int(typical.gpu_milli[index])
        large_enough = [free for free in devices if free >= milli]
        servable = (
            milli > 0
            and bool(typical.admits[index, model])
            and len(large_enough) >= typical.gpu_count[index]
            and cpu >= typical.cpu[index]
        )
        expected += share * sum(free for free in devices if not servable or free < milli)
    return expected


def slow_fgd_change(nodes: NodeArrays, pod: PodRequest, row: int, device: int, typical: TypicalPods) -> float:
    """By how much the placement lowers the node's fragmentation."""
    before = free_devices(nodes, row)
    after = list(before)
    if device != ANY_DEVICE:
        after[device] -= pod.gpu_milli
    elif pod.gpu_count:
        ascending = sorted(range(len(after)), key=lambda index: after[index])
        for index in [index for index in ascending if after[index] >= pod.gpu_milli][: pod.gpu_count]:
            after[index] -= pod.gpu_milli
    model, cpu = int(nodes.model[row]), cpu_free(nodes, row)
    left = cpu - int(pod.request[0])
    return slow_fragmentation(model, cpu, before, typical) - slow_fragmentation(model, left, after, typical)


def test_there_is_a_reference_for_every_rule():
    assert {*KUBE_SCHEDULERS, *PUBLISHED, "fgd", "random", "first-fit"} == RULES.keys()


@pytest.mark.parametrize("name", KUBE_SCHEDULERS)
@given(nodes=clusters(), pod=pods(), profile=profiles(RESOURCES))
def test_kube_schedulers_scorings_are_its_own_functions(name, nodes, pod, profile):
    wanted = [Configured(profile).score(name, nodes, pod, row) for row in range(len(nodes.allocatable))]
    rule = Heuristic(name, weights=weights_of(profile, RESOURCES))
    assert rule.scores(nodes, pod, everywhere(nodes)).tolist() == wanted


@pytest.mark.parametrize("name", KUBE_SCHEDULERS)
@given(nodes=clusters(), pod=pods())
def test_what_is_not_configured_is_kube_schedulers_default(name, nodes, pod):
    wanted = [Configured(ScoringProfile()).score(name, nodes, pod, row) for row in range(len(nodes.allocatable))]
    assert scores(name, nodes, pod) == wanted


@pytest.mark.parametrize("name", KUBE_SCHEDULERS)
@given(st.data())
def test_kube_schedulers_scorings_are_its_own_functions_whatever_the_amounts(name, data):
    # Amounts that divide unevenly, none at all, and as large as `requests` lets through.
    amount = st.one_of(st.sampled_from((0, 1, 3, 2**53)), st.integers(0, 10_000))
    count = data.draw(st.integers(1, 4))
    drawn = [[data.draw(amount) for _ in range(6)] for _ in range(count)]
    empty = cluster_of(*(Node(cpu, memory) for cpu, memory, *_ in drawn))
    nodes = empty._replace(
        requested=np.array([[cpu, memory, 0] for _, _, cpu, memory, *_ in drawn]),
        nonzero=np.array([[2**9 * cpu, memory] for *_, cpu, memory in drawn]),
    )
    pod = pod_of(data.draw(amount), data.draw(amount))._replace(
        nonzero=np.array([data.draw(amount), data.draw(amount)])
    )
    profile = data.draw(profiles(("cpu", "memory")))
    wanted = [Configured(profile).score(name, nodes, pod, row) for row in range(count)]
    rule = Heuristic(name, weights=weights_of(profile, RESOURCES))
    assert rule.scores(nodes, pod, everywhere(nodes)).tolist() == wanted


@pytest.mark.parametrize("name", PUBLISHED)
@given(nodes=clusters(), pod=pods())
def test_the_packers_score_as_they_were_published(name, nodes, pod):
    candidates = feasible(nodes, pod)
    assume(len(candidates.rows))
    assert scores(name, nodes, pod, candidates) == PUBLISHED[name](nodes, pod, candidates.rows.tolist())


@given(nodes=clusters(models=MODELS), pod=pods(), typical=typical_pods(models=MODELS))
def test_fgd_scores_as_it_was_published(nodes, pod, typical):
    candidates = feasible(nodes, pod)
    changes = [
        slow_fgd_change(nodes, pod, row, device, typical)
        for row, device in zip(candidates.rows.tolist(), candidates.devices.tolist(), strict=True)
    ]
    wanted = [int(100 / (1 + math.exp(-round(change, 6) / 1000))) for change in changes]
    assert Heuristic("fgd", typical).scores(nodes, pod, candidates).tolist() == wanted


def test_fgd_prefers_the_device_that_leaves_the_other_usable():
    # Beside 500 in use, another 500 strands nothing; on the idle device it would leave two halves for whole-GPU pods.
    nodes = cluster_of(Node(8000, GIB, (1000, 500)))
    pod = pod_of(1000, 0, 1, 500)
    tight, loose = Heuristic("fgd", typical_of((1000, 1, 1000, 1.0))).scores(
        nodes, pod, Candidates(np.array([0, 0]), np.array([1, 0]))
    )
    assert (tight, loose) == (62.0, 37.0)  # 500 less useless, 500 more: 100 sigmoid(+-0.5)


def test_fgd_takes_a_change_that_is_only_rounding_for_none():
    # 4 of 7 pods want a whole device and can use nothing, 3 of 7 can use half a device: 4 * 3200 + 3 * 600 sevenths are
    # useless before and 4 * 2900 + 3 * 1000 after. That is the same, but in floats 5e-13 more, which would score 49.
    nodes = cluster_of(Node(8000, GIB, (700, 500, 700, 300, 700, 300)))
    typical = typical_of((1000, 1, 1000, 4 / 7), (1000, 1, 500, 3 / 7))
    on_the_first = Candidates(np.array([0]), np.array([0]))
    assert Heuristic("fgd", typical).scores(nodes, pod_of(1000, 0, 1, 300), on_the_first).tolist() == [50.0]


def test_gpu_packing_keeps_its_bounds_on_nodes_with_many_devices():
    idle, in_use = Node(8000, GIB, (1000,) * 20), Node(8000, GIB, (500, *(1000,) * 19))
    nodes = cluster_of(idle, in_use, device_slots=20)
    assert scores("gpu-packing", nodes, pod_of(gpu_count=19, gpu_milli=1000)) == [20.0, 33.0]


def test_least_allocated_truncates_each_resource_and_their_mean():
    # CPU (8000 - 3000) * 100 / 8000 = 62.5 -> 62; memory (7 - 2) * 100 / 7 = 71.4 -> 71; mean 66.5 -> 66.
    nodes = cluster_of(Node(8000, 7 * GIB, cpu_used=1000, memory_used=GIB))
    assert scores("least-allocated", nodes, pod_of(2000, GIB)) == [66.0]


def test_most_allocated_truncates_each_resource_and_their_mean():
    # CPU 3000 * 100 / 8000 = 37.5 -> 37; memory 2 * 100 / 7 = 28.6 -> 28; mean 32.5 -> 32.
    nodes = cluster_of(Node(8000, 7 * GIB, cpu_used=1000, memory_used=GIB))
    assert scores("most-allocated", nodes, pod_of(2000, GIB)) == [32.0]


def test_requested_to_capacity_ratio_truncates_each_resource_and_rounds_their_mean():
    # CPU 37.5 -> 37, memory 28.6 -> 28; mean 32.5 -> 33.
    nodes = cluster_of(Node(8000, 7 * GIB, cpu_used=1000, memory_used=GIB))
    assert scores("requested-to-capacity-ratio", nodes, pod_of(2000, GIB)) == [33.0]


def test_requested_to_capacity_ratio_leaves_out_a_resource_that_scores_nothing():
    nodes = cluster_of(Node(8000, 64 * GIB))  # of memory, 200 MiB are less than one percent
    assert scores("requested-to-capacity-ratio", nodes, pod_of(4000)) == [50.0]


@pytest.mark.parametrize("name", KUBE_SCHEDULERS)
def test_kube_schedulers_scorings_do_not_look_at_gpus(name):
    nodes = cluster_of(Node(8000, 8 * GIB, (1000,) * 4), Node(8000, 8 * GIB, (500,)), Node(8000, 8 * GIB))
    first, second, third = scores(name, nodes, pod_of(2000, GIB, 1, 500))
    assert first == second == third


def test_a_container_that_asks_for_nothing_counts_a_little_where_allocation_is_scored():
    # 8 such containers beside 0 asked for: 800 of 8000 milli. The pod itself is another: 900, and 9 * 200 MiB of 8 GiB.
    nodes = cluster_of(Node(8000, 8 * GIB, silent=8))
    assert scores("least-allocated", nodes, pod_of()) == [(88 + 78) // 2]
    assert scores("most-allocated", nodes, pod_of()) == [(11 + 21) // 2]


def test_a_container_that_asks_for_nothing_does_not_count_where_balance_is_scored():
    asked = pod_of(1000, GIB)
    with_silent, without = cluster_of(Node(8000, 8 * GIB, silent=20)), cluster_of(Node(8000, 8 * GIB))
    assert scores("balanced-allocation", with_silent, asked) == scores("balanced-allocation", without, asked)


def test_a_pod_that_asks_for_neither_cpu_nor_memory_is_not_scored_by_balance():
    nodes = cluster_of(Node(8000, 8 * GIB, (1000,), cpu_used=4000))
    assert scores("balanced-allocation", nodes, pod_of(0, 0, 1, 1000)) == [0.0]


def test_a_resource_that_a_node_lacks_is_left_out_of_its_mean():
    nodes = cluster_of(Node(4000, 0))
    assert scores("least-allocated", nodes, pod_of(1000)) == [75.0]
    assert scores("most-allocated", nodes, pod_of(1000)) == [25.0]
    assert scores("requested-to-capacity-ratio", nodes, pod_of(1000)) == [25.0]


def test_a_node_without_cpu_and_memory_scores_nothing():
    nodes = cluster_of(Node(0, 0))
    assert scores("least-allocated", nodes, pod_of()) == scores("most-allocated", nodes, pod_of()) == [0.0]
    assert scores("requested-to-capacity-ratio", nodes, pod_of()) == [0.0]


def test_an_overcommitted_node_is_full_and_no_more():
    nodes = cluster_of(Node(4000, 4 * GIB, cpu_used=9000, memory_used=2 * GIB))
    nothing = pod_of()._replace(nonzero=np.zeros(2, np.int64))
    assert scores("least-allocated", nodes, nothing) == [25.0]
    assert scores("most-allocated", nodes, nothing) == [75.0]
    assert scores("requested-to-capacity-ratio", nodes, nothing) == [75.0]


def test_the_default_profile_rewards_a_better_balance_than_before():
    # LeastAllocated is (25 + 75) / 2 = 50 on both nodes. The balance after is 1 - 0.5 / 2 = 75 on both; before it was
    # 1 - 0.5 / 2 = 75 on the first and 1 - 0.75 / 2 = 62 on the second: 50 + 50 / 2 = 75 and 50 + 63 / 2 = 81.
    nodes = cluster_of(
        Node(8000, 8 * GIB, cpu_used=5000, memory_used=GIB), Node(8000, 8 * GIB, cpu_used=0, memory_used=6 * GIB)
    )
    [first, _] = scores("kube-scheduler-default", nodes, pod_of(1000, GIB))
    no_memory = pod_of(2000)._replace(nonzero=np.array([2000, 0]))
    [_, second] = scores("kube-scheduler-default", nodes, no_memory)
    assert (first, second) == (50.0 + 75, 50.0 + 81)


def test_best_fit_prefers_the_node_with_least_cpu_and_gpu_left_as_shares_of_the_largest():
    # Left: CPU 4000 / 8000 and GPU 500 / 2000, so 62 of 100; 1000 / 8000 and nothing, 93; everything but memory, 25.
    # Spread over 0..100: (62 - 25) * 100 / 68 = 54.
    nodes = cluster_of(
        Node(8000, 4 * GIB, (500, 500), cpu_used=3000), Node(2000, GIB, (500,)), Node(8000, GIB, (1000, 1000))
    )
    pod = pod_of(1000, GIB, 1, 500)
    raw = [100 - 100 * (0.25 + 0.125), 100 - 100 * 0.0625, 100 - 100 * (7 / 16 + 3 / 8)]
    low, high = int(raw[2]), int(raw[1])
    assert scores("best-fit", nodes, pod) == [(int(raw[0]) - low) * 100 // (high - low), 100.0, 0.0]


def test_best_fit_scores_equally_good_nodes_nothing():
    nodes = cluster_of(Node(8000, GIB), Node(8000, 4 * GIB))
    assert scores("best-fit", nodes, pod_of(1000)) == [0.0, 0.0]


def test_first_fit_takes_the_first_row():
    nodes = cluster_of(*[Node(8000, GIB)] * 3)
    assert scores("first-fit", nodes, pod_of(1000)) == [0.0, -1.0, -2.0]


@given(clusters(), pods())
def test_random_prefers_nothing(nodes, pod):
    assert not any(scores("random", nodes, pod))


def surroundings_of(nodes: NodeArrays, typical: TypicalPods) -> Surroundings:
    """What a rule may look at, with room for `PLENTY` candidates."""
    tables = fragmentation_tables(typical)
    free = nodes.allocatable[:, 0] - nodes.requested[:, 0]
    wasted = fragmentation(tables, nodes.model, free, nodes.device_free.T)
    devices = np.empty((nodes.device_free.shape[1], PLENTY), np.int64)
    return Surroundings(nodes.allocatable.max(axis=0), tables, wasted, devices)


def rule_of(name: str, typical: TypicalPods) -> Heuristic:
    return Heuristic(name, typical if name in NEEDS_TYPICAL_PODS else None)


@pytest.mark.parametrize("name", RULES)
@given(nodes=clusters(models=MODELS), pod=pods(), typical=typical_pods(models=MODELS))
def test_every_rule_scores_every_candidate(name, nodes, pod, typical):
    candidates = feasible(nodes, pod)
    scored = rule_of(name, typical).scores(nodes, pod, candidates)
    assert scored.shape == candidates.rows.shape
    assert np.all(np.isfinite(scored))


@pytest.mark.parametrize("name", RULES)
@given(nodes=clusters(models=MODELS), pod=pods(), typical=typical_pods(models=MODELS))
def test_scoring_changes_nothing(name, nodes, pod, typical):
    before = copy_of(nodes)
    rule_of(name, typical).scores(nodes, pod, feasible(nodes, pod))
    for array, original in zip(nodes, before, strict=True):
        assert array.tolist() == original.tolist()


@pytest.mark.parametrize("name", RULES)
@given(nodes=clusters(models=MODELS), pod=pods(), typical=typical_pods(models=MODELS))
def test_a_candidate_alone_gets_the_score_it_gets_among_others(name, nodes, pod, typical):
    candidates = feasible(nodes, pod)
    around = surroundings_of(nodes, typical)
    one_candidate = around._replace(devices=around.devices[:, 0])
    together = RULES[name](nodes, pod, candidates, around._replace(devices=around.devices[:, : len(candidates.rows)]))
    for row, device, score in zip(candidates.rows.tolist(), candidates.devices.tolist(), together, strict=True):
        assert RULES[name](nodes, pod, Candidates(row, device), one_candidate) == score


def test_an_unknown_heuristic_is_refused_with_those_there_are():
    with pytest.raises(ValueError, match=r"'worst-fit'.*best-fit.*random"):
        Heuristic("worst-fit")


def test_a_heuristic_that_needs_typical_pods_says_so():
    with pytest.raises(ValueError, match="'fgd' needs the workload's typical pods"):
        Heuristic("fgd")


def test_the_rules_that_need_no_typical_pods_are_there_by_name():
    assert HEURISTICS.keys() == RULES.keys() - {*NEEDS_TYPICAL_PODS}
    assert all(heuristic.name == name for name, heuristic in HEURISTICS.items())
