"""Plays policies on held-back seeds and compares them; every policy sees exactly the same pods.

Episodes know nothing of each other, so a long evaluation is spread over processes; the result is the same for any
number of them.
It (`Evaluation`) is what evaluation.json, the tables and the report are made from; its JSON form is the same for every
evaluation of the project.
"""

import math
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import as_completed
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from pydantic import Field

from extender.policies.base import Policy
from extender.policies.heuristics import RULES
from extender.policies.onnx import load_policy
from training.evaluation.metrics import SERVICE_LEVELS, EpisodeResult, Metric, catalogue, measure
from training.evaluation.statistics import Comparison, compare_metrics, correct, interquartile_mean, mean_intervals
from training.launcher import crew
from training.simulator.scheduling import SchedulerArguments, play
from training.workloads.base import FloatArray, Population, Workload
from training.workloads.selection import WorkloadArguments, draw

Report = Callable[[int, int, str], None]
TITLES = {"kube-scheduler-default": "LeastAllocated + BalancedAllocation"}
PROCESSES_PAY_SECONDS = 30.0  # to import and to load compiled code takes them some ten
LOADING_SECONDS = 15.0  # the first game loads compiled code: it only tells how long games take if it is longer
GAMES_PER_PROCESS = 4  # below so many, processes would wait for the last one: episodes are handed out singly


@dataclass
class EvaluationArguments:
    """The episodes that policies are judged on."""

    nodes: Annotated[int, Field(ge=2, le=20_000, description="nodes of the evaluated cluster")] = 64
    pods: Annotated[int, Field(ge=50, description="pods of one episode")] = 4000
    loads: Annotated[
        list[Annotated[float, Field(gt=0, le=3)]],
        Field(min_length=1, description="offered loads of the bottleneck resource"),
    ] = field(default_factory=lambda: [0.8, 0.9])
    seeds: Annotated[int, Field(ge=1, description="episodes at each load")] = 20
    first_seed: Annotated[int, Field(ge=1_000_000, description="held back: training seeds are below a million")] = (
        1_000_000
    )
    warm_up: Annotated[float, Field(ge=0, lt=1, description="share of the pods that is not counted")] = 0.3
    baselines: Annotated[list[str], Field(description="rules to compare with")] = field(
        default_factory=lambda: ["random", "kube-scheduler-default", "most-allocated", "best-fit"]
    )
    service_levels: Annotated[
        dict[int, Annotated[float, Field(ge=0)]],
        Field(description="longest wait that is promised, s, by the lowest priority it is promised to"),
    ] = field(default_factory=lambda: dict(SERVICE_LEVELS))
    processes: Annotated[
        int | None, Field(ge=1, le=1024, description="that play at the same time; null for one per core")
    ] = None


@dataclass(frozen=True)
class Contender:
    """A policy that is judged.

    Attributes:
        name: what tables call it.
        policy: the name of a rule, a policy file, or any policy that can be pickled.
        scheduler: fields of `SchedulerArguments` that are others for this one than for all.
    """

    name: str
    policy: str | Path | Policy
    scheduler: Mapping[str, Any] = field(default_factory=dict)

    def load(self) -> str | Policy:
        """What the simulator plays with.

        Raises:
            PolicyError: the file holds no policy.
        """
        return load_policy(self.policy) if isinstance(self.policy, Path) else self.policy


def title(policy: str) -> str:
    """What tables and pictures call a policy."""
    return TITLES.get(policy, policy)


def rules(names: Sequence[str]) -> list[Contender]:
    """Rules as contenders.

    Raises:
        ValueError: one is not known.
    """
    if unknown := [name for name in names if name not in RULES]:
        raise ValueError(f"no rule is named {', '.join(unknown)}; there are {', '.join(RULES)}")
    return [Contender(name, name) for name in names]


