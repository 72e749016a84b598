import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from extender.features import (
    FeatureArray,
    describe,
    feature_count,
    feature_names,
    free_fraction,
    imbalance,
    placement_features,
)
from extender.fragmentation import TypicalPods, fragmentation_tables
from extender.placement import (
    ANY_DEVICE,
    Candidates,
    NodeArrays,
    PodRequest,
    empty_nodes,
    list_candidates,
    pod_request,
)
from tests.clusters import GIB, Node, cluster_of, clusters, copy_of, pod_of, pods, typical_of, typical_pods

RESOURCES = ("cpu", "memory", "gpu")
PLENTY = 1000
# Two devices, one of them partly in use; half of what usually comes shares a device.
TWO_DEVICES = Node(16000, 64 * GIB, (1000, 400), cpu_used=8000, memory_used=16 * GIB)
USUAL = typical_of((4000, 1, 500, 0.5), (4000, 2, 1000, 0.25), (2000, 0, 0, 0.25))


def candidates_of(*pairs: tuple[int, int]) -> Candidates:
    rows, devices = zip(*pairs, strict=True)
    return Candidates(np.array(rows), np.array(devices))


def table(nodes: NodeArrays, pod: PodRequest, candidates: Candidates, typical: TypicalPods = USUAL) -> FeatureArray:
    return placement_features(nodes, pod, candidates, fragmentation_tables(typical))


def described(nodes: NodeArrays, pod: PodRequest, *pairs: tuple[int, int]) -> list[dict[str, float]]:
    """The features of each candidate, by name."""
    seen = table(nodes, pod, candidates_of(*pairs))
    return [dict(zip(feature_names(RESOURCES), row.tolist(), strict=True)) for row in seen]


@pytest.mark.parametrize("resources", [3, 5, 16])
def test_names_count_and_columns_agree(resources):
    names = feature_names([f"resource-{index}" for index in range(resources)])
    nodes = empty_nodes(np.ones((2, resources), np.int64), np.zeros(2, np.int64))
    pod = pod_request(np.zeros(resources, np.int64))
    columns = table(nodes, pod, candidates_of((0, ANY_DEVICE))).shape[1]
    assert len(set(names)) == len(names) == feature_count(resources) == columns


def test_the_node_is_described_before_and_after_the_placement():
    [seen] = described(cluster_of(TWO_DEVICES), pod_of(4000, 8 * GIB, 1, 500), (0, 0))
    wanted = {
        "cpu/free-before": 0.5,
        "cpu/free-after": 0.25,
        "cpu/share-taken": 0.25,
        "memory/free-before": 0.75,
        "memory/free-after": 0.625,
        "memory/share-taken": 0.125,
        "gpu/free-before": 0.7,
        "gpu/free-after": 0.45,
        "gpu/share-taken": 0.25,
        "node/whole-devices-before": 1 / 8,
        "node/whole-devices-after": 0.0,
        "node/largest-part-after": 0.5,
        "node/imbalance-before": np.std([0.5, 0.25, 0.3]),
        "node/imbalance-after": np.std([0.75, 0.375, 0.55]),
        "node/empty-before": 0.0,
        "node/fragmentation-before": 0.9 / 8,  # worked out below
        "node/fragmentation-change": 0.65 - 0.9,
    }
    assert {name: seen[name] for name in wanted} == pytest.approx(wanted, abs=1e-6)


@pytest.mark.parametrize(
    ("pod", "kind"),
    [
        (pod_of(1000), "cpu-only"),
        (pod_of(1000, 0, 1, 999), "shares-device"),
        (pod_of(1000, 0, 1, 1000), "one-device"),
        (pod_of(1000, 0, 2, 1000), "several-devices"),
    ],
)
def test_a_pod_is_of_exactly_one_class(pod, kind):
    [seen] = described(cluster_of(Node(8000, GIB, (1000, 1000))), pod, (0, 0))
    classes = ("cpu-only", "shares-device", "one-device", "several-devices")
    assert {name: seen[f"pod/{name}"] for name in classes} == {name: float(name == kind) for name in classes}


def test_size_priority_and_duration_of_the_pod_are_on_bounded_scales():
    nodes = cluster_of(Node(8000, GIB, (1000,) * 8))
    [seen] = described(nodes, pod_of(gpu_count=4, gpu_milli=1000, priority=500_000_000), (0, ANY_DEVICE))
    assert (seen["pod/gpu"], seen["pod/priority"], seen["pod/expected-seconds"]) == (0.5, 0.5, 0.0)
    [week] = described(nodes, pod_of(priority=2_000_000_000, seconds=7 * 86400.0), (0, ANY_DEVICE))
    assert (week["pod/priority"], week["pod/expected-seconds"]) == (1.0, 1.0)
    [beyond] = described(nodes, pod_of(priority=-2_000_000_000, seconds=1e9), (0, ANY_DEVICE))
    assert (beyond["pod/priority"], beyond["pod/expected-seconds"]) == (-1.0, 1.0)


def test_an_empty_node_is_seen_as_empty():
    nodes = cluster_of(Node(8000, GIB), Node(8000, GIB, memory_used=1))
    first, second = described(nodes, pod_of(1000), (0, ANY_DEVICE), (1, ANY_DEVICE))
    assert (first["node/empty-before"], second["node/empty-before"]) == (1.0, 0.0)


