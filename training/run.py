"""Train a policy, export it, judge it on held-back seeds, report, and ask a real extender for a ranking.

    python -m training.run algorithm=ppo env.num_resources=5 env.nodes=32 training.total_timesteps=200000 seed=7
    python -m training.run experiment=quickstart
    python -m training.run training.resume=runs/quickstart

Everything of a run is in `runs/<name>/`: config.yaml, checkpoint.pt, learning_curve.csv, tensorboard/, policy.onnx,
evaluation.json, report.html. Exit codes: 0 done, 1 failed, 2 the configuration was refused, 130 interrupted.
"""

import csv
import json
import math
import os
import sys
import time
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import asdict, astuple, fields
from pathlib import Path
from typing import Any

import hydra
import numpy as np
import torch
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from rich.console import Console
from stable_baselines3.common.logger import configure
from torch import nn

from extender.features import feature_count
from extender.policies.base import PolicyError
from extender.policies.onnx import OnnxPolicy, load_policy
from extender.profile import weights_of
from training import checkpoint
from training.algorithms import dqn, es, ppo, sac
from training.algorithms.learner import Episode, Learner
from training.ask import Answer, AskError, ask_extender
from training.config import (
    ALGORITHMS,
    DEFAULT_ALGORITHM,
    Config,
    ConfigError,
    describe,
    explain_unknown_key,
    register,
    validate,
)
from training.env import workload_source
from training.evaluation.filling import evaluate_filling
from training.evaluation.plots import CurvePoint
from training.evaluation.report import html_report, json_report, terminal_tables, write_whole
from training.evaluation.runner import Contender, Evaluation, evaluate, held_back_workload, rules
from training.export import add_evaluation, export_policy
from training.networks import score_network
from training.objectives import QueueingObjective
from training.packing import Fills, PackingObjective, start
from training.progress import Tracker, track
from training.randomisation import WorkloadSource
from training.simulator.ahead import compiling_ahead
from training.value_network import ValueNetwork
from training.vecenv import BatchedVecEnv
from training.workloads.base import Population, typical_pods
from training.workloads.openb import TraceError
from training.workloads.selection import load_population

RUNS = Path("runs")
RECENT_EPISODES = 100
CURVE_POINTS = 500  # at most so many, however often an algorithm updates
PLAIN_WIDTH = 120  # of tables where there is no terminal to ask
console = Console() if sys.stdout.isatty() else Console(width=PLAIN_WIDTH)


class Recorder:
    """Follows the training (`learner.Follower`): progress, learning curve, checkpoints."""

    def __init__(self, config: Config, folder: Path, learner: Learner, workload: str, tracker: Tracker) -> None:
        self.curve: list[CurvePoint] = []
        self._config, self._folder, self._learner = config, folder, learner
        self._workload, self._tracker = workload, tracker
        self._recent: deque[Episode] = deque(maxlen=RECENT_EPISODES)
        self._started = time.monotonic()
        self._saved: int | None = None

    def restore(self, progress: Mapping[str, Any]) -> None:
        """Go on with the curve of an interrupted run."""
        self.curve = [CurvePoint(int(steps), *figures) for steps, *figures in progress["curve"]]
        self._recent.extend(Episode(*figures) for figures in progress["recent"])
        self._started -= progress["seconds"]

    def between_updates(self) -> None:
        """Save a checkpoint if the next moment for it may be too late."""
        interval, next_moment = self._config.training.checkpoint_timesteps, self._config.timesteps_between_updates
        if self._saved is None or self._learner.timesteps + next_moment - self._saved > interval:
            self.save()

    def save(self) -> None:
        """Write a checkpoint of this moment, which has to be one between two updates."""
        progress = {
            "curve": [list(astuple(point)) for point in self.curve],
            "recent": [list(episode) for episode in self._recent],
            "seconds": self._seconds,
        }
        checkpoint.save(self._folder, self._learner.state(), progress, self._config.digest(), self._workload)
        self._saved = self._learner.timesteps

    def stepped(self, finished: Sequence[Episode]) -> None:
        """Show how it goes."""
        self._recent.extend(finished)
        gain = f"return {self._mean_return:.2f}, " if self._recent else ""
        timesteps = self._learner.timesteps
        self._tracker.update(timesteps, f"{gain}{timesteps / max(self._seconds, 1e-9):,.0f} steps/s")

    def collected(self) -> None:
        """Add a point to the curve, unless the last one is near."""
        timesteps, last = self._learner.timesteps, self.curve[-1].steps if self.curve else 0
        if not self._recent or timesteps - last < self._config.training.total_timesteps / CURVE_POINTS:
            return
        wait = float(np.mean([episode.mean_wait_seconds for episode in self._recent]))
        self.curve.append(CurvePoint(timesteps, self._seconds, self._mean_return, wait))
        logger = self._learner.logger
        logger.record("rollout/mean_return", self._mean_return)
        logger.record("rollout/mean_wait_seconds", wait)
        logger.record("time/steps_per_second", timesteps / max(self._seconds, 1e-9))
        logger.dump(timesteps)
        write_curve(self._folder / "learning_curve.csv", self.curve)

    @property
    def _mean_return(self) -> float:
        return float(np.mean([episode.gain for episode in self._recent]))

    @property
    def _seconds(self) -> float:
        return time.monotonic() - self._started


