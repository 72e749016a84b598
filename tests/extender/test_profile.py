"""Scoring profiles, with numbers worked out by hand from kube-scheduler's formulas."""

import numpy as np
import pytest
from pydantic import TypeAdapter, ValidationError

from extender.placement import ANY_DEVICE, Candidates, NodeArrays, PodRequest, empty_nodes, pod_request
from extender.policies.heuristics import Heuristic
from extender.profile import ResourceSpec, ScoringProfile, weights_of
from tests.clusters import GIB, Node, cluster_of, pod_of
from tests.profiles import shaped, weighing

RESOURCES = ("cpu", "memory", "gpu")


def score(
    rule: str, profile: ScoringProfile, nodes: NodeArrays, pod: PodRequest, resources: tuple[str, ...] = RESOURCES
) -> float:
    """What the first node scores."""
    heuristic = Heuristic(rule, weights=weights_of(profile, resources))
    return float(heuristic.scores(nodes, pod, Candidates(np.array([0]), np.array([ANY_DEVICE])))[0])


@pytest.fixture
def half() -> tuple[NodeArrays, PodRequest]:
    """With the pod, CPU is 3000 / 8000 (37.5 %), memory 2 / 7 (28.6 %) and GPU 1500 / 2000 (75 %) in use."""
    return cluster_of(Node(8000, 7 * GIB, (500, 1000), cpu_used=1000, memory_used=GIB)), pod_of(2000, GIB, 1, 1000)


@pytest.mark.parametrize(
    ("rule", "weights", "wanted"),
    [
        ("least-allocated", {"cpu": 1, "memory": 1}, 66),  # (62 + 71) / 2 = 66.5
        ("least-allocated", {"cpu": 3, "memory": 1}, 64),  # (3 * 62 + 71) / 4 = 64.25
        ("least-allocated", {"cpu": 1, "memory": 1, "gpu": 5}, 36),  # (62 + 71 + 5 * 25) / 7 = 36.9
        ("least-allocated", {"gpu": 7}, 25),
        ("most-allocated", {"cpu": 1, "memory": 1}, 32),  # (37 + 28) / 2 = 32.5
        ("most-allocated", {"memory": 3, "cpu": 1}, 30),  # (37 + 3 * 28) / 4 = 30.25
        ("most-allocated", {"cpu": 1, "memory": 1, "gpu": 5}, 62),  # (37 + 28 + 5 * 75) / 7 = 62.9
        ("requested-to-capacity-ratio", {"cpu": 1, "memory": 1, "gpu": 5}, 63),  # the same, rounded
        ("requested-to-capacity-ratio", {"cpu": 1}, 37),
    ],
)
def test_resources_count_by_their_weights(half, rule, weights, wanted):
    assert score(rule, weighing(**weights), *half) == wanted


@pytest.mark.parametrize("rule", ["least-allocated", "most-allocated", "requested-to-capacity-ratio"])
def test_an_extended_resource_does_not_count_for_a_pod_that_does_not_ask_for_it(half, rule):
    nodes, _ = half
    weighed = weighing(cpu=1, memory=1, gpu=100)
    assert score(rule, weighed, nodes, pod_of(2000, GIB)) == score(rule, ScoringProfile(), nodes, pod_of(2000, GIB))


def test_resources_beyond_the_first_three_can_be_weighed():
    # CPU 1000 / 4000 in use is 75 free, memory 1 / 4 is 75 free, licences 3 / 8 are 62 free: (75 + 75 + 2 * 62) / 4.
    nodes = empty_nodes(np.array([[4000, 4 * GIB, 0, 8]]), np.array([0]))
    nodes.requested[0, 3] = 2
    pod = pod_request(np.array([1000, GIB, 0, 1]))
    profile = weighing(cpu=1, memory=1, licences=2)
    assert score("least-allocated", profile, nodes, pod, (*RESOURCES, "licences")) == 68


@pytest.mark.parametrize(
    ("shape", "wanted"),
    [
        ([(0, 0), (100, 10)], 33),  # 37 and 28, mean 32.5
        ([(0, 10), (100, 0)], 68),  # 100 - 37 = 63 and 100 - 28 = 72, mean 67.5; truncated towards zero
        ([(0, 10), (40, 5), (100, 5)], 60),  # 100 - 50 * 37 / 40 (46.25 -> 46) = 54, 100 - 50 * 28 / 40 = 65; 59.5
        ([(30, 2), (50, 8)], 31),  # 20 + 60 * 7 / 20 = 41; below 30 % 20; mean 30.5
        ([(10, 0), (20, 10)], 100),  # level beyond the last point
        ([(60, 0), (100, 10)], 0),  # nothing scores, so nothing counts
        ([(37, 4)], 40),  # one point: the same everywhere
    ],
)
def test_the_shape_is_lines_between_its_points(half, shape, wanted):
    assert score("requested-to-capacity-ratio", shaped(*shape), *half) == wanted