def test_taking_the_cpu_strands_the_devices():
    # With 3999 milli left no typical pod can use a device: 0.9 of them was useless before, 1.4 are now.
    [seen] = described(cluster_of(TWO_DEVICES), pod_of(4001), (0, ANY_DEVICE))
    assert seen["node/fragmentation-change"] == pytest.approx(1.4 - 0.9)


def test_two_devices_of_a_node_are_two_different_candidates():
    tight, loose = described(cluster_of(TWO_DEVICES), pod_of(1000, GIB, 1, 300), (0, 1), (0, 0))
    assert (tight["node/largest-part-after"], loose["node/largest-part-after"]) == pytest.approx((1.0, 0.7))
    assert tight["node/fragmentation-change"] != loose["node/fragmentation-change"]


@given(clusters(), pods(), typical_pods(), st.integers(2, 4))
def test_a_cluster_of_more_equal_nodes_looks_the_same(nodes, pod, typical, times):
    larger = NodeArrays(*(np.concatenate([array] * times) for array in nodes))
    candidates = list_candidates(nodes, pod, np.arange(len(nodes.allocatable)), PLENTY)
    small = table(nodes, pod, candidates, typical)
    large = table(larger, pod, candidates, typical)
    np.testing.assert_array_equal(small, large)


@given(clusters(), pods(), typical_pods(), st.integers(2, 1000))
def test_larger_nodes_with_proportionally_larger_pods_look_the_same(nodes, pod, typical, times):
    factor = np.array([times, times, 1])  # devices are devices
    grown = nodes._replace(allocatable=nodes.allocatable * factor, requested=nodes.requested * factor)
    grown_pod = pod._replace(request=pod.request * factor)
    grown_typical = typical._replace(cpu=typical.cpu * times)
    candidates = list_candidates(nodes, pod, np.arange(len(nodes.allocatable)), PLENTY)
    np.testing.assert_allclose(
        table(nodes, pod, candidates, typical),
        table(grown, grown_pod, candidates, grown_typical),
        atol=1e-6,
    )


@given(clusters(), pods(), typical_pods())
def test_describing_a_placement_changes_nothing(nodes, pod, typical):
    before = copy_of(nodes)
    candidates = list_candidates(nodes, pod, np.arange(len(nodes.allocatable)), PLENTY)
    table(nodes, pod, candidates, typical)
    for array, original in zip(nodes, before, strict=True):
        assert array.tolist() == original.tolist()


@given(clusters(), pods(), typical_pods())
def test_features_are_finite_and_shares_lie_between_none_and_all(nodes, pod, typical):
    candidates = list_candidates(nodes, pod, np.arange(len(nodes.allocatable)), PLENTY)
    seen = table(nodes, pod, candidates, typical)
    assert np.all(np.isfinite(seen))
    change = feature_names(RESOURCES).index("node/fragmentation-change")
    assert np.all(np.abs(np.delete(seen, change, axis=1)) <= 1.0)


@given(clusters(models=2), pods(), typical_pods(models=2))
def test_a_candidate_described_alone_looks_as_it_does_among_others(nodes, pod, typical):
    tables = fragmentation_tables(typical)
    candidates = list_candidates(nodes, pod, np.arange(len(nodes.allocatable)), PLENTY)
    together = placement_features(nodes, pod, candidates, tables)
    after = np.empty(nodes.device_free.shape[1], np.int64)
    alone = np.empty(together.shape[1], np.float32)
    for row, device, seen in zip(candidates.rows.tolist(), candidates.devices.tolist(), together, strict=True):
        describe(nodes, pod, Candidates(row, device), tables, after, alone)
        assert alone.tolist() == seen.tolist()


def test_a_candidates_features_lie_next_to_each_other():
    # The network reads rows; a transposed view would be copied at every call.
    assert table(cluster_of(TWO_DEVICES), pod_of(1000), candidates_of((0, ANY_DEVICE), (0, 1))).flags["C_CONTIGUOUS"]


def test_what_the_nodes_gpu_model_makes_useless_counts_as_fragmentation():
    nodes = cluster_of(Node(8000, GIB, (1000,), model=0), Node(8000, GIB, (1000,), model=1))
    for_the_second_model = typical_of((1000, 1, 1000, 1.0), admits=[[False, True]])
    at = feature_names(RESOURCES).index("node/fragmentation-before")
    seen = table(nodes, pod_of(1000), candidates_of((0, ANY_DEVICE), (1, ANY_DEVICE)), for_the_second_model)
    assert seen[:, at].tolist() == [1 / 8, 0.0]


def test_the_free_share_is_none_where_nothing_is_or_too_much_is_requested():
    assert free_fraction(np.array([4, 0, 4]), np.array([1, 0, 5])).tolist() == [0.75, 0.0, 0.0]


def test_imbalance_is_the_deviation_of_the_used_shares_of_the_resources_a_node_has():
    nodes = empty_nodes(np.array([[8, 8, 0], [8, 8, 8], [8, 8, 8], [0, 0, 0]]), np.zeros(4, np.int64))
    nodes.requested[:] = [[2, 6, 0], [4, 4, 4], [80, 0, 0], [0, 0, 0]]
    pod = pod_request(np.array([2, 1, 0]))
    assert imbalance(nodes, pod, np.arange(4), 0) == pytest.approx([0.25, 0.0, np.std([1, 0, 0]), 0.0], abs=1e-7)
    with_the_pod = [1.5 / 8, np.std([6 / 8, 5 / 8, 4 / 8]), np.std([1, 1 / 8, 0]), 0.0]
    assert imbalance(nodes, pod, np.arange(4), 1) == pytest.approx(with_the_pod, abs=1e-7)