def write_curve(path: Path, curve: list[CurvePoint]) -> None:
    """Write the learning curve as CSV; the file appears whole or not at all."""
    partial = path.with_suffix(".partial")
    with partial.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(entry.name for entry in fields(CurvePoint))
        writer.writerows(astuple(point) for point in curve)
    partial.replace(path)


def run_folder(config: Config) -> Path:
    """The folder of the run: the one that is resumed, or a new one; an older run of this name is kept aside."""
    if config.training.resume:
        return Path(config.training.resume)
    folder = RUNS / config.run_name
    if folder.exists():
        number = 1
        while (kept := folder.with_name(f"{folder.name}.{number}")).exists():
            number += 1
        folder.rename(kept)
        console.print(f"{folder} exists and is kept as {kept}", highlight=False)
    folder.mkdir(parents=True)
    return folder


def build(config: Config, population: Population) -> Learner:
    """The learner that the configuration asks for, at its start."""
    source = workload_source(config.env, population, config.workload, config.seed)
    if isinstance(config.algorithm, es.ESArguments):
        return build_search(config, config.algorithm, population, source)
    env = BatchedVecEnv(
        config.env, source, config.algorithm.discount, config.seed, stagger=True, scheduler=config.scheduler
    )
    builders = {"ppo": ppo.build, "dqn": dqn.build, "sac": sac.build}
    return builders[config.algorithm.name](config.algorithm, config.network, env, config.seed)


def build_search(
    config: Config, arguments: es.ESArguments, population: Population, source: WorkloadSource
) -> es.EvolutionLearner:
    """Evolution strategies on what the goal asks for."""
    torch.manual_seed(config.seed)
    between = config.timesteps_between_updates
    if config.network.kind == "embedding":
        network: nn.Module = score_network(feature_count(len(population.resources)), config.network)
    else:
        network = ValueNetwork(config.network.degrees, config.network.adapts, config.goal)
    if config.goal == "packing":
        assert isinstance(network, ValueNetwork)
        fills = Fills(population, config.env, config.seed)
        workloads = min(config.packing.workloads, config.env.remixes) or 1
        with track(console, "estimating the values of nodes", workloads) as tracker:
            start(network, fills, config.packing, config.env.remixes, config.seed, tracker.update)
        return es.EvolutionLearner(arguments, network, PackingObjective(network, fills), between, config.seed)
    objective = QueueingObjective(
        network, population, source, config.env, config.scheduler, arguments.wait_floor_seconds
    )
    return es.EvolutionLearner(arguments, network, objective, between, config.seed, objective.mean_wait_seconds)


def train(config: Config, population: Population, folder: Path) -> tuple[nn.Module, list[CurvePoint]]:
    """Train from the start, or from the checkpoint in the folder."""
    torch.set_num_threads(config.training.threads)
    learner = build(config, population)
    learner.logger = configure(str(folder / "tensorboard"), ["tensorboard"])
    progress = None
    if config.training.resume:
        state, progress = checkpoint.read(folder, config.digest(), population.name)
        learner.restore(state)
        console.print(f"resuming at {learner.timesteps:,} steps", highlight=False)
    interval = config.timesteps_between_updates
    total = math.ceil(config.training.total_timesteps / interval) * interval  # learning stops between updates
    with track(console, f"training {config.algorithm.name}", total, learner.timesteps) as tracker:
        recorder = Recorder(config, folder, learner, population.name, tracker)
        if progress is not None:
            recorder.restore(progress)
        learner.train(total, recorder)
        tracker.update(total)
    recorder.save()
    return learner.network, recorder.curve


