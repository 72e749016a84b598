"""How much of the GPUs policies get allocated when they fill clusters: all play the same pods, differences are paired.

`benchmarks.openb` plays the published orders; this plays any workload, in orders that nothing was trained on.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from rich.table import Table

from extender.fragmentation import FloatArray
from extender.placement import GPU
from extender.policies.base import Policy
from training.evaluation.statistics import difference_intervals, interquartile_mean, mean_intervals
from training.simulator.scheduling import RANDOM_TIES, SchedulerArguments, play_policy, play_rule, prepare
from training.simulator.scoring import RULE_NUMBERS, empty_cache
from training.simulator.state import Episode
from training.workloads.base import Population, Workload
from training.workloads.filling import filling_workload

METRIC = "gpu_allocated_percent"


@dataclass(frozen=True)
class FillingEvaluation:
    """What came out.

    Attributes:
        seeds: (n,) of the clusters that were filled.
        allocated: by policy, (n,) float64 % of the GPUs.
        judged: the policies that are compared with the others.
    """

    seeds: tuple[int, ...]
    allocated: dict[str, FloatArray]
    judged: tuple[str, ...]

    def comparisons(self) -> list[tuple[str, str, FloatArray]]:
        """Each judged policy against each other one: the mean difference in points, and the ends of its interval."""
        return [
            (name, other, difference_intervals(self.allocated[name][None], self.allocated[other][None])[0, 0])
            for name in self.judged
            for other in self.allocated
            if other not in self.judged
        ]

    def to_json(self) -> dict[str, Any]:
        """Everything, for evaluation.json; an interval that a single pair does not have is null."""
        return {
            "seeds": list(self.seeds),
            "policies": {name: {METRIC: float(values.mean())} for name, values in self.allocated.items()},
            "allocated": {name: values.tolist() for name, values in self.allocated.items()},
            "comparisons": [
                {
                    "policy": name,
                    "baseline": other,
                    "metric": METRIC,
                    **{
                        key: None if np.isnan(value) else float(value)
                        for key, value in zip(("difference", "low", "high"), found, strict=True)
                    },
                }
                for name, other, found in self.comparisons()
            ],
        }

    def table(self) -> Table:
        """For the terminal."""
        table = Table(title="GPUs allocated once pods worth 130 % of them have arrived, %")
        table.add_column("policy")
        for heading in ("mean [95 %]", "interquartile mean", *(f"{name} minus it [95 %]" for name in self.judged)):
            table.add_column(heading, justify="right")
        found = {(name, other): interval for name, other, interval in self.comparisons()}
        for other, values in self.allocated.items():
            low, high = mean_intervals(values[None])[0][-2:]
            table.add_row(
                other,
                f"{values.mean():.2f} [{low:.2f}, {high:.2f}]",
                f"{interquartile_mean(values):.2f}",
                *(
                    "{:+.2f} [{:+.2f}, {:+.2f}]".format(*found[name, other]) if (name, other) in found else ""
                    for name in self.judged
                ),
            )
        return table


def evaluate_filling(
    judged: Mapping[str, Policy],
    rules: Sequence[str],
    population: Population,
    nodes: int,
    seeds: Sequence[int],
    report: Callable[[int, str], None],
) -> FillingEvaluation:
    """Let every policy fill the same clusters.

    Args:
        judged: policies by name.
        rules: names of `heuristics.RULES`.
        population: where nodes and pods come from.
        nodes: of each cluster.
        seeds: of the clusters.
        report: called with the number of clusters filled, and by what.
    """
    allocated: dict[str, list[float]] = {name: [] for name in (*judged, *rules)}
    done = 0
    for seed in seeds:
        workload = filling_workload(population, nodes, np.random.default_rng(seed))
        for name in allocated:
            allocated[name].append(_fill(workload, judged.get(name, name), seed))
            done += 1
            report(done, name)
    arrays = {name: np.array(values) for name, values in allocated.items()}
    return FillingEvaluation(tuple(seeds), arrays, tuple(judged))


def _fill(workload: Workload, policy: str | Policy, seed: int) -> float:
    episode = prepare(workload, SchedulerArguments(ordering="fifo"))
    generator = np.random.default_rng(seed)
    if isinstance(policy, str):
        cache = empty_cache(len(workload.shapes), len(workload.allocatable))
        # As an extender ranks: of equals the first node is taken, not a random one, which would pack far worse.
        ties = RANDOM_TIES if policy == "random" else np.arange(len(workload.allocatable))
        play_rule(episode, RULE_NUMBERS[policy], cache, workload.typical, ties, generator)
    else:
        play_policy(episode, policy, workload.typical, generator)
    return gpu_allocated_percent(episode)


def gpu_allocated_percent(episode: Episode) -> float:
    """Share of the cluster's GPUs that is allocated now, in %."""
    return 100.0 * float(episode.cluster.in_use[GPU]) / float(episode.cluster.nodes.allocatable[:, GPU].sum())
