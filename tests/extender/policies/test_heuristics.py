"""The references are kube-scheduler 1.36's Go functions, line by line."""

import numpy as np
import pytest
from hypothesis import given

from extender.placement import ANY_DEVICE, Candidates, NodeArrays, list_candidates
from extender.policies.heuristics import (
    HEURISTICS,
    RULES,
    Heuristic,
    best_fit,
    kube_scheduler_default,
    least_allocated,
    most_allocated,
    random_choice,
)
from tests.clusters import GIB, Node, cluster_of, clusters, pod_of, pods

PLENTY = 1000
MAX_NODE_SCORE = 100


def everywhere(nodes: NodeArrays) -> Candidates:
    count = len(nodes.allocatable)
    return Candidates(np.arange(count), np.full(count, ANY_DEVICE))


def requested_share_score(requested: int, capacity: int, least: bool) -> int:
    """leastRequestedScore and mostRequestedScore of least_allocated.go and most_allocated.go."""
    if requested > capacity:
        return 0 if least else MAX_NODE_SCORE
    return ((capacity - requested) if least else requested) * MAX_NODE_SCORE // capacity


def allocation_score(allocatable: list[int], requested: list[int], pod: list[int], least: bool) -> int:
    """The scorers of the same files, on what calculateNodeAllocatableRequest of resource_allocation.go gives them."""
    scores = []
    for resource, capacity in enumerate(allocatable):
        extended_and_not_asked_for = resource >= 2 and pod[resource] == 0
        if capacity > 0 and not extended_and_not_asked_for:
            scores.append(requested_share_score(requested[resource] + pod[resource], capacity, least))
    return sum(scores) // len(scores) if scores else 0


def balanced_resource_score(requested: list[int], allocatable: list[int]) -> int:
    """The function of this name in balanced_allocation.go, for CPU and memory."""
    used = [min(part / whole, 1) for part, whole in zip(requested, allocatable, strict=True) if whole > 0]
    deviation = abs(used[0] - used[1]) / 2 if len(used) == 2 else 0.0
    return int((1 - deviation) * MAX_NODE_SCORE)


def balanced_resource_scorer(requested: list[int], allocated: list[int], allocatable: list[int]) -> int:
    """The function of this name in balanced_allocation.go."""
    with_pod = balanced_resource_score(requested, allocatable)
    without_pod = balanced_resource_score(allocated, allocatable)
    return MAX_NODE_SCORE // 2 + (MAX_NODE_SCORE // 2 + with_pod - without_pod) // 2


def test_least_allocated_truncates_each_resource_and_their_mean():
    # CPU (8000 - 3000) * 100 / 8000 = 62.5 -> 62; memory (7 - 2) * 100 / 7 = 71.4 -> 71; mean 66.5 -> 66.
    nodes = cluster_of(Node(8000, 7 * GIB, cpu_used=1000, memory_used=GIB))
    assert least_allocated(nodes, pod_of(2000, GIB), everywhere(nodes)).tolist() == [66.0]


def test_most_allocated_truncates_each_resource_and_their_mean():
    # CPU 3000 * 100 / 8000 = 37.5 -> 37; memory 2 * 100 / 7 = 28.6 -> 28; mean 32.5 -> 32.
    nodes = cluster_of(Node(8000, 7 * GIB, cpu_used=1000, memory_used=GIB))
    assert most_allocated(nodes, pod_of(2000, GIB), everywhere(nodes)).tolist() == [32.0]


def test_gpus_count_for_pods_that_ask_for_them_only():
    # With the GPU: (50 + 50 + 75) / 3 = 58.3; without: (50 + 50) / 2.
    nodes = cluster_of(Node(4000, 4 * GIB, (1000, 1000)))
    assert least_allocated(nodes, pod_of(2000, 2 * GIB, 1, 500), everywhere(nodes)).tolist() == [58.0]
    assert least_allocated(nodes, pod_of(2000, 2 * GIB), everywhere(nodes)).tolist() == [50.0]


def test_a_resource_that_a_node_lacks_is_left_out_of_its_mean():
    nodes = cluster_of(Node(4000, 0))
    assert least_allocated(nodes, pod_of(1000), everywhere(nodes)).tolist() == [75.0]
    assert most_allocated(nodes, pod_of(1000), everywhere(nodes)).tolist() == [25.0]


