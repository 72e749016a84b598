"""Policies on what really came: every contender plays the same recorded periods, and is compared period by period.

The statistics are those of any evaluation (`statistics`), with a period where others have a seed. Periods that follow
each other are less independent of each other than seeds are: what is busy stays busy. The intervals tell the truth
about the differences only as far as these have no memory, which is why a period should be long against the pods'
durations.

Every period begins with an empty queue, so it tells little of a policy that makes pods wait for longer than it lasts.
Played through the whole time instead, what waits goes on waiting in the next period, as it did when it was recorded;
in exchange periods depend on those before them all the more.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, replace

import numpy as np

from extender.policies.base import Policy
from training.evaluation.metrics import EpisodeResult, catalogue, measure
from training.evaluation.runner import Contender, Evaluation, compare
from training.service_levels import SERVICE_LEVELS
from training.simulator.scheduling import Outcome, SchedulerArguments, play
from training.workloads.base import Workload
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
    whole: Period | None = None,
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
        whole: a period that begins no later than all others and ends no earlier: contenders play this one, once, and
            what came of it is taken apart by period.
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
    for contender, player in zip(contenders, players, strict=True):
        rules = replace(scheduler, **contender.scheduler)
        for number, (played, outcome, warm_up) in enumerate(_play(player, periods, whole, rules)):
            name = contender.name
            results.append(measure(name, load, number, played, outcome, warm_up, service_levels, rules.horizon_seconds))
            report(len(results), total, f"{name}, period {number + 1}")
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


def _play(
    player: str | Policy, periods: Sequence[Period], whole: Period | None, rules: SchedulerArguments
) -> Iterator[tuple[Workload, Outcome, float]]:
    """The pods of each period, what became of them, and the share of them that is not counted."""
    if whole is None:
        for number, period in enumerate(periods):
            # Half a pod more, so that rounding cannot count one of those that were there before.
            uncounted = (period.carried + 0.5) / len(period.workload)
            yield period.workload, play(period.workload, player, rules, TIES_SEED + number), uncounted
        return
    outcome = play(whole.workload, player, rules, TIES_SEED)
    arrival = whole.begin + whole.workload.arrival[whole.carried :]
    for period in periods:
        first, last = (whole.carried + np.searchsorted(arrival, [period.begin, period.end], side="left")).tolist()
        yield *_part(whole.workload, outcome, slice(first, last)), 0.0


def _part(workload: Workload, outcome: Outcome, pods: slice) -> tuple[Workload, Outcome]:
    """Some of the pods that were played, and what became of them; the end is that of all."""
    of_pods = ("shape", "arrival", "duration", "priority", "expected")
    became = ("started", "finished", "waited", "node", "preempted")
    return replace(workload, **{name: getattr(workload, name)[pods] for name in of_pods}), Outcome(
        **{name: getattr(outcome, name)[pods] for name in became},
        times=np.append(outcome.times[pods], outcome.times[-1]),
        integrals=np.concatenate([outcome.integrals[pods], outcome.integrals[-1:]]),
    )


def judged_on(periods: Sequence[Period]) -> str:
    """What `evaluate_periods` was given, in words; for the facts of a report, as "Judged on"."""
    pods, carried = sum(period.came for period in periods), sum(period.carried for period in periods)
    seconds = sum(period.end - period.begin for period in periods)
    return (
        f"{len(periods)} recorded periods of {seconds / max(len(periods), 1):,.0f} s, {pods:,} pods as they came "
        f"(and {carried:,} that were running when a period began, which are not counted), on "
        f"{len(periods[0].workload.allocatable) if periods else 0:,} nodes"
    )
