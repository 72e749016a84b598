from pathlib import Path

import pytest
import torch
from rich.console import Console

from extender.policies.bundled import policy_path
from extender.policies.onnx import OnnxPolicy, load_policy
from tests.policy_files import policy_file
from training.algorithms.es import EvolutionLearner
from training.command_line import checked
from training.config import ConfigError, register
from training.learners import build
from training.starting import StartError, network_of
from training.workloads.selection import load_population

SMALL = ("experiment=cycle", "workload.source=synthetic", "env.nodes=8", "env.nodes_lowest=8", "env.pods=100")


@pytest.mark.parametrize("name", ["latency", "packing"])
def test_the_network_of_a_policy_file_is_read_back(name: str) -> None:
    network = network_of(load_policy(policy_path(f"bundled:{name}")))
    assert (network.degrees, network.adapts) == {"latency": (1, False), "packing": (3, True)}[name]
    assert any(values.abs().max() > 0 for values in network.parameters() if values.numel())


def test_another_kind_of_network_is_refused() -> None:
    with pytest.raises(StartError, match="weighing network only"):
        network_of(OnnxPolicy("other", policy_file()))


def test_a_search_begins_at_the_policy() -> None:
    register()
    start = policy_path("bundled:latency")
    config = checked([*SMALL, f"training.start={start}"])
    learner, _ = build(config, load_population(config.workload, 3), Console(quiet=True))
    assert isinstance(learner, EvolutionLearner)
    wanted = torch.nn.utils.parameters_to_vector(network_of(load_policy(start)).parameters())
    torch.testing.assert_close(torch.from_numpy(learner.strategy.mean), wanted.detach())


def test_a_start_that_cannot_be_is_refused(tmp_path: Path) -> None:
    register()
    with pytest.raises(ConfigError, match=r"training\.start is for algorithm=es"):
        checked(["algorithm=ppo", "training.start=policy.onnx"])
    config = checked([*SMALL, f"training.start={tmp_path / 'none.onnx'}"])
    with pytest.raises(ConfigError, match=r"none\.onnx"):
        build(config, load_population(config.workload, 3), Console(quiet=True))
