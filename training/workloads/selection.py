"""Which workload a run uses: a trace where one is found or named, else a generator; docs/workloads.md tells of each."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import numpy as np
from pydantic import Field

from training.workloads import csv_trace, generated, kubectl, openb, recorded, synthetic
from training.workloads.arrivals import ArrivalProcess
from training.workloads.assembly import NodePrices
from training.workloads.base import (
    BASE_RESOURCES,
    CPU_AND_MEMORY,
    Population,
    Workload,
    draw_workload,
    with_resources,
    without_further_resources,
    without_gpus,
)
from training.workloads.estimates import DurationKnowledge
from training.workloads.generated import GeneratorArguments
from training.workloads.tables import TraceError

GENERATOR_SEED = 20231  # the built-in population is one fixed population; what is drawn from it differs by run


@dataclass
class WorkloadArguments:
    """Where nodes, pods and arrivals come from."""

    source: Annotated[
        str,
        Field(
            pattern="^(auto|openb|synthetic|generated|csv|kubectl|decisions)$",
            description="auto: openb where the trace is found, else synthetic (openb's figures); generated: as "
            "workload.generator says; csv, kubectl, decisions: read from workload.path",
        ),
    ] = "auto"
    path: Annotated[
        str | None,
        Field(min_length=1, description="folder (or file, for kubectl) that csv, kubectl and decisions read"),
    ] = None
    traces: Annotated[
        str | None, Field(description="folder with the openb files; else STOWAGE_TRACES, else ../shared/traces")
    ] = None
    mix: Annotated[str, Field(min_length=1, description="openb's pod list: default, cpu050, gpushare40, …")] = "default"
    process: Annotated[
        str,
        Field(
            pattern="^(poisson|bursty|diurnal|trace)$",
            description="how pods arrive; trace: as recorded, in resampled days, for sources with times",
        ),
    ] = "poisson"
    shortest_seconds: Annotated[float, Field(gt=0, description="durations are clipped to at least this")] = 30.0
    longest_seconds: Annotated[float, Field(gt=0, description="… and to at most this")] = 7200.0
    durations_known: Annotated[
        str,
        Field(
            pattern="^(none|exact|estimated|recorded)$",
            description="what the scheduler knows of durations; estimated: from history, one in ten wildly wrong; "
            "recorded: what the trace's pods announced",
        ),
    ] = "none"
    assumed_seconds: Annotated[
        float, Field(gt=0, allow_inf_nan=False, description="source=decisions: duration of a pod that announced none")
    ] = 600.0
    recent_pods: Annotated[
        int,
        Field(ge=0, description="typical pods are estimated from so many pods, drawn anew each episode; 0: from all"),
    ] = 2000
    prices: NodePrices = field(default_factory=NodePrices)
    generator: GeneratorArguments = field(default_factory=GeneratorArguments)


def load_population(arguments: WorkloadArguments, resources: int, *, leaving: bool = True) -> Population:
    """The population that a run draws from; its `name` says which it is.

    Args:
        arguments: which workload.
        resources: how many resources it is to have: 2 (no GPUs) … 16. Nodes and pods of openb and of the built-in
            generator are given further ones; those that were recorded keep the first of theirs and are given none.
        leaving: whether pods have to have durations.

    Raises:
        TraceError: the files of a source that was named are not there or not readable, or hold fewer resources;
            or arrivals are to be as recorded and were not; or pods that have to leave have no durations.
        ValueError: the settings contradict each other.
    """
    population = _load(arguments, resources)
    if leaving and not np.isfinite(population.duration).all():
        raise TraceError(
            f"{population.name}: the pods have no durations, so none of them would ever leave: choose a workload with "
            "times, or goal=packing"
        )
    if arguments.process == ArrivalProcess.TRACE and population.arrival is None:
        raise TraceError(
            f"workload.process=trace needs recorded arrivals, and there are none in {population.name}: choose "
            "another workload.process, or one of the sources openb, csv, kubectl and decisions"
        )
    return population


def draw(
    population: Population,
    arguments: WorkloadArguments,
    *,
    nodes: int,
    pods: int,
    load: float,
    generator: np.random.Generator,
) -> Workload:
    """`draw_workload` with everything that the settings say; raises ValueError as that does."""
    return draw_workload(
        population,
        nodes=nodes,
        pods=pods,
        load=load,
        process=ArrivalProcess(arguments.process),
        shortest_seconds=arguments.shortest_seconds,
        longest_seconds=arguments.longest_seconds,
        knowledge=DurationKnowledge(arguments.durations_known),
        recent=arguments.recent_pods,
        generator=generator,
    )


def _load(arguments: WorkloadArguments, resources: int) -> Population:
    match arguments.source:
        case "generated":
            return generated.generate_population(arguments.generator, resources, arguments.prices)
        case "csv" | "kubectl" | "decisions":
            return _with_recorded_resources(_read_recorded(arguments), resources)
    folder = None if arguments.source == "synthetic" else openb.find_traces(arguments.traces)
    generator = np.random.default_rng(GENERATOR_SEED)
    if folder is not None:
        population = openb.read_population(folder, arguments.mix, arguments.prices)
    elif arguments.source == "openb":
        raise TraceError(
            f"workload.source=openb, but no trace was found: name the folder with {openb.NODE_FILE} by "
            f"workload.traces=… or {openb.TRACES_VARIABLE} (the README says where anyone gets it)"
        )
    else:
        population = synthetic.generate_population(generator, arguments.prices)
    if resources != len(BASE_RESOURCES):
        population = with_resources(population, resources, generator)
    return population


def _read_recorded(arguments: WorkloadArguments) -> Population:
    if arguments.path is None:
        raise TraceError(
            f"workload.source={arguments.source} reads from a folder, but none is named: give it by workload.path=…"
        )
    path = Path(arguments.path)
    if not path.exists():
        raise TraceError(f"workload.path={path}: there is no such folder")
    match arguments.source:
        case "csv":
            return csv_trace.read_population(path, arguments.prices)
        case "kubectl":
            return kubectl.read_population(path, arguments.prices)
        case _:
            return recorded.read_population(path, arguments.assumed_seconds, arguments.prices)


def _with_recorded_resources(population: Population, count: int) -> Population:
    """The first `count` resources of what was recorded; nothing is invented."""
    if count > len(population.resources):
        raise TraceError(
            f"{population.name}: there are {len(population.resources)} resources in it "
            f"({', '.join(population.resources)}), not {count}"
        )
    if count == CPU_AND_MEMORY:
        return without_further_resources(without_gpus(population), len(BASE_RESOURCES))
    return without_further_resources(population, count)
