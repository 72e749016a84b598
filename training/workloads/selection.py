"""Which workload a run uses: a trace where one is found, else the built-in generator."""

from dataclasses import dataclass
from typing import Annotated

import numpy as np
from pydantic import Field

from training.workloads import openb, synthetic
from training.workloads.base import BASE_RESOURCES, Population, with_resources

GENERATOR_SEED = 20231  # the built-in population is one fixed population; what is drawn from it differs by run


@dataclass
class WorkloadArguments:
    """Where nodes, pods and arrivals come from."""

    source: Annotated[
        str,
        Field(pattern="^(auto|openb|synthetic)$", description="auto: openb where the trace is found, else synthetic"),
    ] = "auto"
    traces: Annotated[
        str | None, Field(description="folder with the openb files; else STOWAGE_TRACES, else ../shared/traces")
    ] = None
    mix: Annotated[str, Field(min_length=1, description="openb's pod list: default, cpu050, gpushare40, …")] = "default"
    process: Annotated[str, Field(pattern="^(poisson|bursty|diurnal)$", description="how pods arrive")] = "poisson"
    shortest_seconds: Annotated[float, Field(gt=0, description="durations are clipped to at least this")] = 30.0
    longest_seconds: Annotated[float, Field(gt=0, description="… and to at most this")] = 7200.0


def load_population(arguments: WorkloadArguments, resources: int) -> Population:
    """The population that a run draws from; its `name` says which it is.

    Raises:
        TraceError: openb was asked for, or a folder was named, and the files are not there or not readable.
    """
    folder = None if arguments.source == "synthetic" else openb.find_traces(arguments.traces)
    generator = np.random.default_rng(GENERATOR_SEED)
    if folder is not None:
        population = openb.read_population(folder, arguments.mix)
    elif arguments.source == "openb":
        raise openb.TraceError(
            f"workload.source=openb, but no trace was found: name the folder with {openb.NODE_FILE} by "
            f"workload.traces=… or {openb.TRACES_VARIABLE} (the README says where anyone gets it)"
        )
    else:
        population = synthetic.generate_population(generator)
    if resources != len(BASE_RESOURCES):
        population = with_resources(population, resources, generator)
    return population
