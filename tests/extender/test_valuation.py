import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from extender.fragmentation import fragmentation_tables
from extender.placement import ANY_DEVICE, Candidates, NodeArrays, PodRequest
from extender.valuation import (
    COLUMNS,
    FULLNESS_STEPS,
    HOSTING_TERMS,
    LEVEL_TERMS,
    NODE_TERMS,
    POD_KINDS,
    TERMS,
    cpu_share,
    fullness,
    valuation_columns,
    workload_profile,
)
from tests.clusters import GIB, Node, cluster_of, clusters, copy_of, pod_of, pods, typical_of, typical_pods

# A pod with GPU wants 4,000 milli of CPU beside a device on average.
USUAL = typical_of((2000, 1, 500, 0.5), (8000, 2, 1000, 0.25), (6000, 0, 0, 0.25))
NODE = Node(16000, 64 * GIB, (1000, 400), cpu_used=8000, memory_used=16 * GIB)
EMPTY = Node(8000, 64 * GIB, (1000, 1000))


def valued(nodes: NodeArrays, pod: PodRequest, row: int, device: int = ANY_DEVICE, typical=USUAL) -> dict[str, float]:
    columns = valuation_columns(
        nodes, pod, Candidates(np.array([row]), np.array([device])), fragmentation_tables(typical),
        workload_profile(typical, nodes),
    )  # fmt: skip
    return dict(zip(COLUMNS, columns[0].tolist(), strict=True))


def test_a_placement_is_told_by_what_it_changes_and_leaves():
    seen = valued(cluster_of(NODE, EMPTY), pod_of(4000, 8 * GIB, 1, 500), 0, device=0)
    # Demand: 0.25 + 0.5 devices and 1000 + 2000 milli of CPU beside them a pod, so 4000 a device.
    wanted = {
        "order": 0.0,
        "stranded-gpu-change": 0.0,  # 8000 milli feed two devices of 1.4 that are free, then 4000 feed one of 0.9
        "stranded-cpu-change": ((1.0 - 0.9) - (2.0 - 1.4)) / 8,
        "devices": 2 / 8,
        "whole-devices-after": 0.0,
        "gpu-used-after": 1 - 0.9 / 2,
        "cpu-beside-gpu-before": 8000 / (8000 + 5600),
        "cpu-beside-gpu-after": 4000 / (4000 + 3600),
        "empty-before": 0.0,
        "cpu-free-after": 0.25,
        "memory-free-after": 0.625,
        "model-pressure": 0.0,
        "devices-opened": 1 / 8,
        "device-left": 0.5,
        "cpu-left": 4000 / 16000,
        "gpu-left": 0.9 / 2,
        "waste-change": 0.0,  # halves fill both a whole device and what is left of it
        "fragmentation-change": fragmentation_by_hand(0.5, 0.4) - fragmentation_by_hand(1.0, 0.4),
    }
    assert {name: seen[name] for name in wanted} == pytest.approx(wanted, abs=1e-6)


def test_hosting_counts_the_whole_devices_that_a_node_has_cpu_for():
    # Pods of two devices want 4000 milli a device: of three, 8000 feed two, and of two, 6000 feed one and a half.
    seen = valued(cluster_of(Node(8000, GIB, (1000, 1000, 1000))), pod_of(2000, 0, 1, 500), 0, device=0)
    assert [seen[name] for name in HOSTING_TERMS[:4]] == pytest.approx([0.0, 0.5 - 1.0, 0.0, 0.0])
    seen = valued(cluster_of(Node(80000, GIB, (1000, 1000, 1000))), pod_of(2000, 0, 1, 500), 0, device=0)
    assert [seen[name] for name in HOSTING_TERMS[:4]] == pytest.approx([0.0, 0.0, -1.0, 0.0])


def fragmentation_by_hand(first: float, second: float) -> float:
    """Half of the pods share a device and cannot use what is below 0.5; the others (two devices, none) use nothing."""
    return 0.5 * sum(part for part in (first, second) if part < 0.5) + 0.5 * (first + second)


def test_levels_are_counted_between_the_two_nearest_with_the_cpu_beside_them():
    seen = valued(cluster_of(EMPTY), pod_of(0, 0, 1, 750), 0, device=0)
    # 8000 milli beside two devices is half of what there is and is called for; beside 1.25 devices it is 8/13 of it.
    ample = (8 / 13 - 0.5) / 0.25
    counted = {name: value for name, value in seen.items() if name in LEVEL_TERMS and value}
    assert counted == pytest.approx(
        {
            "level-100%-cpu-fitting-change": (1 - ample) - 2,
            "level-100%-cpu-ample-change": ample,
            "level-20%-cpu-fitting-change": 0.5 * (1 - ample),
            "level-20%-cpu-ample-change": 0.5 * ample,
            "level-30%-cpu-fitting-change": 0.5 * (1 - ample),
            "level-30%-cpu-ample-change": 0.5 * ample,
        },
        abs=1e-6,
    )


