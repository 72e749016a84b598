"""What is said of a pod, and how it is written down.

`scoring` answers, `trial` says what another policy would have answered; both write the same kind of record.
"""

import time
from collections.abc import Callable
from typing import NamedTuple

from extender.decision import Decision, Ranking, Rung
from extender.features_digest import recorded
from extender.placement import PodRequest
from extender.telemetry.decision_records import DecisionRecord


class PodIdentity(NamedTuple):
    """Which pod is asked about; `uid` is the one that the watch will use."""

    namespace: str
    name: str
    uid: str


class RankedNode(NamedTuple):
    """A node of an answer."""

    name: str
    score: float
    priority: int


class Answer(NamedTuple):
    """An answer to prioritize, best node first; no nodes means no opinion.

    Attributes:
        nodes: best first.
        rung: what gave it.
        policy: digest of the policy that was asked.
    """

    nodes: list[RankedNode]
    rung: Rung
    policy: str


def named(ranking: Ranking, name_of: Callable[[int], str]) -> list[RankedNode]:
    """The nodes of a ranking, by name."""
    return [
        RankedNode(name_of(row), score, priority)
        for row, score, priority in zip(
            ranking.rows.tolist(), ranking.scores.tolist(), ranking.priorities.tolist(), strict=True
        )
    ]


class Answered(NamedTuple):
    """A pod that was asked about, and what came of it.

    Attributes:
        pod: the pod.
        request: what it asks for.
        made: what was decided on it.
        answer: the same with the nodes' names, as it counts.
        features: digest of what it rests on; empty if nobody looked at any.
        latency: seconds from the complete question to the answer.
    """

    pod: PodIdentity
    request: PodRequest
    made: Decision
    answer: Answer
    features: str
    latency: float

    def record(self, tried: bool = False) -> DecisionRecord:
        """A line for the decision log; `tried` if nobody was answered that, see `DecisionRecord`."""
        nodes = self.answer.nodes
        return DecisionRecord(
            time=time.time(),
            namespace=self.pod.namespace,
            pod=self.pod.name,
            uid=self.pod.uid,
            **recorded(self.request),
            candidates=self.made.candidates,
            features=self.features,
            chosen=nodes[0].name if nodes else None,
            propensity=1.0,  # the policies here draw no lots
            rung=self.answer.rung,
            scores=[(node.name, node.score) for node in nodes],
            policy=self.answer.policy,
            latency=self.latency,
            tried=tried,
        )
