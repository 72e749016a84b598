"""Populations for tests."""

import numpy as np

from extender.placement import BoolArray, IntArray
from training.workloads.assembly import PodColumns, assemble, columns_of_nodes, request_columns
from training.workloads.base import Population

MIB = 1024 * 1024
EVEN_DAY = np.ones(24)


def population_of(
    nodes: list[tuple[int, int, int]],
    pods: list[tuple[int, int, int, int]],
    *,
    durations: list[float] | None = None,
    priorities: IntArray | None = None,
    hour_weights: np.ndarray = EVEN_DAY,
    gap_variation: float = 1.0,
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
            constraint=constraints,
            admitted=admitted,
        ),
        hour_weights=hour_weights,
        gap_variation=gap_variation,
    )