def test_a_device_that_is_full_counts_at_no_level():
    seen = valued(cluster_of(Node(8000, GIB, (1000,))), pod_of(4000, 0, 1, 1000), 0)
    assert sum(seen[name] for name in LEVEL_TERMS) == pytest.approx(-1.0)


@pytest.mark.parametrize(
    ("pod", "kind"),
    [(pod_of(1000), 0), (pod_of(1000, 0, 1, 300), 1), (pod_of(1000, 0, 1, 1000), 2), (pod_of(1000, 0, 2, 1000), 3)],
)
def test_the_situation_names_the_kind_of_pod(pod, kind):
    seen = valued(cluster_of(EMPTY), pod, 0, device=0 if kind == 1 else ANY_DEVICE)
    assert [seen[name] for name in POD_KINDS] == [float(position == kind) for position in range(4)]


def test_fullness_doubles_its_resolution_as_the_cluster_fills():
    capacity = np.array([1000, 1, 100_000])
    used = [0, 15_000, 16_000, 50_000, 75_000, 96_000, 97_000, 100_000]
    steps = [fullness(np.array([0, 0, gpu]), capacity) for gpu in used]
    assert steps == [0, 0, 1, 4, 8, 18, 20, 20]
    assert fullness(np.array([500, 0, 0]), np.array([1000, 1, 0])) == 4  # without GPUs it is the CPU that counts
    assert fullness(np.array([0, 0, 0]), np.array([0, 0, 0])) < FULLNESS_STEPS


def test_the_profile_says_what_the_workload_usually_brings():
    profile = workload_profile(USUAL, cluster_of(NODE, EMPTY))
    # 24,000 milli for 4 devices are offered: 6000 a device; 4500 milli for 0.75 devices are wanted by a pod, 6000 too.
    assert profile.cpu_per_device.tolist() == pytest.approx([4000.0])
    assert profile.shares.tolist() == pytest.approx([0.5, 0.25 / 0.75, 0.5 / 0.75, 0.0, 0.5])
    assert profile.waste[[1000, 900, 500, 400]].tolist() == [0.0, 400.0, 0.0, 400.0]


def test_a_model_that_pods_insist_on_is_under_pressure():
    nodes = cluster_of(EMPTY._replace(model=1), EMPTY._replace(model=2), EMPTY._replace(model=2))
    typical = typical_of((1000, 1, 1000, 0.25), (1000, 1, 1000, 0.75), admits=[[False, True, False], [True] * 3])
    profile = workload_profile(typical, nodes)
    assert profile.pressure.tolist() == pytest.approx([0.0, 0.25 / (1 / 3), 0.0])
    assert profile.shares[3] == pytest.approx(0.25)


def test_a_workload_without_gpus_has_a_profile():
    profile = workload_profile(typical_of((1000, 0, 0, 1.0)), cluster_of(Node(4000, GIB)))
    assert np.isfinite(profile.shares).all()
    assert np.isfinite(list(valued(cluster_of(Node(4000, GIB)), pod_of(1000), 0).values())).all()


@given(clusters(models=2), pods(), typical_pods(models=2), st.integers(0, 2**32 - 1))
def test_columns_are_finite_and_a_candidate_is_valued_by_itself(nodes, pod, typical, seed):
    generator = np.random.default_rng(seed)
    rows = generator.integers(len(nodes.allocatable), size=4)
    candidates = Candidates(rows, generator.integers(nodes.device_free.shape[1], size=4))
    before = copy_of(nodes)
    tables, profile = fragmentation_tables(typical), workload_profile(typical, nodes)
    together = valuation_columns(nodes, pod, candidates, tables, profile)
    assert together.shape == (4, len(COLUMNS))
    assert np.isfinite(together).all()
    for index in range(4):
        alone = Candidates(candidates.rows[index : index + 1], candidates.devices[index : index + 1])
        np.testing.assert_array_equal(valuation_columns(nodes, pod, alone, tables, profile)[0], together[index])
    for given_array, array in zip(before, nodes, strict=True):
        np.testing.assert_array_equal(given_array, array)


def test_cpu_share_is_a_half_where_cpu_and_devices_fit():
    assert cpu_share(np.array([4000, 12000, 0, -5]), np.array([1000, 1000, 0, 1000]), 4000.0).tolist() == [
        0.5, 0.75, 0.0, 0.0,
    ]  # fmt: skip


def test_terms_have_names_of_their_own():
    assert len(set(COLUMNS)) == len(COLUMNS) == len(NODE_TERMS) + len(LEVEL_TERMS) + len(HOSTING_TERMS) + 10
    assert COLUMNS[: len(TERMS)] == TERMS