@dataclass(frozen=True)
class Evaluation:
    """All episodes of an evaluation, and what they say.

    Attributes:
        workload: name of the population.
        settings: what was played, for the record.
        metrics: what was measured, by key, in the order of the tables.
        results: one per policy, load and seed.
        comparisons: each candidate policy against each baseline, per metric and load.
    """

    workload: str
    settings: dict[str, Any]
    metrics: dict[str, Metric]
    results: list[EpisodeResult]
    comparisons: list[Comparison]

    @property
    def policies(self) -> list[str]:
        """Names of the policies, in the order in which they were given."""
        return list(dict.fromkeys(result.policy for result in self.results))

    @property
    def loads(self) -> list[float]:
        """The loads, in the order in which they were given."""
        return list(dict.fromkeys(result.load for result in self.results))

    @property
    def seeds(self) -> list[int]:
        """The seeds, ascending."""
        return sorted({result.seed for result in self.results})

    @property
    def paired_by(self) -> str:
        """What the policies meet on, in a word: "seed", or "period" of a record (`evaluation.periods`)."""
        return "period" if "periods" in self.settings else "seed"

    def of(self, policy: str, load: float | None = None) -> list[EpisodeResult]:
        """The episodes of a policy, at one load or at all."""
        return [result for result in self.results if result.policy == policy and (load is None or result.load == load)]

    def mean(self, policy: str, metric: str, load: float | None = None) -> float:
        """Mean of a metric over a policy's episodes, those that have it."""
        values = np.array([result.metrics[metric] for result in self.of(policy, load)])
        return float(np.nanmean(values)) if np.any(~np.isnan(values)) else math.nan

    @cached_property
    def intervals(self) -> dict[tuple[float, str], dict[str, tuple[float, float, float]]]:
        """By load and policy, and by metric: the mean over the seeds and the ends of its 95 % bootstrap interval."""
        found = {}
        for load in self.loads:
            for policy in self.policies:
                table = mean_intervals(_by_seed(self.of(policy, load), list(self.metrics)))
                found[load, policy] = {
                    metric: (float(mean), float(low), float(high))
                    for metric, (mean, low, high) in zip(self.metrics, table, strict=True)
                }
        return found

    def to_json(self) -> dict[str, Any]:
        """The form of evaluation.json; means in `policies` are over all loads, NaN becomes null."""

        def means(load: float | None) -> dict[str, dict[str, float]]:
            return {
                policy: {metric: self.mean(policy, metric, load) for metric in self.metrics} for policy in self.policies
            }

        def statistics(load: float, policy: str) -> dict[str, dict[str, float]]:
            table = _by_seed(self.of(policy, load), list(self.metrics))
            return {
                metric: {
                    "mean": mean,
                    "low": low,
                    "high": high,
                    "interquartile_mean": interquartile_mean(values[~np.isnan(values)]),
                }
                for values, (metric, (mean, low, high)) in zip(table, self.intervals[load, policy].items(), strict=True)
            }

        content = {
            "workload": self.workload,
            "settings": self.settings,
            "seeds": self.seeds,
            "metrics": {
                key: {name: value for name, value in asdict(metric).items() if name != "key"}
                for key, metric in self.metrics.items()
            },
            "policies": means(None),
            "policies_by_load": {str(load): means(load) for load in self.loads},
            "statistics_by_load": {
                str(load): {policy: statistics(load, policy) for policy in self.policies} for load in self.loads
            },
            "comparisons": [asdict(entry) for entry in self.comparisons],
            "episodes": [
                {"policy": result.policy, "load": result.load, "seed": result.seed, "metrics": result.metrics}
                for result in self.results
            ],
        }
        return {key: _finite(value) for key, value in content.items()}


def held_back_workload(
    population: Population, arguments: EvaluationArguments, workload: WorkloadArguments, load: float, seed: int
) -> Workload:
    """The episode of this load and seed, the same for every policy."""
    return draw(
        population,
        workload,
        nodes=arguments.nodes,
        pods=arguments.pods,
        load=load,
        generator=np.random.default_rng(seed),
    )


@dataclass(frozen=True)
class Stage:
    """Everything that a process needs to play any episode of an evaluation."""

    contenders: list[Contender]
    arguments: EvaluationArguments
    population: Population
    workload: WorkloadArguments
    scheduler: SchedulerArguments

    @cached_property
    def players(self) -> list[str | Policy]:
        """The contenders, loaded."""
        return [contender.load() for contender in self.contenders]

    def __getstate__(self) -> dict[str, Any]:
        """For another process, which loads the contenders itself: a session of ONNX Runtime cannot be pickled."""
        return {name: value for name, value in vars(self).items() if name != "players"}

    def play(self, load: float, seed: int, contenders: Sequence[int]) -> list[EpisodeResult]:
        """Play the episode of this load and seed with these of the contenders."""
        drawn = held_back_workload(self.population, self.arguments, self.workload, load, seed)
        results = []
        for index in contenders:
            contender = self.contenders[index]
            scheduler = replace(self.scheduler, **contender.scheduler)
            results.append(
                measure(
                    contender.name,
                    load,
                    seed,
                    drawn,
                    play(drawn, self.players[index], scheduler, seed),
                    self.arguments.warm_up,
                    self.arguments.service_levels,
                    scheduler.horizon_seconds,
                )
            )
        return results


Game = tuple[float, int, tuple[int, ...]]  # load, seed, and which contenders


