"""Policies on what really came: every contender plays the same recorded periods, and is compared period by period.

The statistics are those of any evaluation (`statistics`), with a period where others have a seed. Periods that follow
each other are less independent of each other than seeds are: what is busy stays busy. The intervals tell the truth
about the differences only as far as these have no memory, which is why a period should be long against the pods'
durations.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace

import numpy as np

from training.evaluation.metrics import EpisodeResult, catalogue, measure
from training.evaluation.runner import Contender, Evaluation, compare
from training.service_levels import SERVICE_LEVELS
from training.simulator.scheduling import SchedulerArguments, play
from training.workloads.periods import Period

TIES_SEED = 0
LOAD_DIGITS = 3


def evaluate_periods(
    candidates: Sequence[Contender],
    baselines: Sequence[Contender],
    periods: Sequence[Period],
    workload: str,
    *,
    scheduler: SchedulerArguments | None = None,
    service_levels: Mapping[int, float] = SERVICE_LEVELS,
    report: Callable[[int, int, str], None] = lambda done, total, what: None,
) -> Evaluation:
    """Play all contenders on the same periods, and compare every candidate with every baseline.

    Args:
        candidates: policies to judge.
        baselines: what they are compared with.
        periods: of one record; in the evaluation their positions are the seeds, and the load is the mean of theirs.
        workload: what was recorded, for the tables.
        scheduler: the rules of the queue; those of kube-scheduler if not given.
        service_levels: longest promised wait in seconds, by the lowest priority it is promised to.
        report: told how many episodes are done, of how many, and which was last.

    Raises:
        ValueError: two contenders have the same name, or there is no period.
        PolicyError: a policy file holds no policy, or its policy gave an answer that cannot be used.
    """
    contenders = [*candidates, *baselines]
    names = [contender.name for contender in contenders]
    if twice := {name for name in names if names.count(name) > 1}:
        raise ValueError(f"{', '.join(sorted(twice))}: more than one contender has this name")
    if not periods:
        raise ValueError(f"{workload}: there is no period in which a pod came")
    scheduler = scheduler or SchedulerArguments()
    load = round(float(np.mean([period.load for period in periods])), LOAD_DIGITS)
    players = [contender.load() for contender in contenders]
    total = len(periods) * len(contenders)
    results: list[EpisodeResult] = []
    report(0, total, "")
    for number, period in enumerate(periods):
        for contender, player in zip(contenders, players, strict=True):
            rules = replace(scheduler, **contender.scheduler)
            outcome = play(period.workload, player, rules, TIES_SEED + number)
            results.append(
                measure(
                    contender.name,
                    load,
                    number,
                    period.workload,
                    outcome,
                    # Half a pod more, so that rounding cannot count one of those that were there before.
                    (period.carried + 0.5) / len(period.workload),
                    service_levels,
                    rules.horizon_seconds,
                )
            )
            report(len(results), total, f"{contender.name}, period {number + 1}")
    metrics = catalogue(periods[0].workload.resources, service_levels)
    settings = {
        "nodes": len(periods[0].workload.allocatable),
        "pods": sum(period.came for period in periods),
        "loads": [load],
        "warm_up": 0.0,
        "service_levels": dict(service_levels),
        "workload": {"process": "trace"},
        "scheduler": asdict(scheduler),
        "scheduler_of": {each.name: dict(each.scheduler) for each in contenders if each.scheduler},
        "periods": [
            {"begin": each.begin, "end": each.end, "came": each.came, "carried": each.carried, "load": each.load}
            for each in periods
        ],
    }
    comparisons = compare(results, metrics, names[: len(candidates)], names[len(candidates) :])
    return Evaluation(workload, settings, metrics, results, comparisons)


def judged_on(periods: Sequence[Period]) -> str:
    """What `evaluate_periods` was given, in words; for the facts of a report, as "Judged on"."""
    pods, carried = sum(period.came for period in periods), sum(period.carried for period in periods)
    seconds = sum(period.end - period.begin for period in periods)
    return (
        f"{len(periods)} recorded periods of {seconds / max(len(periods), 1):,.0f} s, {pods:,} pods as they came "
        f"(and {carried:,} that were running when a period began, which are not counted), on "
        f"{len(periods[0].workload.allocatable) if periods else 0:,} nodes"
    )
