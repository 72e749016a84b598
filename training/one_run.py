"""One run from its configuration to a judged policy: train, export, evaluate, report, ask.

`training.run` makes one of a command line, a sweep and a comparison many; all of them come here.
"""

import math
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from omegaconf import OmegaConf
from rich.console import Console
from torch import nn

from extender.policies.onnx import FeatureHistogram
from extender.profile import weights_of
from training import checkpoint
from training.algorithms.es import EvolutionLearner
from training.algorithms.learner import Learner
from training.command_line import CONFIG_FILE
from training.config import Config, ConfigError
from training.evaluation.curve import CurvePoint
from training.export import export_policy
from training.judging import EVALUATION_FILE, REPORT_FILE, ask, judge
from training.learners import build, network_to_start_from
from training.progress import track
from training.randomisation import workload_source
from training.recorder import CURVE_FILE, Recorder
from training.simulator.ahead import compiling_ahead
from training.tracking import Tracked, check_tracking, tracked
from training.workloads.base import Population, typical_pods
from training.workloads.distribution import features_of_workloads, histograms
from training.workloads.selection import load_population
from training.workloads.tables import TraceError

POLICY_FILE = "policy.onnx"
PODS_COUNTED = 10_000  # to say how the pods of a training are distributed


@dataclass(frozen=True)
class Trained:
    """What a training led to.

    Attributes:
        network: what is exported.
        timesteps: decisions taken.
        held_out_return: of the network that is exported, in the episodes by which it was chosen.
        exported: which network that is, in words.
        curve: the learning curve.
    """

    network: nn.Module
    timesteps: int
    held_out_return: float
    exported: str
    curve: list[CurvePoint]


def population_of(config: Config) -> Population:
    """The workload of a run, after all has been looked at that can be refused before there is anything of the run.

    Raises:
        ConfigError: the configuration does not suit the workload, or names what is not there.
        TraceError: the workload is missing or unreadable.
    """
    try:
        population = load_population(config.workload, config.env.num_resources, leaving=config.goal == "waiting")
    except TraceError:
        raise
    except ValueError as error:
        raise ConfigError(str(error)) from error
    try:
        weights_of(config.scheduler.scoring, population.resources)
    except ValueError as error:
        raise ConfigError(f"scheduler.scoring.{error}") from error
    if config.training.start:
        network_to_start_from(config.training.start)
    check_tracking(config)
    return population


def carry_out(
    config: Config, folder: Path, console: Console, *, ahead: bool = True, population: Population | None = None
) -> float:
    """The whole way, in this folder.

    Args:
        config: of the run.
        folder: where everything of it goes; with `training.resume`, where it comes from.
        console: progress, tables and what the extender answers.
        ahead: compile what the evaluation needs in a process beside the training.
        population: what `population_of` gave, where it was asked before.

    Returns:
        return of the exported policy in the held-out episodes, by which runs can be compared before they are judged.

    Raises:
        ConfigError, TraceError: as `population_of`; nothing was written.
        CheckpointError: the run that is resumed was made with other settings.
    """
    if population is None:
        population = population_of(config)
    folder.mkdir(parents=True, exist_ok=True)
    console.print(f"workload: {population.name}", highlight=False, soft_wrap=True)
    if not config.training.resume:
        OmegaConf.save(OmegaConf.create(asdict(config)), folder / CONFIG_FILE)
    with tracked(config, folder) as tracking:
        with compiling_ahead() if ahead else nullcontext():
            trained = train(config, population, folder, tracking, console)
        policy_file = folder / POLICY_FILE
        export_policy(
            trained.network,
            policy_file,
            resources=population.resources,
            typical=typical_pods(population.shapes, population.shape),
            models=population.models,
            algorithm=config.algorithm.name,
            config_digest=config.digest(),
            workload=population.name,
            trained_on=pods_of_training(config, population),
        )
        console.print(
            f"exported {policy_file}, {policy_file.stat().st_size:,} bytes: {trained.exported}",
            highlight=False,
            soft_wrap=True,
        )
        facts = {
            "Trained with": f"{config.algorithm.name}, {config.training.total_timesteps:,} decisions on clusters of "
            f"{config.env.nodes} nodes, seed {config.seed}",
            "Exported": trained.exported,
        }
        policy, figures = judge(config, population, policy_file, trained.curve, facts, console)
        left = [CONFIG_FILE, CURVE_FILE, POLICY_FILE, EVALUATION_FILE, REPORT_FILE]
        tracking.finished(figures, [folder / name for name in left if (folder / name).is_file()], trained.timesteps)
    if config.ask:
        ask(config, population, policy_file, policy, console)
    return trained.held_out_return


def pods_of_training(config: Config, population: Population) -> dict[str, FeatureHistogram]:
    """How the pods of this training are distributed: those of some of its episodes, drawn once more."""
    source = workload_source(config.env, population, config.workload, config.seed)
    generator = np.random.default_rng([config.seed, *b"distribution"])
    drawn = [source(generator) for _ in range(math.ceil(PODS_COUNTED / config.env.pods))]
    return histograms(features_of_workloads(drawn, timed=config.goal == "waiting"))


def train(config: Config, population: Population, folder: Path, tracking: Tracked, console: Console) -> Trained:
    """Train from the start, or from the checkpoint in the folder."""
    torch.set_num_threads(config.training.threads)
    learner, held_out = build(config, population, console)
    learner.logger = tracking.logger
    progress = None
    if config.training.resume:
        state, progress = checkpoint.read(folder, config.digest(), population.name)
        learner.restore(state)
        console.print(f"resuming at {learner.timesteps:,} steps", highlight=False)
    interval = config.timesteps_between_updates
    total = math.ceil(config.training.total_timesteps / interval) * interval  # learning stops between updates
    with track(console, f"training {config.algorithm.name}", total, learner.timesteps) as tracker:
        recorder = Recorder(config, folder, learner, population.name, tracker, held_out)
        if progress is not None:
            recorder.restore(progress)
        learner.train(total, recorder)
        tracker.update(total)
    recorder.finish()
    return _chosen(config, folder, learner, recorder)


def _chosen(config: Config, folder: Path, learner: Learner, recorder: Recorder) -> Trained:
    network, timesteps, curve = learner.network, learner.timesteps, recorder.curve
    if isinstance(learner, EvolutionLearner):  # its network is the best already
        fitness = learner.best_fitness
        checkpoint.save_best(folder, timesteps, {"held_out_return": fitness}, network.state_dict(), config.digest())
        return Trained(network, timesteps, fitness, f"the best of the search (held-out fitness {fitness:.4g})", curve)
    best = recorder.best
    assert best is not None  # the recorder looks at the last network at the latest
    last = curve[-1]
    seconds = f"held-out mean wait {best.look.mean_wait_seconds:.1f} s; {last.held_out_wait_seconds:.1f} s of the last"
    if config.training.export == "last":
        said = f"the last network ({last.held_out_wait_seconds:.1f} s of held-out mean wait)"
        return Trained(network, timesteps, last.held_out_return, said, curve)
    network.load_state_dict(best.weights)
    return Trained(
        network, timesteps, best.look.gain, f"the best network, after {best.timesteps:,} steps ({seconds})", curve
    )
