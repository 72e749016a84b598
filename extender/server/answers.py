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


def record_of(
    pod: PodIdentity,
    request: PodRequest,
    made: Decision,
    answer: Answer,
    features: str,
    latency: float,
    tried: bool = False,
) -> DecisionRecord:
    """A line for the decision log.

    Args:
        pod: the pod.
        request: what it asks for.
        made: what was decided on it.
        answer: the same with the nodes' names, as it counts.
        features: digest of what it rests on.
        latency: seconds from the complete question to the answer.
        tried: whether nobody was answered that, see `DecisionRecord`.
    """
    return DecisionRecord(
        time=time.time(),
        namespace=pod.namespace,
        pod=pod.name,
        uid=pod.uid,
        **recorded(request),
        candidates=made.candidates,
        features=features,
        chosen=answer.nodes[0].name if answer.nodes else None,
        propensity=1.0,  # the policies here draw no lots
        rung=answer.rung,
        scores=[(node.name, node.score) for node in answer.nodes],
        policy=answer.policy,
        latency=latency,
        tried=tried,
    )
