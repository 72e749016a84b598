"""What every policy is: scores for the candidates of one pod, higher is better.

A trained policy and a hand-written rule answer the same question from the same arrays, so the server, the simulator
and the evaluation can put any of them in the other's place. Scores are floats; only `decision` ranks them.
"""

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from extender.placement import Candidates, NodeArrays, PodRequest

ScoreArray = NDArray[np.float32] | NDArray[np.float64]


class Policy(Protocol):
    """Scores candidates; holds no state of the cluster."""

    name: str

    def scores(self, nodes: NodeArrays, pod: PodRequest, candidates: Candidates) -> ScoreArray:
        """Score the candidates.

        Returns:
            (K,), one score per candidate, higher is better, finite.
        """
        ...


@runtime_checkable
class ModelAware(Policy, Protocol):
    """A policy that knows GPU models by name, and has to be told what the numbers in `NodeArrays.model` stand for."""

    def for_models(self, models: Sequence[str]) -> Policy:
        """The same policy for nodes with these models.

        Args:
            models: names, in the order of the numbers; the empty name stands for a model that is not known.
        """
        ...


class PolicyError(Exception):
    """A policy could not be loaded or gave an answer that cannot be used; the message says what to do."""
