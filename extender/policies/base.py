"""What every policy is: scores for the candidates of one pod, higher is better.

A trained policy and a hand-written rule answer the same question from the same arrays, so the server, the simulator
and the evaluation can put any of them in the other's place. Scores are floats; only `decision` ranks them.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from extender.placement import Candidates, IntArray, NodeArrays, PodRequest
from extender.typical import Records

if TYPE_CHECKING:
    from extender.policies.onnx import Described

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
class WorkloadAware(Policy, Protocol):
    """A policy that values nodes by what the workload's typical pods could still do there.

    It knows GPU models by name, and has to be told what the numbers in `NodeArrays.model` stand for.
    """

    def for_workload(self, models: Sequence[str], recent: Records = ()) -> Policy:
        """The same policy for nodes with these models and pods like these.

        Args:
            models: names, in the order of the numbers; the empty name stands for a model that is not known.
            recent: the typical pods; none: those that it brings.
        """
        ...


class NodeView(NamedTuple):
    """The nodes as they are now, and how often each has changed.

    Attributes:
        nodes: N rows.
        generation: (N,) or longer, int64; another number where a row changed.
    """

    nodes: NodeArrays
    generation: IntArray


class Scored(NamedTuple):
    """Where a pod fits, and how good that is; `scores` has one entry per candidate."""

    candidates: Candidates
    scores: ScoreArray


class Rater(Protocol):
    """Finds the candidates of a pod and scores them in time: a policy as it is served."""

    name: str

    def rate(self, view: NodeView, pod: PodRequest, rows: IntArray, until: float) -> Scored:
        """Score the candidates on these rows, as `placement.list_candidates` lists them.

        Args:
            view: all nodes.
            pod: to be placed.
            rows: (n,) int64, the nodes to look at.
            until: `time.perf_counter()` at which the scores are of no use any more.

        Raises:
            DeadlineError: it took too long.
            PolicyError: there are no scores.
        """
        ...

    def refresh(self, view: NodeView, pod: PodRequest, rows: IntArray) -> None:
        """These rows have changed and a pod like this one may come next: do now what need not be done while it waits.

        Args:
            view: all nodes.
            pod: the one that came last.
            rows: (n,) int64, a few.
        """
        ...

    def described(self, chosen: Candidates) -> "Described | None":
        """What a policy file was told of some of the candidates that it has just rated; None from a rule."""
        ...

    def for_workload(self, models: Sequence[str], recent: Records = ()) -> "Rater":
        """The same for nodes with these GPU models and pods like these; see `WorkloadAware`."""
        ...


class PolicyError(Exception):
    """A policy could not be loaded or gave an answer that cannot be used; the message says what to do."""
