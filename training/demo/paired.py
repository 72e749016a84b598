"""Policies side by side: all of them play the same pods, and each difference comes with its interval.

It is the evaluation of `python -m training.evaluate`, short enough to wait for.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from training.evaluation.metrics import Metric
from training.evaluation.runner import Contender, Evaluation, EvaluationArguments, Report, evaluate
from training.evaluation.statistics import Comparison
from training.workloads.base import Population
from training.workloads.selection import WorkloadArguments

SHOWN_METRICS = ("mean_wait_seconds", "p99_wait_seconds", "gpu_allocation", "stranded_gpu", "violations")
PERCENT = "%"
NOTHING = "\N{EN DASH}"


@dataclass(frozen=True)
class Game:
    """What is played.

    Attributes:
        nodes: of the cluster.
        pods: of an episode.
        load: offered load of the bottleneck resource.
        seeds: episodes; at least 2, or there is no interval.
    """

    nodes: int
    pods: int
    load: float
    seeds: int


def side_by_side(
    policies: Mapping[str, str | Path],
    baseline: str,
    game: Game,
    population: Population,
    workload: WorkloadArguments,
    report: Report = lambda done, total, what: None,
) -> Evaluation:
    """Play the same arrivals with every policy, and compare each with one of them.

    Args:
        policies: rules and policy files, by the name they are shown under.
        baseline: the name of the one that the others are compared with.
        game: the episodes.
        population: what they are drawn from.
        workload: arrivals and durations.
        report: told how many episodes are done.

    Raises:
        PolicyError: a file holds no policy, or one made for other resources.
        ValueError: no pod of the population fits on the nodes.
    """
    contenders = [Contender(name, policy) for name, policy in policies.items()]
    arguments = EvaluationArguments(nodes=game.nodes, pods=game.pods, loads=[game.load], seeds=game.seeds, processes=1)
    return evaluate(
        [each for each in contenders if each.name != baseline],
        [each for each in contenders if each.name == baseline],
        arguments,
        population,
        workload,
        report=report,
    )


def differences(evaluation: Evaluation, metric: str) -> list[Comparison]:
    """Each policy against the baseline in this metric."""
    return [entry for entry in evaluation.comparisons if entry.metric == metric]


def rows(evaluation: Evaluation, metric: Metric) -> list[tuple[str, str, str]]:
    """Rows of a table for people: policy, mean over the seeds and the difference from the baseline, with intervals."""
    [load] = evaluation.loads
    compared = {entry.policy: entry for entry in differences(evaluation, metric.key)}
    table = []
    for policy in evaluation.policies:
        mean, low, high = (figure(metric, value) for value in evaluation.intervals[load, policy][metric.key])
        entry = compared.get(policy)
        table.append((policy, f"{mean} [{low}, {high}]", amounts(entry, metric) if entry else NOTHING))
    return table


def amounts(comparison: Comparison, metric: Metric) -> str:
    """A difference and the ends of its interval."""
    scale = 100 if metric.unit == PERCENT else 1
    entry = comparison
    each = (signed(scale * value) for value in (entry.difference, entry.difference_low, entry.difference_high))
    return "{} [{}, {}]".format(*each)


def figure(metric: Metric, value: float) -> str:
    """A value as tables show it, without its unit.

    Example:
        >>> figure(Metric("m", "m", "%", "higher", ""), 0.8316), figure(Metric("m", "m", "s", "lower", ""), 12.34)
        ('83.2', '12.3')
    """
    return f"{100 * value if metric.unit == PERCENT else value:,.1f}"


def verdict(comparison: Comparison, metric: Metric) -> str:
    """One sentence that says no more than the interval does.

    Args:
        comparison: of two policies in this metric.
        metric: what was measured.
    """
    low, high = comparison.difference_low, comparison.difference_high
    amount = f"{amounts(comparison, metric)} {unit_of(metric)}".strip()
    if not (low > 0 or high < 0):
        return f"{comparison.policy}: no certain difference in {metric.label} from {comparison.baseline}, {amount}"
    better = "better" if (high < 0) == (metric.better == "lower") else "worse"
    return f"{comparison.policy}: {metric.label} is {better} than {comparison.baseline}'s, {amount}"


def unit_of(metric: Metric) -> str:
    """The unit of a difference: shares differ by points."""
    return "points" if metric.unit == PERCENT else metric.unit


def signed(value: float) -> str:
    """A difference with its sign; the minus is a real one.

    Example:
        >>> signed(0.5)
        '+0.5'
    """
    return f"{value:+,.1f}".replace("-", "\N{MINUS SIGN}")