def judge(config: Config, population: Population, policy_file: Path) -> Evaluation:
    """Evaluate the exported policy on held-back seeds."""
    players = 1 + len(config.evaluation.baselines)
    episodes = len(config.evaluation.loads) * config.evaluation.seeds * players
    with track(console, "evaluating", episodes) as tracker:
        return evaluate(
            [Contender(config.algorithm.name, policy_file)],
            rules(config.evaluation.baselines),
            config.evaluation,
            population,
            config.workload,
            config.scheduler,
            report=lambda done, _total, what: tracker.update(done, what),
        )


def report_waiting(config: Config, population: Population, policy_file: Path, curve: list[CurvePoint]) -> OnnxPolicy:
    """Judge the policy by the waits under it, write down how it did, and return it with that in its file."""
    evaluation = judge(config, population, policy_file)
    policy = add_evaluation(policy_file, evaluation.to_json()["policies"])
    facts = {
        "Trained with": f"{config.algorithm.name}, {config.training.total_timesteps:,} decisions on clusters of "
        f"{config.env.nodes} nodes, seed {config.seed}",
        "Policy file": f"{policy_file}, SHA-256 {policy.digest}",
        "Configuration": config.digest(),
    }
    folder = policy_file.parent
    write_whole(
        {
            folder / "evaluation.json": json_report(evaluation),
            folder / "report.html": html_report(config.run_name, evaluation, facts, curve),
        }
    )
    for table in terminal_tables(evaluation):
        console.print(table)
    console.print(f"report: {folder / 'report.html'}", highlight=False)
    return policy


def report_filling(config: Config, population: Population, policy_file: Path) -> OnnxPolicy:
    """Judge the policy by how full clusters get with it, write that down, and return it with that in its file."""
    arguments = config.evaluation
    seeds = range(arguments.first_seed, arguments.first_seed + arguments.seeds)
    rules = [*dict.fromkeys(["fgd", "best-fit", *arguments.baselines])]
    nodes = len(population.devices)  # as many as the workload has
    judged = {config.algorithm.name: load_policy(policy_file)}
    with track(console, "evaluating", len(seeds) * (1 + len(rules))) as tracker:
        evaluation = evaluate_filling(judged, rules, population, nodes, seeds, tracker.update)
    console.print(evaluation.table())
    found = evaluation.to_json()
    write_whole({policy_file.parent / "evaluation.json": json.dumps(found, indent=1) + "\n"})
    return add_evaluation(policy_file, found["policies"])


def ask(config: Config, population: Population, policy_file: Path, policy: OnnxPolicy) -> Answer:
    """Start the extender with the policy file and ask it about a pod of a held-back workload."""
    evaluation = config.evaluation
    workload = held_back_workload(population, evaluation, config.workload, evaluation.loads[0], evaluation.first_seed)
    return ask_extender(policy_file, policy, workload)


def run(config: Config) -> None:
    """The whole way: train, export, evaluate, report, ask."""
    population = load_population(config.workload, config.env.num_resources, leaving=config.goal == "waiting")
    try:
        weights_of(config.scheduler.scoring, population.resources)
    except ValueError as error:
        raise ConfigError(f"scheduler.scoring.{error}") from error
    folder = run_folder(config)
    console.print(f"workload: {population.name}", highlight=False, soft_wrap=True)
    if not config.training.resume:
        OmegaConf.save(OmegaConf.create(asdict(config)), folder / "config.yaml")
    with compiling_ahead():  # what the evaluation needs, while the training goes on
        network, curve = train(config, population, folder)

    policy_file = folder / "policy.onnx"
    export_policy(
        network,
        policy_file,
        resources=population.resources,
        typical=typical_pods(population.shapes, population.shape),
        models=population.models,
        algorithm=config.algorithm.name,
        config_digest=config.digest(),
        workload=population.name,
    )
    console.print(f"exported {policy_file}, {policy_file.stat().st_size:,} bytes", highlight=False)

    if config.goal == "packing":
        policy = report_filling(config, population, policy_file)
    else:
        policy = report_waiting(config, population, policy_file, curve)
    if config.ask:
        print_answer(ask(config, population, policy_file, policy))


