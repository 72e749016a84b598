"""Whether pods went where the policy would have sent them, and what it thinks of where they went instead.

`server.scoring` says what the policy thought of each node, the watch says where the pod is; what comes of it are two
metrics. In shadow they tell how a policy would differ before it steers anything; while it steers, how often other
scorings of kube-scheduler outvote it. Pods that were asked about too long ago to be remembered are not counted.
"""

from collections import OrderedDict
from collections.abc import Callable
from enum import StrEnum
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

REMEMBERED_AT_MOST = 256  # of 5,000 candidates each 15 MB; kube-scheduler binds within a second


class Agreement(StrEnum):
    """Where a pod went, as the policy sees it."""

    SAME = "same"  # to the node that it ranked first
    LISTED = "listed"  # to another one of its top ten
    OTHER = "other"  # to a candidate that it did not list
    UNKNOWN = "unknown"  # to a node that it was not asked about, or found no room on


class Opinion(NamedTuple):
    """What a policy thought of a pod's candidates.

    Attributes:
        listed: names of the nodes in its answer, best first.
        rows: (K,) int64, the candidates' nodes.
        scores: (K,), theirs.
        steered: whether kube-scheduler was told.
    """

    listed: list[str]
    rows: NDArray[np.int64]
    scores: NDArray[np.floating]
    steered: bool


class Agreements:
    """Compares opinions with what happened.

    Example:
        >>> told = []
        >>> agreements = Agreements(["a", "b"].index, lambda *what: told.append(what))
        >>> agreements.remember("uid", Opinion(["b"], np.array([0, 1]), np.array([1.0, 3.0]), True))
        >>> agreements.pod_on("uid", "a")
        >>> told
        [(True, <Agreement.OTHER: 'other'>, 1.0)]
    """

    def __init__(self, row_of: Callable[[str], int], report: Callable[[bool, Agreement, float | None], None]) -> None:
        """Know no pod.

        Args:
            row_of: a node's row.
            report: told whether kube-scheduler was steered, the agreement, and the regret: how much worse the policy
                finds the pod's node than its best, from 0 to 1 (its worst candidate); None where it was not asked.
        """
        self._row_of = row_of
        self._report = report
        self._opinions: OrderedDict[str, Opinion] = OrderedDict()

    def remember(self, uid: str, opinion: Opinion) -> None:
        """The policy was asked about the pod; a later opinion takes the place of an earlier one."""
        self._opinions[uid] = opinion
        self._opinions.move_to_end(uid)
        if len(self._opinions) > REMEMBERED_AT_MOST:
            self._opinions.popitem(last=False)

    def pod_on(self, uid: str, node: str) -> None:
        """The pod is on the node."""
        opinion = self._opinions.pop(uid, None)
        if opinion is None:
            return
        there = opinion.scores[opinion.rows == self._row_of(node)]
        if len(there) == 0:
            self._report(opinion.steered, Agreement.UNKNOWN, None)
            return
        best, worst = float(opinion.scores.max()), float(opinion.scores.min())
        regret = (best - float(there.max())) / (best - worst) if best > worst else 0.0
        if node == opinion.listed[0]:
            agreement = Agreement.SAME
        else:
            agreement = Agreement.LISTED if node in opinion.listed else Agreement.OTHER
        self._report(opinion.steered, agreement, regret)
