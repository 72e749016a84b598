import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from extender.fragmentation import TypicalPods, fragmentation, fragmentation_tables
from tests.clusters import clusters, typical_of, typical_pods

MODELS = 3
USUAL = typical_of((4000, 1, 500, 0.5), (4000, 2, 1000, 0.25), (2000, 0, 0, 0.25))

device_parts = st.lists(st.sampled_from((-1, 0, 100, 250, 300, 500, 700, 1000)), min_size=1, max_size=5)


def slow_fragmentation(model: int, cpu_free: int, device_free: list[int], typical: TypicalPods) -> float:
    """FGD's definition, one device and one typical pod at a time."""
    parts = [part for part in device_free if part > 0]
    expected = 0.0
    for cpu, count, milli, share, admits in zip(*typical, strict=True):
        large_enough = sum(1 for part in parts if part >= milli)
        if count == 0 or not admits[model] or large_enough < count or cpu_free < cpu:
            expected += share * sum(parts)
        else:
            expected += share * sum(part for part in parts if part < milli)
    return expected


def test_fragmentation_by_hand():
    # Free devices 1000 and 400. Sharing pods (half) could use the 1000: 400 is wasted on them. Pods with two devices
    # (a quarter) and pods without (a quarter) cannot use any: 1400 each. 0.5 * 400 + 0.5 * 1400 = 900.
    # With 500 of the first device taken: 0.5 * 400 + 0.5 * 900 = 650.
    # With too little CPU for a sharing pod nothing of the 900 can be used.
    free = np.array([[1000, 500, 500], [400, 400, 400]])
    wasted = fragmentation(fragmentation_tables(USUAL), np.zeros(3, np.int64), np.array([8000, 4000, 3999]), free)
    assert wasted == pytest.approx([900, 650, 900])


@given(device_parts, st.integers(-1, 6).map(lambda cores: cores * 500), typical_pods(models=MODELS))
def test_fragmentation_is_what_its_definition_says_for_every_gpu_model(device_free, cpu_free, typical):
    nodes = np.array([device_free] * MODELS).T
    wasted = fragmentation(fragmentation_tables(typical), np.arange(MODELS), np.full(MODELS, cpu_free), nodes)
    wanted = [slow_fragmentation(model, cpu_free, device_free, typical) for model in range(MODELS)]
    assert wasted == pytest.approx(wanted, abs=1e-6)


@given(clusters(models=2), typical_pods(models=2), st.randoms(use_true_random=False))
def test_the_order_of_the_typical_pods_does_not_matter(nodes, typical, random):
    order = list(range(len(typical.cpu)))
    random.shuffle(order)
    shuffled = TypicalPods(*(array[order] for array in typical))
    cpu_free = nodes.allocatable[:, 0] - nodes.requested[:, 0]
    one, other = (
        fragmentation(fragmentation_tables(pods), nodes.model, cpu_free, nodes.device_free.T)
        for pods in (typical, shuffled)
    )
    np.testing.assert_allclose(one, other)


@given(clusters(models=2), typical_pods(models=2))
def test_a_node_alone_is_as_fragmented_as_among_others(nodes, typical):
    tables = fragmentation_tables(typical)
    cpu_free = nodes.allocatable[:, 0] - nodes.requested[:, 0]
    together = fragmentation(tables, nodes.model, cpu_free, nodes.device_free.T)
    for row, wasted in enumerate(together):
        assert fragmentation(tables, int(nodes.model[row]), int(cpu_free[row]), nodes.device_free[row]) == wasted


@given(device_parts, st.integers(0, 6).map(lambda cores: cores * 500), typical_pods())
def test_no_more_is_useless_than_is_free(device_free, cpu_free, typical):
    [wasted] = fragmentation(
        fragmentation_tables(typical), np.zeros(1, np.int64), np.array([cpu_free]), np.array([device_free]).T
    )
    assert -1e-6 <= wasted <= sum(part for part in device_free if part > 0) + 1e-6


def test_what_only_pods_without_gpu_could_use_is_useless():
    tables = fragmentation_tables(typical_of((1000, 0, 0, 1.0)))
    assert fragmentation(tables, np.array([0]), np.array([8000]), np.array([[1000], [300]])).tolist() == [1300.0]


def test_typical_pods_of_one_size_share_a_group():
    tables = fragmentation_tables(typical_of((1, 1, 500, 0.25), (2, 1, 1000, 0.25), (3, 1, 500, 0.25), (4, 0, 0, 0.25)))
    assert (tables.level_milli[tables.group_level].tolist(), tables.group_count.tolist()) == ([500, 1000], [1, 1])
    assert tables.cpu_edges.tolist() == [1, 2, 3]
    assert tables.served[0].tolist() == [[0, 0], [0.25, 0], [0.25, 0.25], [0.5, 0.25]]
    assert tables.unserved[0].tolist() == [1.0, 0.75, 0.5, 0.25]
