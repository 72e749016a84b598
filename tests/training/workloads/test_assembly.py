import numpy as np
import pytest

from extender.placement import DEFAULT_CPU_MILLI, DEFAULT_MEMORY_BYTES, GPU
from tests.training.populations import EVEN, MIB, population_of
from training.workloads.assembly import PODS_PER_NODE, NodeColumns, NodePrices, PodColumns, assemble, columns_of_nodes
from training.workloads.base import Population

GIB = 1024 * MIB


def test_pods_with_equal_requests_share_a_shape():
    population = population_of([(8000, 64, 2)], [(2000, 5, 2, 1000), (1000, 7, 0, 0), (2000, 5, 2, 1000)])
    shapes, shape = population.shapes, population.shape
    assert len(shapes) == 2
    assert shapes.request[shape].tolist() == [[2000, 5 * MIB, 2000], [1000, 7 * MIB, 0], [2000, 5 * MIB, 2000]]
    assert shapes.gpu_count[shape].tolist() == [2, 0, 2]


def test_pods_that_may_run_in_different_places_have_different_shapes():
    population = population_of(
        [(8000, 64, 0), (8000, 64, 0)],
        [(1000, 1, 0, 0)] * 3,
        constraints=np.array([0, 1, 0]),
        admitted=np.array([[True, False], [True, True]]),
    )
    assert population.admits[population.shape].tolist() == [[True, False], [True, True], [True, False]]


def test_nodes_are_in_base_units():
    nodes = columns_of_nodes([(96000, 3, 8)], MIB)
    assert nodes.allocatable.tolist() == [[96000, 3 * MIB, 8000]]
    assert nodes.devices.tolist() == [8]
    assert nodes.allocatable[0, GPU] == 1000 * nodes.devices[0]


def test_a_container_without_requests_counts_in_scores_as_kube_scheduler_counts_it():
    population = population_of([(8000, 64, 0)], [(0, 0, 0, 0), (300, 5, 0, 0)])
    expected = [[DEFAULT_CPU_MILLI, DEFAULT_MEMORY_BYTES], [300, 5 * MIB]]
    assert population.shapes.nonzero[population.shape].tolist() == expected


def models_of(admitted: list[bool], models: list[str]) -> dict[str, bool]:
    population = population_of(
        [(8000, 64, 1)] * len(models), [(1000, 1, 1, 1000)], models=models, admitted=np.array([admitted])
    )
    return dict(zip(population.models, population.shapes.models[0].tolist(), strict=True))


@pytest.mark.parametrize(
    ("admitted", "models", "expected"),
    [
        ([True, True], ["T4", "A10"], {"": True, "T4": True, "A10": True}),
        ([True, False], ["T4", "A10"], {"": False, "T4": True, "A10": False}),
        ([False, False], ["T4", "A10"], {"": False, "T4": False, "A10": False}),
        ([True, False], ["", "T4"], {"": True, "T4": False}),
        ([True], [""], {"": True}),
        ([False], [""], {"": False}),
    ],
)
def test_a_shape_admits_the_models_of_the_nodes_that_it_admits(admitted, models, expected):
    assert models_of(admitted, models) == expected


def priced(price: np.ndarray | None, prices: NodePrices | None = None) -> Population:
    """A node of 4 cores, 16 GiB and 2 GPUs, and one of 1 core and 1 GiB."""
    nodes = NodeColumns(np.array([[4000, 16 * GIB, 2000], [1000, GIB, 0]]), np.array([2, 0]), price=price)
    none = np.zeros(1, np.int64)
    pods = PodColumns(np.array([[1000, GIB, 0]]), none, none, duration=np.ones(1), priority=none)
    return assemble("priced", nodes, pods, rhythm=EVEN, prices=prices)


def test_a_node_costs_what_its_parts_cost():
    prices = NodePrices(core_hour=1.0, gib_hour=0.5, gpu_hour=10.0)
    assert priced(None, prices).price.tolist() == [4 + 8 + 20, 1.5]


def test_a_price_of_its_own_comes_before_the_parts():
    prices = NodePrices(core_hour=1.0, gib_hour=0.5, gpu_hour=10.0)
    assert priced(np.array([np.nan, 7.0]), prices).price.tolist() == [32.0, 7.0]


def test_a_node_takes_as_many_pods_as_kubelet_does_by_default():
    assert priced(None).pod_limit.tolist() == [PODS_PER_NODE, PODS_PER_NODE]
