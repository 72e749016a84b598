import pickle
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from training.packing import Fills, PackingArguments, PackingObjective, fill, start
from training.randomisation import EnvArguments
from training.value_network import ValueNetwork
from training.workloads.synthetic import generate_population

ENV = EnvArguments(nodes=20, remixes=3)


@pytest.fixture(scope="module")
def population():
    return generate_population(np.random.default_rng(0))


def test_a_seed_names_a_workload_wherever_it_is_drawn(population):
    fills = Fills(population, ENV, seed=5)
    first = fills(17)
    again, elsewhere = fills(17), pickle.loads(pickle.dumps(fills))(17)
    for workload in (again, elsewhere):
        np.testing.assert_array_equal(workload.shape, first.shape)
        np.testing.assert_array_equal(workload.allocatable, first.allocatable)
    assert len({fills(seed).typical.cpu.tobytes() for seed in range(20)}) > 1  # not always the same remix


def test_clusters_are_of_any_size_between_the_bounds(population):
    fills = Fills(population, replace(ENV, nodes=30, nodes_lowest=10), seed=0)
    sizes = {len(fills(seed).allocatable) for seed in range(30)}
    assert min(sizes) >= 10
    assert max(sizes) <= 30
    assert len(sizes) > 5


def test_fitness_is_the_mean_allocation_of_each_network(population):
    fills, network = Fills(population, ENV, seed=0), ValueNetwork()
    untrained = nn.utils.parameters_to_vector(network.parameters()).detach().numpy().copy()
    contrary = -untrained
    fitness = PackingObjective(ValueNetwork(), fills)(np.stack([untrained, contrary]), [3, 4])
    for parameters, found in zip((untrained, contrary), fitness, strict=True):
        nn.utils.vector_to_parameters(torch.from_numpy(parameters), network.parameters())
        assert found == pytest.approx(np.mean([fill(fills(seed), network) for seed in (3, 4)]))
    assert fitness[0] != fitness[1]
    assert 0.0 < fitness.min() < fitness.max() <= 100.0


def test_the_search_starts_from_what_parts_of_devices_are_worth(population):
    reported: list[int] = []
    fills = Fills(population, ENV, seed=0)
    arguments = PackingArguments(rounds=2, episodes=2, workloads=2)
    network, same = ValueNetwork(), ValueNetwork()
    start(network, fills, arguments, ENV.remixes, 0, reported.append)
    assert reported == [1, 2]
    assert float(network.estimated[:, 0].max()) <= 1e-6  # waste weighs against a placement
    assert float(network.estimated[:, 0].min()) < -0.1
    start(same, Fills(population, ENV, seed=0), arguments, ENV.remixes, 0, reported.append)
    torch.testing.assert_close(same.estimated, network.estimated, rtol=0, atol=0)
