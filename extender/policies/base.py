"""What every policy is: scores for the candidates of one pod, higher is better.

A trained policy and a hand-written rule answer the same question from the same arrays, so the server, the simulator
and the evaluation can put any of them in the other's place. Scores are floats; only `decision` ranks them.
"""

from typing import Protocol

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


class PolicyError(Exception):
    """A policy could not be loaded or gave an answer that cannot be used; the message says what to do."""
