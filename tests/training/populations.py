"""Populations for tests."""

import numpy as np

from extender.placement import BoolArray, IntArray
from training.workloads.arrivals import Rhythm
from training.workloads.assembly import PodColumns, assemble, columns_of_nodes, request_columns
from training.workloads.base import Population

MIB = 1024 * 1024
EVEN = Rhythm(np.ones(24), gap_variation=1.0)


def population_of(
    nodes: list[tuple[int, int, int]],
    pods: list[tuple[int, int, int, int]],
    *,
    durations: list[float] | None = None,
    priorities: IntArray | None = None,
    rhythm: Rhythm = EVEN,
    arrivals: list[float] | None = None,
    models: list[str] | None = None,
    constraints: IntArray | None = None,
    admitted: BoolArray | None = None,
) -> Population:
    """Nodes given as (cpu milli, MiB, GPUs) and pods given as (cpu milli, MiB, GPUs, milli of each).

    Pod p may run on the nodes `admitted[constraints[p]]`.
    """
    return assemble(
        "by hand",
        columns_of_nodes(nodes, MIB, models),
        PodColumns(
            *request_columns(pods, MIB),
            duration=np.array(durations if durations else [100.0] * len(pods)),
            priority=np.zeros(len(pods), np.int64) if priorities is None else priorities,
            arrival=None if arrivals is None else np.array(arrivals),
            constraint=constraints,
            admitted=admitted,
        ),
        rhythm=rhythm,
    )
