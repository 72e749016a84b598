"""What an episode came to: waiting, slowdown, allocation, cost and broken promises, after the warm-up.

An empty cluster serves the first pods whatever the policy, so pods that arrive during the warm-up are not counted.
No pod is dropped because it is still open: one that waits when the episode ends, at its horizon or because nothing can
happen any more, counts with the wait it has so far. Where the horizon comes before any counted pod, what is said of
counted pods and of their time is NaN. What is measured over time (allocation, cost, …) is measured from
the first counted arrival to the last one: the same span of time for every policy.

`catalogue` says what there is, with unit and definition; its texts are what reports and the documentation show.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from extender.placement import GPU, WHOLE_DEVICE_MILLI, BoolArray, IntArray
from training.service_levels import SERVICE_LEVELS, promised_waits, service_classes
from training.simulator.scheduling import Outcome
from training.simulator.state import COST, EMPTY_NODES, FRAGMENTED, RESOURCES, WAITING
from training.workloads.base import BASE_RESOURCES, FloatArray, Workload

CURVE_POINTS = 120
CVAR_SHARE = 0.05
SHORTEST_RUN_SECONDS = 10.0  # the bound of bounded slowdown


@dataclass(frozen=True)
class Metric:
    """One number about an episode.

    Attributes:
        key: its name in evaluation.json.
        label: what a table calls it.
        unit: s, pods, node-hours, …; % for a share, which is stored as 0..1.
        better: which of two values is the better one.
        definition: how it is computed.
    """

    key: str
    label: str
    unit: str
    better: Literal["lower", "higher"]
    definition: str


FIXED_METRICS = (
    Metric(
        "mean_wait_seconds",
        "mean wait",
        "s",
        "lower",
        "Mean time a counted pod was pending: from its arrival to its start, and again after an eviction. Pods that "
        "are pending when the episode ends count with their wait so far.",
    ),
    Metric("p50_wait_seconds", "median wait", "s", "lower", "50th percentile of these waits."),
    Metric("p95_wait_seconds", "95 % wait", "s", "lower", "95th percentile of these waits."),
    Metric("p99_wait_seconds", "99 % wait", "s", "lower", "99th percentile of these waits."),
    Metric(
        "cvar95_wait_seconds",
        "mean wait of the worst 5 %",
        "s",
        "lower",
        "Conditional value at risk: mean of the longest 5 % of the waits; a pod on the edge counts in part.",
    ),
    Metric("mean_wait_cpu_only_seconds", "mean wait, pods without GPU", "s", "lower", "Pods that ask for no GPU."),
    Metric("mean_wait_shared_seconds", "mean wait, shared GPU", "s", "lower", "Pods that take a part of one GPU."),
    Metric("mean_wait_one_device_seconds", "mean wait, one GPU", "s", "lower", "Pods that take one whole GPU."),
    Metric("mean_wait_several_devices_seconds", "mean wait, several GPUs", "s", "lower", "Pods with two GPUs or more."),
    Metric("mean_wait_others_seconds", "mean wait, at most one GPU", "s", "lower", "All other pods."),
    Metric("p99_wait_several_devices_seconds", "99 % wait, several GPUs", "s", "lower", "Pods with two GPUs or more."),
    Metric("p99_wait_others_seconds", "99 % wait, at most one GPU", "s", "lower", "All other pods."),
    Metric(
        "mean_slowdown",
        "mean bounded slowdown",
        "",
        "lower",
        "Mean of max(1, (end - arrival) / max(duration, 10 s)); the bound keeps pods of a few seconds from ruling the "
        "mean (Feitelson & Rudolph 1998). A pod that waits when the episode ends, evicted or not, counts as if it "
        "started then.",
    ),
    Metric(
        "rejected",
        "rejected pods",
        "pods",
        "lower",
        "Pods of the whole episode, warm-up included, that fit on no node even when all are empty.",
    ),
    Metric(
        "unfinished",
        "pods left waiting",
        "pods",
        "lower",
        "Pods of the whole episode, warm-up included, that would fit on an empty node but wait when the episode ends: "
        "they never started, or were evicted and did not start again.",
    ),
    Metric(
        "success_rate",
        "success rate",
        "%",
        "higher",
        "Share of the counted pods that run or have run to their end when the episode ends.",
    ),
    Metric(
        "completion_rate",
        "completion rate",
        "%",
        "higher",
        "Share of the counted pods that had run to their end by the horizon or, without one, by the last arrival.",
    ),
    Metric("preemptions", "preemptions", "", "lower", "How often counted pods were evicted for others."),
    Metric(
        "makespan_seconds",
        "makespan",
        "s",
        "lower",
        "From the first arrival of the episode to the end of the last pod that is running or has run.",
    ),
    Metric(
        "mean_pending", "pending pods", "pods", "lower", "Time average of the number of pods that wait, after warm-up."
    ),
    Metric(
        "stranded_gpu",
        "stranded GPUs",
        "%",
        "lower",
        "Time average of the free GPU parts that typical pods cannot use (FGD's fragmentation), over all GPUs.",
    ),
    Metric("empty_nodes", "empty nodes", "%", "higher", "Time average of the share of the nodes that run no pod."),
    Metric(
        "node_hours", "node-hours", "node-hours", "lower", "Hours that nodes with at least one pod were on, added up."
    ),
    Metric(
        "cost",
        "cost of non-empty nodes",
        "price units",
        "lower",
        "The same, each hour at the node's price.",
    ),
    Metric(
        "violations",
        "service-level violations",
        "%",
        "lower",
        "Share of the counted pods that waited longer than their priority is promised.",
    ),
)


def catalogue(
    resources: Sequence[str] = BASE_RESOURCES, service_levels: Mapping[int, float] = SERVICE_LEVELS
) -> dict[str, Metric]:
    """Every metric of an episode by its key, in the order of the tables.

    Args:
        resources: names of the cluster's resources.
        service_levels: longest promised wait in seconds, by the lowest priority it is promised to.

    Example:
        >>> [key for key in catalogue() if key.startswith("violations")]
        ['violations', 'violations_priority_0', 'violations_priority_1000']
    """
    allocation = [
        Metric(
            allocation_key(name),
            f"{name.upper() if len(name) == 3 else name} allocation",
            "%",
            "higher",
            f"Time average of the share of the cluster's {name} that running pods asked for.",
        )
        for name in resources
    ]
    levels = sorted(service_levels)
    violations = [
        Metric(
            violation_key(level),
            f"violations, priority {level}{f' to {above - 1}' if above else ' and above'}",
            "%",
            "lower",
            f"Share of the counted pods of this class that waited longer than {service_levels[level]:g} s.",
        )
        for level, above in zip(levels, [*levels[1:], None], strict=True)
    ]
    metrics = {metric.key: metric for metric in FIXED_METRICS}
    place = list(metrics).index("stranded_gpu")
    ordered = [*FIXED_METRICS[:place], *allocation, *FIXED_METRICS[place:], *violations]
    return {metric.key: metric for metric in ordered}


def allocation_key(resource: str) -> str:
    """Key of the metric that says how much of a resource is in use."""
    return f"{resource}_allocation"


def violation_key(level: int) -> str:
    """Key of the metric that says how often the class from this priority on waited too long."""
    return f"violations_priority_{level}"


@dataclass(frozen=True)
class EpisodeResult:
    """One episode of one policy.

    Attributes:
        policy: its name.
        load: offered load.
        seed: of the workload; results of one seed and load are paired.
        metrics: by the keys of `catalogue`; NaN where the episode had nothing to measure.
        waits: (P',) seconds, of the pods after the warm-up.
        allocation: (CURVE_POINTS,) share of the GPUs in use, at equal steps from the first to the last arrival
            before the horizon; NaN for a cluster without GPUs.
    """

    policy: str
    load: float
    seed: int
    metrics: dict[str, float]
    waits: FloatArray
    allocation: FloatArray


def measure(
    policy: str,
    load: float,
    seed: int,
    workload: Workload,
    outcome: Outcome,
    warm_up: float = 0.0,
    service_levels: Mapping[int, float] = SERVICE_LEVELS,
    horizon: float = math.inf,
) -> EpisodeResult:
    """Measure a played episode.

    Args:
        policy: its name.
        load: offered load.
        seed: of the workload.
        workload: what was played.
        outcome: how it went.
        warm_up: share of the pods that are not counted, by order of arrival.
        service_levels: longest promised wait in seconds, by the lowest priority it is promised to.
        horizon: when the scheduler stopped in any case, in seconds.
    """
    arrived = workload.arrival <= outcome.times[-1]
    first = int(warm_up * len(workload))
    counted = arrived & (np.arange(len(workload)) >= first)
    waits = outcome.waited[counted]
    placed = ~np.isnan(outcome.finished)  # runs or has run; not what was evicted and waits again
    ends = np.where(placed, outcome.finished, outcome.times[-1] + workload.duration)
    slowdown = (ends - workload.arrival) / np.maximum(workload.duration, SHORTEST_RUN_SECONDS)
    fitting = workload.shapes.fitting_somewhere(workload.allocatable, workload.devices, workload.admits)
    rejected = arrived & ~fitting[workload.shape]
    deadline = horizon if math.isfinite(horizon) else workload.arrival[-1]

    metrics = {
        "mean_wait_seconds": _mean(waits),
        "p50_wait_seconds": _quantile(waits, 0.5),
        "p95_wait_seconds": _quantile(waits, 0.95),
        "p99_wait_seconds": _quantile(waits, 0.99),
        "cvar95_wait_seconds": mean_of_worst(waits, CVAR_SHARE),
        **_waits_by_class(waits, workload, counted),
        "mean_slowdown": _mean(np.maximum(slowdown[counted], 1.0)),
        "rejected": float(rejected.sum()),
        "unfinished": float(np.sum(arrived & ~placed & ~rejected)),
        "success_rate": _mean(placed[counted]),
        "completion_rate": _mean(placed[counted] & (ends[counted] <= deadline)),
        "preemptions": float(outcome.preempted[counted].sum()) if counted.any() else math.nan,
        "makespan_seconds": float(ends[placed].max() - workload.arrival[0]) if placed.any() else math.nan,
        **_averages_over_time(workload, outcome, first),
        **_violations(waits, workload.priority[counted], service_levels),
    }
    return EpisodeResult(
        policy=policy,
        load=load,
        seed=seed,
        metrics={key: metrics[key] for key in catalogue(workload.resources, service_levels)},
        waits=waits,
        allocation=_allocation_curve(workload, outcome),
    )


def mean_of_worst(waits: FloatArray, share: float) -> float:
    """Mean of the largest `share` of the values; the value on the edge counts with the part that is still missing.

    Source: Rockafellar & Uryasev, "Optimization of conditional value-at-risk" (2000), for equally likely values.

    Example:
        >>> float(mean_of_worst(np.array([0.0, 10.0, 20.0]), 0.5))  # 20 wholly, 10 by half
        16.666666666666668
    """
    worst = np.sort(waits)[::-1]
    weights = np.clip(share * len(worst) - np.arange(len(worst)), 0.0, 1.0)
    return float(np.average(worst, weights=weights)) if len(worst) else math.nan


def _waits_by_class(waits: FloatArray, workload: Workload, counted: BoolArray) -> dict[str, float]:
    shape = workload.shape[counted]
    devices, milli = workload.shapes.gpu_count[shape], workload.shapes.gpu_milli[shape]
    return {
        "mean_wait_cpu_only_seconds": _mean(waits[devices == 0]),
        "mean_wait_shared_seconds": _mean(waits[(devices == 1) & (milli < WHOLE_DEVICE_MILLI)]),
        "mean_wait_one_device_seconds": _mean(waits[(devices == 1) & (milli == WHOLE_DEVICE_MILLI)]),
        "mean_wait_several_devices_seconds": _mean(waits[devices > 1]),
        "mean_wait_others_seconds": _mean(waits[devices <= 1]),
        "p99_wait_several_devices_seconds": _quantile(waits[devices > 1], 0.99),
        "p99_wait_others_seconds": _quantile(waits[devices <= 1], 0.99),
    }


def _averages_over_time(workload: Workload, outcome: Outcome, first: int) -> dict[str, float]:
    last = len(workload) - 1
    seconds = outcome.times[last] - outcome.times[first]
    gained = outcome.integrals[last] - outcome.integrals[first]
    capacity = workload.allocatable.sum(axis=0)
    nodes, devices = len(workload.allocatable), int(workload.devices.sum())
    return {
        "mean_pending": _ratio(gained[WAITING], seconds),
        **{
            allocation_key(name): _ratio(gained[RESOURCES + index], seconds * capacity[index])
            for index, name in enumerate(workload.resources)
        },
        "stranded_gpu": _ratio(gained[FRAGMENTED], seconds * devices),
        "empty_nodes": _ratio(gained[EMPTY_NODES], seconds * nodes),
        "node_hours": float(nodes * seconds - gained[EMPTY_NODES]) / 3600.0 if seconds > 0 else math.nan,
        "cost": float(gained[COST]) if seconds > 0 else math.nan,
    }


def _violations(waits: FloatArray, priority: IntArray, service_levels: Mapping[int, float]) -> dict[str, float]:
    late = waits > promised_waits(priority, service_levels)
    group = service_classes(priority, service_levels)
    return {
        "violations": _mean(late[group > 0]),
        **{violation_key(level): _mean(late[group == index]) for index, level in enumerate(sorted(service_levels), 1)},
    }


def _allocation_curve(workload: Workload, outcome: Outcome) -> FloatArray:
    capacity = float(workload.allocatable[:, GPU].sum())
    grid = np.linspace(workload.arrival[0], outcome.times[len(workload) - 1], CURVE_POINTS + 1)
    if capacity == 0 or np.diff(grid).min() <= 0:  # also of a span of a few rounding errors
        return np.full(CURVE_POINTS, math.nan)
    in_use = np.interp(grid, outcome.times, outcome.integrals[:, RESOURCES + GPU])
    curve: FloatArray = np.diff(in_use) / np.diff(grid) / capacity
    return curve


def _mean(values: FloatArray | BoolArray) -> float:
    return float(values.mean()) if len(values) else math.nan


def _quantile(values: FloatArray, share: float) -> float:
    return float(np.quantile(values, share)) if len(values) else math.nan


def _ratio(amount: float, whole: float) -> float:
    return float(amount / whole) if whole > 0 else math.nan