def test_an_overcommitted_node_is_full_and_no_more():
    nodes = cluster_of(Node(4000, 4 * GIB, cpu_used=9000, memory_used=2 * GIB))
    assert least_allocated(nodes, pod_of(0, 0), everywhere(nodes)).tolist() == [25.0]
    assert most_allocated(nodes, pod_of(0, 0), everywhere(nodes)).tolist() == [75.0]


@pytest.mark.parametrize(("rule", "least"), [(least_allocated, True), (most_allocated, False)])
@given(nodes=clusters(), pod=pods())
def test_allocation_scores_are_kube_schedulers(rule, least, nodes, pod):
    wanted = [
        allocation_score(allocatable.tolist(), requested.tolist(), pod.request.tolist(), least)
        for allocatable, requested in zip(nodes.allocatable, nodes.requested, strict=True)
    ]
    assert rule(nodes, pod, everywhere(nodes)).tolist() == wanted


def test_the_default_profile_does_not_look_at_gpus():
    nodes = cluster_of(Node(8000, 8 * GIB, (1000,) * 4), Node(8000, 8 * GIB, (500,)), Node(8000, 8 * GIB))
    scores = kube_scheduler_default(nodes, pod_of(2000, GIB, 1, 500), everywhere(nodes))
    assert scores[0] == scores[1] == scores[2]


def test_the_default_profile_rewards_a_better_balance_than_before():
    # LeastAllocated is (25 + 75) / 2 = 50 on both nodes. The balance after is 1 - 0.5 / 2 = 75 on both; before it was
    # 1 - 0.5 / 2 = 75 on the first and 1 - 0.75 / 2 = 62 on the second: 50 + 50 / 2 = 75 and 50 + 63 / 2 = 81.
    nodes = cluster_of(
        Node(8000, 8 * GIB, cpu_used=5000, memory_used=GIB), Node(8000, 8 * GIB, cpu_used=0, memory_used=6 * GIB)
    )
    first = kube_scheduler_default(nodes, pod_of(1000, GIB), Candidates(np.array([0]), np.array([ANY_DEVICE])))
    second = kube_scheduler_default(nodes, pod_of(2000, 0), Candidates(np.array([1]), np.array([ANY_DEVICE])))
    assert (first.tolist(), second.tolist()) == ([50.0 + 75], [50.0 + 81])


@given(nodes=clusters(), pod=pods().filter(lambda pod: pod.request[:2].any()))
def test_the_default_profile_is_kube_schedulers(nodes, pod):
    wanted = []
    for allocatable, allocated in zip(nodes.allocatable[:, :2], nodes.requested[:, :2], strict=True):
        requested = allocated + pod.request[:2]
        wanted.append(
            allocation_score(allocatable.tolist(), allocated.tolist(), pod.request[:2].tolist(), True)
            + balanced_resource_scorer(requested.tolist(), allocated.tolist(), allocatable.tolist())
        )
    assert kube_scheduler_default(nodes, pod, everywhere(nodes)).tolist() == wanted


def test_best_fit_prefers_the_node_with_least_left_as_shares_of_the_largest():
    # Left of CPU 4000 / 8000, of memory 3 / 4, of GPU 500 / 2000: the second node keeps 1000 of CPU only.
    nodes = cluster_of(Node(8000, 4 * GIB, (500, 500), cpu_used=3000), Node(2000, GIB, (500,)))
    scores = best_fit(nodes, pod_of(1000, GIB, 1, 500), everywhere(nodes))
    assert scores == pytest.approx([-(0.5 + 0.75 + 0.25), -1 / 8])


@given(clusters(), pods())
def test_random_prefers_nothing(nodes, pod):
    assert not np.any(random_choice(nodes, pod, everywhere(nodes)))


@pytest.mark.parametrize("name", RULES)
@given(nodes=clusters(), pod=pods())
def test_every_rule_scores_every_candidate(name, nodes, pod):
    candidates = list_candidates(nodes, pod, np.arange(len(nodes.allocatable)), PLENTY)
    scores = HEURISTICS[name].scores(nodes, pod, candidates)
    assert scores.shape == candidates.rows.shape
    assert np.all(np.isfinite(scores))


def test_an_unknown_heuristic_is_refused_with_those_there_are():
    with pytest.raises(ValueError, match=r"'worst-fit'.*best-fit.*random"):
        Heuristic("worst-fit")
