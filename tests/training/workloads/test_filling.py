from dataclasses import replace

import numpy as np
import pytest

from extender.placement import GPU
from training.workloads.filling import ARRIVED_DEMAND, filling_workload
from training.workloads.synthetic import generate_population


@pytest.fixture(scope="module")
def population():
    return generate_population(np.random.default_rng(0))


def test_pods_arrive_until_more_is_wanted_than_there_is_and_none_leaves(population):
    workload = filling_workload(population, 40, np.random.default_rng(1))
    demand = workload.shapes.request[workload.shape, GPU]
    capacity = workload.allocatable[:, GPU].sum()
    assert demand[:-1].sum() < ARRIVED_DEMAND * capacity <= demand.sum()
    assert np.isinf(workload.duration).all()
    assert workload.arrival.tolist() == list(range(len(workload)))


def test_every_pod_fits_on_a_node_that_is_empty(population):
    workload = filling_workload(population, 3, np.random.default_rng(2))
    fitting = workload.shapes.fitting_somewhere(workload.allocatable, workload.devices, workload.admits)
    assert fitting[workload.shape].all()


def test_the_same_seed_draws_the_same_and_another_another(population):
    first, same, other = (filling_workload(population, 20, np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert first.shape.tolist() == same.shape.tolist() != other.shape.tolist()


def test_without_gpus_there_is_nothing_to_pack(population):
    allocatable = population.allocatable.copy()
    allocatable[:, GPU] = 0
    without = replace(population, allocatable=allocatable, devices=np.zeros_like(population.devices))
    with pytest.raises(ValueError, match="nothing to pack: no GPU on the 5 nodes"):
        filling_workload(without, 5, np.random.default_rng(0))
