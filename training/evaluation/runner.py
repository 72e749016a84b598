"""Plays policies on held-back seeds and compares them; every policy sees exactly the same pods.

The result (`Evaluation`) is what `evaluation.json`, the tables and the report are made from; its JSON form is the same
for every evaluation of the project.
"""

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from pydantic import Field

from extender.policies.base import Policy
from training.evaluation.metrics import METRICS, EpisodeResult, measure
from training.evaluation.statistics import Comparison, relative_difference
from training.simulator.episodes import episode_of
from training.simulator.scheduling import RULE_NUMBERS, play_policy, play_rule
from training.workloads.base import ArrivalProcess, FloatArray, Population, Workload, draw_workload
from training.workloads.selection import WorkloadArguments

Report = Callable[[int, int, str], None]


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


@dataclass(frozen=True)
class Evaluation:
    """All episodes of an evaluation, and what they say.

    Attributes:
        workload: name of the population.
        results: one per policy, load and seed.
        comparisons: each candidate policy against each baseline, per metric and load.
    """

    workload: str
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

    def of(self, policy: str, load: float | None = None) -> list[EpisodeResult]:
        """The episodes of a policy, at one load or at all."""
        return [result for result in self.results if result.policy == policy and (load is None or result.load == load)]

    def mean(self, policy: str, metric: str, load: float | None = None) -> float:
        """Mean of a metric over a policy's episodes, those that have it."""
        values = np.array([result.metrics[metric] for result in self.of(policy, load)])
        return float(np.nanmean(values)) if np.any(~np.isnan(values)) else math.nan

    def to_json(self) -> dict[str, Any]:
        """The form of evaluation.json; means in `policies` are over all loads, NaN becomes null."""

        def means(load: float | None) -> dict[str, dict[str, float | None]]:
            return {
                policy: {metric: _finite(self.mean(policy, metric, load)) for metric in METRICS}
                for policy in self.policies
            }

        return {
            "workload": self.workload,
            "seeds": sorted({result.seed for result in self.results}),
            "policies": means(None),
            "policies_by_load": {str(load): means(load) for load in self.loads},
            "comparisons": [
                {key: _finite(value) if isinstance(value, float) else value for key, value in asdict(entry).items()}
                for entry in self.comparisons
            ],
        }

    def write(self, path: Path) -> None:
        """Write evaluation.json; it appears whole or not at all."""
        partial = path.with_suffix(".partial")
        partial.write_text(json.dumps(self.to_json(), indent=1, allow_nan=False) + "\n")
        partial.replace(path)


def held_back_workload(
    population: Population, arguments: EvaluationArguments, workload: WorkloadArguments, load: float, seed: int
) -> Workload:
    """The episode of this load and seed, the same for every policy."""
    return draw_workload(
        population,
        nodes=arguments.nodes,
        pods=arguments.pods,
        load=load,
        process=ArrivalProcess(workload.process),
        shortest_seconds=workload.shortest_seconds,
        longest_seconds=workload.longest_seconds,
        generator=np.random.default_rng(seed),
    )


def evaluate(
    candidates: Sequence[Policy],
    arguments: EvaluationArguments,
    population: Population,
    workload: WorkloadArguments,
    report: Report = lambda done, total, what: None,
) -> Evaluation:
    """Play every candidate and every baseline on the same episodes.

    Args:
        candidates: policies to judge; names must differ from the baselines'.
        arguments: the episodes.
        population: where they are drawn from.
        workload: arrivals and durations.
        report: told how many episodes are done, of how many, and which is next.

    Raises:
        ValueError: a baseline is not known.
    """
    unknown = set(arguments.baselines) - set(RULE_NUMBERS)
    if unknown:
        raise ValueError(f"evaluation.baselines: {', '.join(sorted(unknown))}; there are {', '.join(RULE_NUMBERS)}")
    players: list[str | Policy] = [*candidates, *arguments.baselines]
    results: list[EpisodeResult] = []
    total = len(arguments.loads) * arguments.seeds * len(players)
    for load in arguments.loads:
        for seed in range(arguments.first_seed, arguments.first_seed + arguments.seeds):
            drawn = held_back_workload(population, arguments, workload, load, seed)
            for player in players:
                name = player if isinstance(player, str) else player.name
                report(len(results), total, f"{name}, load {load}")
                episode = episode_of(drawn)
                samples: FloatArray = np.zeros((len(drawn), 2))
                if isinstance(player, str):
                    decisions = play_rule(episode, RULE_NUMBERS[player], np.random.default_rng(seed), samples)
                else:
                    decisions = play_policy(episode, player, samples)
                results.append(measure(name, load, seed, drawn, episode, samples[:decisions], arguments.warm_up))
    report(total, total, "done")
    names = [candidate.name for candidate in candidates]
    return Evaluation(population.name, results, compare(results, names, arguments.baselines))


def compare(results: Sequence[EpisodeResult], candidates: Sequence[str], baselines: Sequence[str]) -> list[Comparison]:
    """Each candidate against each baseline, paired by seed, per load and metric."""
    values: dict[tuple[str, float, str], list[float]] = {}
    for result in sorted(results, key=lambda result: result.seed):
        for metric, value in result.metrics.items():
            values.setdefault((result.policy, result.load, metric), []).append(value)
    return [
        Comparison(
            candidate,
            baseline,
            metric,
            load,
            *relative_difference(np.array(values[candidate, load, metric]), np.array(values[baseline, load, metric])),
        )
        for candidate in candidates
        for baseline in baselines
        for load in dict.fromkeys(result.load for result in results)
        for metric in METRICS
    ]


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
