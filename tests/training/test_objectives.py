import numpy as np
import pytest
import torch
from torch import nn

from extender.policies.onnx import load_policy
from training.export import export_policy
from training.objectives import QueueingObjective
from training.randomisation import EnvArguments, workload_source
from training.simulator.scheduling import SchedulerArguments, play
from training.value_network import ValueNetwork
from training.workloads.base import typical_pods
from training.workloads.selection import WorkloadArguments
from training.workloads.synthetic import generate_population

ENV = EnvArguments(nodes=16, pods=400, lowest_load=0.9, highest_load=1.1)
SCHEDULER = SchedulerArguments()


@pytest.fixture(scope="module")
def population():
    return generate_population(np.random.default_rng(0))


def objective(network: nn.Module, population, floor: float) -> QueueingObjective:
    source = workload_source(ENV, population, WorkloadArguments())
    return QueueingObjective(network, population, source, ENV, SCHEDULER, floor)


def random_network(seed: int) -> ValueNetwork:
    network = ValueNetwork(degrees=1, goal="waiting")
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for values in network.parameters():
            values.add_(0.3 * torch.randn(values.shape, generator=generator))
    return network


def vector_of(network: nn.Module) -> np.ndarray:
    return nn.utils.parameters_to_vector(network.parameters()).detach().numpy().copy()


@pytest.mark.parametrize("floor", [0.0, 2.0])
def test_what_is_searched_waits_as_the_file_that_is_exported(tmp_path, population, floor):
    networks = [random_network(seed) for seed in (1, 2)]
    climbed = objective(ValueNetwork(degrees=1, goal="waiting"), population, floor)
    fitness = climbed(np.stack([vector_of(network) for network in networks]), [5])
    workload = workload_source(ENV, population, WorkloadArguments())(np.random.default_rng(5))
    for network, found in zip(networks, fitness.tolist(), strict=True):
        export_policy(
            network,
            tmp_path / "policy.onnx",
            resources=population.resources,
            typical=typical_pods(population.shapes, population.shape),
            models=population.models,
            algorithm="es",
            config_digest="",
            workload="",
        )
        outcome = play(workload, load_policy(tmp_path / "policy.onnx"), SCHEDULER, 5)
        assert climbed.mean_wait_seconds(found) == pytest.approx(outcome.waited.mean(), rel=1e-6)
        assert outcome.waited.mean() > 1.0
    assert fitness[0] != fitness[1]


def test_with_a_logarithm_quiet_and_busy_episodes_count_alike(population):
    network = ValueNetwork(degrees=1, goal="waiting")
    plain, logarithmic = objective(network, population, 0.0), objective(network, population, 2.0)
    parameters = vector_of(network)[None]
    waits = np.array([plain.mean_wait_seconds(float(plain(parameters, [seed])[0])) for seed in (5, 6, 7)])
    wanted = -np.mean(np.log(waits + 2.0))
    assert logarithmic(parameters, [5, 6, 7])[0] == pytest.approx(wanted, rel=1e-6)
