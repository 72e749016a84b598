"""Where the pods of a workload may run, evaluated into one mask."""

from collections.abc import Iterable, Sequence

import numpy as np

from extender.admission import Constraint, Place
from extender.placement import BoolArray


def admitted_nodes(constraints: Iterable[Constraint], nodes: Sequence[Place]) -> tuple[list[int], BoolArray]:
    """Number the distinct constraints, and say where each allows a pod to run.

    Returns:
        the number of each pod's constraint, and (C, M) bool.
    """
    numbers: dict[Constraint, int] = {}
    of_pod = [numbers.setdefault(constraint, len(numbers)) for constraint in constraints]
    mask = [[constraint.admits(node) for node in nodes] for constraint in numbers]
    return of_pod, np.array(mask, dtype=np.bool_).reshape(len(numbers), len(nodes))
