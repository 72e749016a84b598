"""What was recorded as it was: exactly the pods that came, when they came, cut into consecutive periods of time.

`base.draw_workload` makes any number of new episodes of a population; here nothing is drawn. Every period becomes a
`Workload` of its own, so that two policies can be played on the same hours of a cluster and compared period by period
(`training.evaluation.periods`).

A cluster is not empty when a period begins. Pods that came before and were still running then come along: they arrive
in the first instant with what was left of their durations, and are not counted (`Period.carried`). Whether a pod was
running is told by its arrival and its duration, as the log of decisions does not say when pods started that had not
ended; where pods waited long, some are taken for ended that were running.

The typical pods of a period are those of all pods that had come by its end, as the extender, too, knows only these.
"""

import math
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from extender.placement import IntArray
from training.workloads.arrivals import FloatArray, rhythm_within
from training.workloads.assembly import NodePrices
from training.workloads.base import Population, Workload, typical_pods
from training.workloads.recorded import read_population


@dataclass(frozen=True)
class Period:
    """A stretch of a recorded time.

    Attributes:
        begin: seconds since the population's midnight.
        end: the same; the period's pods came from `begin` on and before `end`.
        carried: how many of the workload's pods, its first, were running when the period began.
        workload: these, and the pods that came; times are seconds since `begin`.
    """

    begin: float
    end: float
    carried: int
    workload: Workload

    @property
    def came(self) -> int:
        """How many pods came."""
        return len(self.workload) - self.carried

    @property
    def load(self) -> float:
        """Work that ran or came, per second, over the capacity of the resource that is scarcest here."""
        workload, seconds = self.workload, self.end - self.begin
        here = np.minimum(workload.duration, seconds - workload.arrival)
        work = workload.shapes.request[workload.shape].T @ here
        return float(np.max(work / np.maximum(workload.allocatable.sum(axis=0), 1)) / seconds)


def read_periods(
    folder: Path,
    seconds: float,
    assumed_seconds: float,
    prices: NodePrices | None = None,
    *,
    begin: float | None = None,
) -> list[Period]:
    """The periods of a recorded folder (`recorded`): its decision log, and the nodes beside it.

    Args:
        folder: holds the log and the nodes.
        seconds: how long a period is.
        assumed_seconds: the duration of pods that have not ended and announced none.
        prices: of nodes without a price.
        begin: see `cut`.

    Raises:
        TraceError: a file is missing, or a line is no decision.
    """
    return cut(read_population(folder, assumed_seconds, prices), seconds, begin=begin)


def cut(population: Population, seconds: float, *, begin: float | None = None) -> list[Period]:
    """Cut what was recorded into periods of equal length; those in which no pod came are left out.

    Pods that fit on none of the nodes, even empty ones, are left out: they had somewhere to go when they were decided
    on, so the nodes are of another time.

    Args:
        population: with arrivals.
        seconds: how long a period is; the last one is cut short by the end of the record.
        begin: where the first period begins, in seconds since the population's midnight; the first arrival where left
            out. 0.0 with a length that divides a day keeps the bounds where they are while the record grows.

    Raises:
        ValueError: the population has no arrivals, or the length is no number above 0.

    Example:
        >>> from training.workloads.synthetic import generate_population
        >>> known = generate_population(np.random.default_rng(0))
        >>> pods = len(known.shape)
        >>> [period.begin for period in cut(replace(known, arrival=np.arange(pods) * 1.0), pods / 2)] == [0.0, pods / 2]
        True
    """
    if population.arrival is None:
        raise ValueError(f"{population.name}: periods need to know when pods came")
    if not (math.isfinite(seconds) and seconds > 0):
        raise ValueError(f"a period of {seconds} seconds: expected a number above 0")
    fitting = population.shapes.fitting_somewhere(population.allocatable, population.devices, population.admits)
    order = np.argsort(population.arrival, kind="stable")
    order = order[fitting[population.shape[order]]]
    arrival = population.arrival[order]
    if len(order) == 0:
        return []
    first = float(arrival[0]) if begin is None else begin
    number = np.floor((arrival - first) / seconds).astype(np.int64)
    return [
        _period(population, order, arrival, first + seconds * each, first + seconds * (each + 1))
        for each in np.unique(number[number >= 0]).tolist()
    ]


def select(population: Population, spans: list[tuple[float, float]]) -> Population:
    """The part of a population whose pods came within these spans, each from its first moment on and before its second.

    Its rhythm is that of these spans.

    Raises:
        ValueError: the population has no arrivals, or no pod came then.
    """
    if population.arrival is None:
        raise ValueError(f"{population.name}: periods need to know when pods came")
    kept = np.zeros(len(population.arrival), np.bool_)
    for begin, end in spans:
        kept |= (population.arrival >= begin) & (population.arrival < end)
    if not kept.any():
        raise ValueError(f"{population.name}: no pod came within the {len(spans)} spans")
    return replace(
        population,
        name=f"{population.name}; {int(kept.sum())} pods of {len(spans)} spans",
        shape=population.shape[kept],
        duration=population.duration[kept],
        priority=population.priority[kept],
        arrival=population.arrival[kept],
        expected=population.expected[kept],
        rhythm=rhythm_within(population.arrival, spans),
    )


def stretch(population: Population, factor: float) -> Population:
    """The population with all times `factor` times as long: of what was replayed faster than it happened."""
    longer = replace(population, duration=population.duration * factor, expected=population.expected * factor)
    if population.arrival is None:
        return longer
    arrival = population.arrival * factor
    span = float(arrival.min()), float(np.nextafter(arrival.max(), np.inf))
    return replace(longer, arrival=arrival, rhythm=rhythm_within(arrival, [span]))


def _period(population: Population, order: IntArray, arrival: FloatArray, begin: float, end: float) -> Period:
    """One period; `order` are the population's pods by arrival, and `arrival` is when they came."""
    duration = population.duration[order]
    coming = np.flatnonzero((arrival >= begin) & (arrival < end))
    running = np.flatnonzero((arrival < begin) & (arrival + duration > begin))
    left = arrival[running] + duration[running] - begin
    pods = np.concatenate([order[running], order[coming]])
    return Period(
        begin,
        end,
        len(running),
        Workload(
            resources=population.resources,
            allocatable=population.allocatable,
            devices=population.devices,
            models=population.models,
            model=population.model,
            pod_limit=population.pod_limit,
            price=population.price,
            shapes=population.shapes,
            admits=population.admits,
            shape=population.shape[pods],
            arrival=np.concatenate([np.zeros(len(running)), arrival[coming] - begin]),
            duration=np.concatenate([left, duration[coming]]),
            priority=population.priority[pods],
            expected=population.expected[pods],
            typical=typical_pods(population.shapes, population.shape[order[arrival < end]]),
        ),
    )