def test_a_resource_that_a_node_lacks_does_not_count_though_the_shape_scores_it():
    falling = shaped((0, 10), (100, 0))
    assert score("requested-to-capacity-ratio", falling, cluster_of(Node(4000, 0)), pod_of(1000)) == 75


def test_balance_is_the_standard_deviation_of_three_shares(half):
    # After: 0.375, 0.2857, 0.75: mean 0.4702, deviation 0.2011: 79. Before: 0.125, 0.1429, 0.25: deviation 0.0554: 94.
    balanced = ScoringProfile(balanced_resources=["cpu", "memory", "gpu"])
    assert score("balanced-allocation", balanced, *half) == 50 + (50 + 79 - 94) // 2


def test_two_other_resources_can_be_balanced(half):
    # CPU and GPU, after: |0.375 - 0.75| / 2 = 0.1875: 81; before: |0.125 - 0.25| / 2 = 0.0625: 93.
    balanced = ScoringProfile(balanced_resources=["gpu", "cpu"])
    assert score("balanced-allocation", balanced, *half) == 50 + (50 + 81 - 93) // 2


def test_a_pod_that_asks_for_nothing_balanced_is_not_scored_by_balance(half):
    nodes, _ = half
    assert score("balanced-allocation", ScoringProfile(balanced_resources=["gpu"]), nodes, pod_of(2000, GIB)) == 0


def test_the_plugins_of_the_default_profile_count_by_their_weights(half):
    free, balance = (score(rule, ScoringProfile(), *half) for rule in ("least-allocated", "balanced-allocation"))
    weighed = ScoringProfile(fit_weight=3, balanced_weight=7)
    assert score("kube-scheduler-default", weighed, *half) == 3 * free + 7 * balance


@pytest.mark.parametrize(
    ("profile", "message"),
    [
        (weighing(fpga=1), "resources: no resource is named fpga; there are cpu, memory, gpu"),
        (
            ScoringProfile(resources=[ResourceSpec("gpu"), ResourceSpec("gpu", 2)]),
            "resources: gpu is named twice",
        ),
        (
            ScoringProfile(balanced_resources=["cpu", "disk"]),
            "balanced_resources: no resource is named disk; there are cpu, memory, gpu",
        ),
        (ScoringProfile(balanced_resources=["cpu", "cpu"]), "balanced_resources: cpu is named twice"),
        (shaped((0, 0), (50, 5), (50, 6)), "shape: utilization 50 after 50, expected ascending order, each once"),
        (shaped((70, 0), (50, 5)), "shape: utilization 50 after 70, expected ascending order, each once"),
    ],
)
def test_a_profile_that_cannot_be_is_refused(profile, message):
    with pytest.raises(ValueError, match=f"^{message}$"):
        weights_of(profile, RESOURCES)


@pytest.mark.parametrize(
    ("given", "place"),
    [
        ({"weights": {"cpu": 1}}, ("weights",)),
        ({"resources": []}, ("resources",)),
        ({"resources": [{"name": "cpu", "weight": 0}]}, ("resources", 0, "weight")),
        ({"resources": [{"name": "cpu", "weight": 101}]}, ("resources", 0, "weight")),
        ({"resources": [{"weight": 1}]}, ("resources", 0, "name")),
        ({"resources": [{"name": "cpu", "wait": 1}]}, ("resources", 0, "wait")),
        ({"shape": []}, ("shape",)),
        ({"shape": [{"utilization": 101, "score": 0}]}, ("shape", 0, "utilization")),
        ({"shape": [{"utilization": -1, "score": 0}]}, ("shape", 0, "utilization")),
        ({"shape": [{"utilization": 1, "score": 11}]}, ("shape", 0, "score")),
        ({"shape": [{"utilization": 1}]}, ("shape", 0, "score")),
        ({"balanced_resources": []}, ("balanced_resources",)),
        ({"fit_weight": 0}, ("fit_weight",)),
        ({"balanced_weight": 101}, ("balanced_weight",)),
    ],
)
def test_what_is_beyond_the_limits_is_refused_by_its_place(given, place):
    with pytest.raises(ValidationError) as raised:
        TypeAdapter(ScoringProfile).validate_python(given)
    assert [error["loc"] for error in raised.value.errors()] == [place]
