"""Populations for tests."""

import numpy as np

from extender.placement import IntArray
from training.workloads.base import BASE_RESOURCES, Population, node_rows, shapes_from_rows

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
) -> Population:
    """Nodes given as (cpu milli, MiB, GPUs) and pods given as (cpu milli, MiB, GPUs, milli of each)."""
    allocatable, devices = node_rows(nodes, MIB)
    shapes, shape = shapes_from_rows(pods, MIB)
    return Population(
        name="by hand",
        resources=BASE_RESOURCES,
        allocatable=allocatable,
        devices=devices,
        shapes=shapes,
        shape=shape,
        duration=np.array(durations if durations else [100.0] * len(pods)),
        priority=np.zeros(len(pods), np.int64) if priorities is None else priorities,
        hour_weights=hour_weights,
        gap_variation=gap_variation,
    )
