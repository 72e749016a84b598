"""From a plan to results: every load and seed played to every scheduler, one after the other, on the same nodes.

A seed's nodes are made once and serve all schedulers, so that they meet the same cluster and the same pods. A run that
is in the results already is not played again.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from extender.policies.base import Policy
from extender.policies.onnx import OnnxPolicy
from training.evaluation.metrics import EpisodeResult, catalogue, measure
from training.evaluation.runner import Evaluation, EvaluationArguments, compare, held_back_workload
from training.replay import results, simulated
from training.replay.limits import limits_of
from training.replay.measuring import course_of, occupancy
from training.replay.objects import Ground, Session, made_ground, pods_of, refuse_unspeakable
from training.replay.play import play, try_out
from training.replay.real_nodes import RealNodes
from training.replay.records import Records
from training.replay.results import Compared, Kept, RunResult
from training.replay.session import Stay
from training.simulator.scheduling import Outcome, SchedulerArguments
from training.workloads.assembly import with_all_nodes
from training.workloads.base import Population, Workload
from training.workloads.selection import WorkloadArguments

TRIAL_SECONDS = 60.0
WAIT_METRICS = "mean_wait"

Notify = Callable[[str, Records, float], None]


@dataclass(frozen=True)
class Plan:
    """What is replayed.

    Attributes:
        schedulers: `schedulerName`s, in the order of the tables.
        baseline: the one of them that the others are compared with.
        evaluation: loads, seeds, nodes, pods, warm-up and promised waits.
        workload: where pods and arrivals come from.
        population: what workloads are drawn from.
        speed: seconds of the trace in a second.
        drain_seconds: of the trace, how long pods may wait after the last one has come.
        policies: what the simulator plays for a scheduler, by its name; empty for no comparison.
        real: the nodes, if they are not made; those of the population.
    """

    schedulers: tuple[str, ...]
    baseline: str
    evaluation: EvaluationArguments
    workload: WorkloadArguments
    population: Population
    speed: float
    drain_seconds: float
    policies: Mapping[str, str]
    real: RealNodes | None = None

    def digest(self) -> str:
        """Tells plans apart whose results cannot stand beside each other."""
        evaluation = {name: value for name, value in asdict(self.evaluation).items() if name in ("nodes", "pods")}
        return results.digest_of(
            {
                "population": self.population.name,
                "evaluation": evaluation,
                "workload": asdict(self.workload),
                "speed": self.speed,
                "drain": self.drain_seconds,
            }
        )

    def runs(self) -> list[tuple[float, int, str]]:
        """Load, seed and scheduler of every run, in the order in which they are played."""
        evaluation = self.evaluation
        seeds = range(evaluation.first_seed, evaluation.first_seed + evaluation.seeds)
        return [(load, seed, scheduler) for load in evaluation.loads for seed in seeds for scheduler in self.schedulers]

    def draw(self, load: float, seed: int) -> Workload:
        """The workload of a load and seed, the same for every scheduler and the same as `training.evaluate` draws.

        Raises:
            ValueError: no pod fits, or Kubernetes cannot express it.
        """
        workload = held_back_workload(self.population, self.evaluation, self.workload, load, seed)
        if self.real is not None:
            workload = with_all_nodes(workload, self.population)
        refuse_unspeakable(workload)
        return workload

    def ground(self, session: Session, workload: Workload, prefix: str) -> Ground:
        """Where the pods of a workload go; raises ValueError."""
        return made_ground(session, workload, prefix) if self.real is None else self.real.ground(workload)


def replay(stay: Stay, plan: Plan, folder: Path, notify: Notify, say: Callable[[str], None]) -> list[RunResult]:
    """Play what has not been played yet.

    Args:
        stay: in the cluster, already entered; None if everything was played before.
        plan: what.
        folder: where results are kept.
        notify: told of a run's progress: which, what happened, and how many seconds it is old.
        say: told what is done.

    Returns:
        one result for each of `plan.runs()`.

    Raises:
        ClusterError: the cluster did not do what was asked.
        OtherPlanError: the folder holds results of another plan.
        OSError: a result could not be written.
    """
    digest = plan.digest()
    policies = {name: simulated.load(policy) for name, policy in plan.policies.items()}
    found: dict[tuple[float, int, str], RunResult] = {}
    tried: set[str] = set()
    for load, seed in dict.fromkeys((load, seed) for load, seed, _ in plan.runs()):
        workload = plan.draw(load, seed)
        kept = {name: results.load(folder, digest, load, name, seed) for name in plan.schedulers}
        if None in kept.values():
            assert stay is not None, "there is something to play"
            prefix = f"replay-{stay.session.id}-{seed}-{round(1000 * load)}"
            ground = plan.ground(stay.session, workload, prefix)
            doing = "making" if ground.made else "using"
            say(f"load {load:g}, seed {seed}: {doing} {len(ground.names):,} nodes")
            stay.join(ground.made, workload)
        for scheduler in plan.schedulers:
            run = kept[scheduler]
            if run is None:
                assert stay is not None, "there is something to play"
                if scheduler not in tried:
                    _try_out(stay, workload, ground, scheduler, plan.speed)
                    tried.add(scheduler)
                run = _play(stay, workload, ground, prefix, scheduler, plan, notify)
                results.save(folder, digest, load, scheduler, seed, run)
            result = _result(plan, load, seed, scheduler, workload, run, policies.get(scheduler))
            if result.kept is not run:
                results.save(folder, digest, load, scheduler, seed, result.kept)
            found[load, seed, scheduler] = result
            if kept[scheduler] is None:
                wait = result.episode.metrics["mean_wait_seconds"]
                say(f"load {load:g}, seed {seed}, {scheduler}: mean wait {wait:,.1f} s of the trace")
        if None in kept.values() and stay is not None:
            stay.part()
    return list(found.values())


def evaluation_of(plan: Plan, found: Sequence[RunResult]) -> Evaluation:
    """The results as any evaluation, each scheduler compared with the baseline, paired by seed."""
    metrics = catalogue(plan.population.resources, plan.evaluation.service_levels)
    ordered = sorted((result.episode for result in found), key=lambda episode: plan.schedulers.index(episode.policy))
    ordered = [episode for load in plan.evaluation.loads for episode in ordered if episode.load == load]
    settings: dict[str, Any] = {
        **{name: value for name, value in asdict(plan.evaluation).items() if name not in ("baselines", "processes")},
        "workload": asdict(plan.workload),
        "scheduler": asdict(SchedulerArguments()),
        "speed": plan.speed,
        "drain_seconds": plan.drain_seconds,
    }
    others = [name for name in plan.schedulers if name != plan.baseline]
    comparisons = compare(ordered, metrics, others, [plan.baseline])
    return Evaluation(plan.population.name, settings, metrics, ordered, comparisons)


def _try_out(stay: Stay, workload: Workload, ground: Ground, scheduler: str, speed: float) -> None:
    smallest = int(np.argmin(workload.shapes.request[workload.shape].sum(axis=1)))
    one = {name: getattr(workload, name)[[smallest]] for name in ("shape", "priority", "expected", "arrival")}
    trial = replace(workload, **one, duration=np.array([0.5 * speed]))
    (pod,) = pods_of(stay.session, trial, ground, f"trial-{stay.session.id}-{scheduler}", "trial", scheduler, speed)
    try_out(stay.cluster, stay.session, pod, TRIAL_SECONDS)


def _play(
    stay: Stay, workload: Workload, ground: Ground, prefix: str, scheduler: str, plan: Plan, notify: Notify
) -> Kept:
    run = f"{prefix}-{scheduler}"[-63:].lstrip("-._")
    pods = pods_of(stay.session, workload, ground, f"{prefix}-{scheduler}", run, scheduler, plan.speed)
    rows = {name: row for row, name in enumerate(ground.names)}
    origin = stay.cluster.origin()
    started = time.monotonic()
    played = play(
        stay.cluster,
        stay.session,
        run,
        pods,
        workload.arrival / plan.speed,
        rows,
        plan.drain_seconds / plan.speed,
        lambda records, age: notify(scheduler, records, age),
    )
    stay.remove_run(run)
    return Kept(played, time.monotonic() - started, None, origin)


def _result(
    plan: Plan, load: float, seed: int, scheduler: str, workload: Workload, kept: Kept, policy: str | Policy | None
) -> RunResult:
    played, speed, evaluation = kept.played, plan.speed, plan.evaluation
    came, course = course_of(played.records, workload, speed, played.end)

    def measured(outcome: Outcome) -> EpisodeResult:
        return measure(scheduler, load, seed, came, outcome, evaluation.warm_up, evaluation.service_levels)

    decisions = None
    if isinstance(policy, OnnxPolicy):
        decisions = simulated.decide_again(came, course, policy, simulated.DECIDING_SECONDS * speed)
    real = occupancy(came, course, None if decisions is None else decisions.devices)
    episode = measured(real.outcome)
    limits = limits_of(
        played.records,
        workload.duration / speed,
        played.throttled,
        played.repeated,
        played.interruptions,
        int(real.overbooked.sum()),
        evaluation.warm_up,
    )
    before = kept.compared
    wanted = plan.policies.get(scheduler), evaluation.warm_up, simulated.COURSES
    if policy is not None and (before is None or (before.policy, before.warm_up, len(before.simulated)) != wanted):
        again = simulated.simulate(came, course, policy, speed, seed, limits)
        placing = limits.placing_among_others * speed
        compared = Compared(
            plan.policies[scheduler],
            evaluation.warm_up,
            (0, 0, 0, 0)
            if decisions is None
            else (decisions.compared, decisions.agreed, decisions.compared_waiting, decisions.agreed_waiting),
            {key: value - placing if key.startswith(WAIT_METRICS) else value for key, value in episode.metrics.items()},
            [measured(each).metrics for each in again],
        )
        kept = replace(kept, compared=compared)
    return RunResult(episode, limits, kept)