def print_answer(answer: Answer) -> None:
    """Show the ranking that the extender gave."""
    wants = ", ".join(f"{name} {amount}" for name, amount in answer.requests.items())
    console.print(
        f"asked the extender about {answer.pod} ({wants}) on {answer.candidates} feasible nodes; it ranked:",
        highlight=False,
        soft_wrap=True,
    )
    for host, score in answer.ranking:
        console.print(f"  {score:>2}  {host}", highlight=False)


def refuse_what_is_not_configured(arguments: list[str]) -> None:
    """Check the command line before anything starts, and say what is allowed.

    Raises:
        ConfigError: a key does not exist or a value is impossible.
    """
    overrides = [argument for argument in arguments if not argument.startswith("-")]
    algorithm = chosen_algorithm(overrides)
    try:
        with hydra.initialize_config_module("training.conf", version_base=None):
            validate(hydra.compose("config", overrides=overrides))
    except ConfigError:
        raise
    except (HydraException, OmegaConfBaseException, ValueError) as error:  # Hydra raises ValueError for algorithm=null
        for override in overrides:
            key = override.partition("=")[0]
            if f"Could not override '{key}'" in str(error):
                raise ConfigError(explain_unknown_key(key, algorithm)) from error
        cause = f": {error.__cause__}" if error.__cause__ else ""
        raise ConfigError(f"{error}{cause}") from error


def chosen_algorithm(overrides: list[str]) -> str:
    """The algorithm that a command line asks for, or that the run had which it resumes."""
    given = dict(override.lstrip("+").partition("=")[::2] for override in overrides)
    name = given.get("algorithm")
    saved = Path(given.get("training.resume", "")) / "config.yaml"
    if name is None and saved.is_file():
        name = OmegaConf.select(OmegaConf.load(saved), "algorithm.name")
    return name if name in ALGORITHMS else DEFAULT_ALGORITHM


@hydra.main(config_path="conf", config_name="config", version_base=None)
def composed(config: DictConfig) -> None:
    """What Hydra calls with the composed configuration, once or once per run of a sweep."""
    run(validate(with_settings_of_resumed_run(config)))


def with_settings_of_resumed_run(config: DictConfig) -> DictConfig:
    """For a run that is resumed, the settings it was started with, under what the command line says now.

    Raises:
        CheckpointError: the folder is not that of a run.
        ConfigError: the command line exchanges a whole group of settings.
    """
    if not config.training.resume:
        return config
    saved = Path(config.training.resume) / "config.yaml"
    if not saved.is_file():
        raise checkpoint.CheckpointError(
            f"{saved}: no such file; training.resume wants the folder of an interrupted run"
        )
    values = [override.lstrip("+") for override in HydraConfig.get().overrides.task]
    for value in values:
        if value.partition("=")[0] in ("algorithm", "experiment") or value.startswith("~"):
            raise ConfigError(f"{value}: a resumed run keeps the settings of {saved}; change single keys only")
    settings = OmegaConf.load(saved)
    name = OmegaConf.select(settings, "algorithm.name")
    if name in ALGORITHMS:  # the composed one is the default's, whose keys are others; what is unknown is refused later
        config.algorithm = OmegaConf.structured(ALGORITHMS[name])
    merged = OmegaConf.merge(config, settings, OmegaConf.from_dotlist(values))
    assert isinstance(merged, DictConfig)
    return merged


def main() -> None:
    """Entry of `python -m training.run`."""
    register()
    arguments = sys.argv[1:]
    os.environ.setdefault("HYDRA_FULL_ERROR", "1")  # our own errors are caught below, others deserve their traceback
    if {"-h", "--help"} & set(arguments):
        algorithm = chosen_algorithm(arguments)
        print(f"{__doc__}\nKeys, with their defaults (algorithm={'|'.join(ALGORITHMS)}, experiment=quickstart|e2e);")
        print(f"those of the algorithm are {algorithm}'s, for others: --help algorithm=<name>")
        print(describe(algorithm))
        return
    try:
        if not {"-m", "--multirun", "--cfg", "-c", "--info", "-i", "--hydra-help"} & set(arguments):
            refuse_what_is_not_configured(arguments)
        composed()
    except (ConfigError, TraceError, checkpoint.CheckpointError, HydraException, OmegaConfBaseException) as error:
        print(f"training.run: {error}", file=sys.stderr)
        sys.exit(2)
    except (AskError, PolicyError) as error:
        print(f"training.run: {error}", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        print("\ninterrupted; go on with: python -m training.run training.resume=runs/<name>", file=sys.stderr)
        sys.exit(130)


if __name__ == "__main__":
    main()
