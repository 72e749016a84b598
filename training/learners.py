"""The learner that a configuration asks for."""

from pathlib import Path

import torch
from rich.console import Console
from torch import nn

from extender.features import feature_count
from extender.policies.base import PolicyError
from extender.policies.onnx import load_policy
from training.algorithms import dqn, es, ppo, sac
from training.algorithms.learner import Learner
from training.config import Config, ConfigError
from training.env import workload_source
from training.held_out import HeldOut
from training.networks import score_network
from training.objectives import QueueingObjective
from training.packing import Fills, PackingObjective, start
from training.progress import track
from training.randomisation import WorkloadSource
from training.starting import StartError, network_of
from training.value_network import ValueNetwork
from training.vecenv import BatchedVecEnv
from training.workloads.base import Population


def build(config: Config, population: Population, console: Console) -> tuple[Learner, HeldOut | None]:
    """The learner at its start, and the episodes to choose its best network by; None if it does that itself."""
    source = workload_source(config.env, population, config.workload, config.seed)
    if isinstance(config.algorithm, es.ESArguments):
        return build_search(config, config.algorithm, population, source, console), None
    env = BatchedVecEnv(
        config.env, source, config.algorithm.discount, config.seed, stagger=True, scheduler=config.scheduler
    )
    builders = {"ppo": ppo.build, "dqn": dqn.build, "sac": sac.build}
    learner = builders[config.algorithm.name](config.algorithm, config.network, env, config.seed)
    return learner, HeldOut(config.env, source, config.scheduler, config.seed, config.training.held_out_episodes)


def network_to_start_from(policy_file: str) -> ValueNetwork:
    """The network in the policy file that `training.start` names.

    Raises:
        ConfigError: it holds no policy, or none that a search can begin at.
    """
    try:
        return network_of(load_policy(Path(policy_file)))
    except (StartError, PolicyError) as error:
        raise ConfigError(f"training.start={policy_file}: {error}") from error


def build_search(
    config: Config, arguments: es.ESArguments, population: Population, source: WorkloadSource, console: Console
) -> es.EvolutionLearner:
    """Evolution strategies on what the goal asks for."""
    torch.manual_seed(config.seed)
    between, launcher = config.timesteps_between_updates, config.training.launcher
    if config.training.start:
        network: nn.Module = network_to_start_from(config.training.start)
        console.print(f"beginning at {config.training.start}", highlight=False, soft_wrap=True)
    elif config.network.kind == "embedding":
        network = score_network(feature_count(len(population.resources)), config.network)
    else:
        network = ValueNetwork(config.network.degrees, config.network.adapts, config.goal)
    if config.goal == "packing":
        assert isinstance(network, ValueNetwork)
        fills = Fills(population, config.env, config.seed)
        workloads = min(config.packing.workloads, config.env.remixes) or 1
        with track(console, "estimating the values of nodes", workloads) as tracker:
            start(network, fills, config.packing, config.env.remixes, config.seed, tracker.update)
        objective = PackingObjective(network, fills)
        return es.EvolutionLearner(arguments, network, objective, between, config.seed, launcher=launcher)
    waiting = QueueingObjective(network, population, source, config.env, config.scheduler, arguments.wait_floor_seconds)
    return es.EvolutionLearner(
        arguments,
        network,
        waiting,
        between,
        config.seed,
        waiting.mean_wait_seconds,
        launcher=launcher,
        keeps_start=bool(config.training.start),
    )