def evaluate(
    candidates: Sequence[Contender],
    baselines: Sequence[Contender],
    arguments: EvaluationArguments,
    population: Population,
    workload: WorkloadArguments,
    scheduler: SchedulerArguments | None = None,
    report: Report = lambda done, total, what: None,
    launcher: str = "processes",
) -> Evaluation:
    """Play all contenders on the same episodes, and compare every candidate with every baseline.

    Args:
        candidates: policies to judge.
        baselines: what they are compared with.
        arguments: the episodes; its `baselines` are not looked at.
        population: where they are drawn from.
        workload: arrivals and durations.
        scheduler: the rules of the queue; those of kube-scheduler if not given.
        report: told how many episodes are done, of how many, and which was last.
        launcher: who plays (`training.launcher`).

    Raises:
        ValueError: two contenders have the same name, or no pod of the population fits.
        PolicyError: a policy file holds no policy, or its policy gave an answer that cannot be used.
    """
    contenders = [*candidates, *baselines]
    names = [contender.name for contender in contenders]
    if twice := {name for name in names if names.count(name) > 1}:
        raise ValueError(f"{', '.join(sorted(twice))}: more than one contender has this name")
    scheduler = scheduler or SchedulerArguments()
    stage = Stage(contenders, arguments, population, workload, scheduler)
    seeds = range(arguments.first_seed, arguments.first_seed + arguments.seeds)
    processes = arguments.processes or os.cpu_count() or 1
    games: list[Game] = [(load, seed, tuple(range(len(names)))) for load in arguments.loads for seed in seeds]
    if processes > 1 and len(games) < GAMES_PER_PROCESS * processes:
        games = [(load, seed, (index,)) for load, seed, everyone in games for index in everyone]
    total = len(arguments.loads) * arguments.seeds * len(names)

    results: dict[tuple[str, float, int], EpisodeResult] = {}
    report(0, total, "")
    for played in _play_games(stage, games, processes, launcher):
        results |= {(result.policy, result.load, result.seed): result for result in played}
        report(len(results), total, f"{played[-1].policy}, load {played[-1].load:g}")
    ordered = [results[name, load, seed] for load in arguments.loads for seed in seeds for name in names]

    metrics = catalogue(population.resources, arguments.service_levels)
    settings = {
        **{key: value for key, value in asdict(arguments).items() if key not in ("baselines", "processes", "seeds")},
        "loads": list(arguments.loads),
        "workload": asdict(workload),
        "scheduler": asdict(scheduler),
        "scheduler_of": {each.name: dict(each.scheduler) for each in contenders if each.scheduler},
    }
    comparisons = compare(ordered, metrics, names[: len(candidates)], names[len(candidates) :])
    return Evaluation(population.name, settings, metrics, ordered, comparisons)


def compare(
    results: Sequence[EpisodeResult], metrics: dict[str, Metric], candidates: Sequence[str], baselines: Sequence[str]
) -> list[Comparison]:
    """Each candidate against each baseline, paired by seed, per load and metric, corrected by Holm per metric."""
    episodes: dict[tuple[str, float], list[EpisodeResult]] = {}
    for result in results:
        episodes.setdefault((result.policy, result.load), []).append(result)
    keys = list(metrics)
    return correct(
        [
            comparison
            for candidate in candidates
            for baseline in baselines
            for load in dict.fromkeys(result.load for result in results)
            for comparison in compare_metrics(
                candidate,
                baseline,
                load,
                keys,
                _by_seed(episodes[candidate, load], keys),
                _by_seed(episodes[baseline, load], keys),
                [metric.better == "lower" for metric in metrics.values()],
            )
        ]
    )


def _by_seed(results: Sequence[EpisodeResult], metrics: Sequence[str]) -> FloatArray:
    ordered = sorted(results, key=lambda result: result.seed)
    return np.array([[result.metrics[metric] for result in ordered] for metric in metrics])


def _play_games(stage: Stage, games: Sequence[Game], processes: int, launcher: str) -> Iterator[list[EpisodeResult]]:
    """Play games; results come as they are finished.

    Here, one after the other, until it shows that what is left takes longer than other processes need to get going; a
    cluster's are there already.
    """
    position, left_seconds = 0, math.inf if launcher == "ray" else 0.0
    while position < len(games) and ((processes <= 1 and launcher != "ray") or left_seconds < PROCESSES_PAY_SECONDS):
        started = time.monotonic()
        played = stage.play(*games[position])
        seconds = time.monotonic() - started
        position += 1
        if position > 1 or seconds > LOADING_SECONDS:
            left_seconds = seconds * (len(games) - position)
        yield played
    if position < len(games):
        yield from _spread(stage, games[position:], min(processes, len(games) - position), launcher)


def _spread(stage: Stage, games: Sequence[Game], processes: int, launcher: str) -> Iterator[list[EpisodeResult]]:
    with crew(launcher, processes, stage) as submit:
        for future in as_completed([submit(Stage.play, *game) for game in games]):
            yield future.result()


def _finite(content: Any) -> Any:
    """The same content with None for every number that JSON does not know."""
    if isinstance(content, dict):
        return {key: _finite(value) for key, value in content.items()}
    if isinstance(content, list):
        return [_finite(value) for value in content]
    return None if isinstance(content, float) and not math.isfinite(content) else content
