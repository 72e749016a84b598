"""From a pod and the nodes it may go to, to a ranking that kube-scheduler cannot misread.

Candidates are scored by the first policy of a ladder that gives a usable answer in time; a node counts with its best
candidate.
kube-scheduler knows eleven levels and picks at random among equals, so the floats become ranks: the best node alone
at 10, the next nine below it, the rest left out (a host left out counts 0). Nothing here does I/O or changes the
state; `server.scoring` asks, and assumes what came out on top.
"""

from collections.abc import Callable, Sequence
from enum import StrEnum
from typing import NamedTuple

import numpy as np

from extender.cluster.state import UNKNOWN_ROW, ClusterState
from extender.placement import (
    BoolArray,
    Candidates,
    IntArray,
    PodRequest,
    shares_device,
)
from extender.policies.base import NodeView, PolicyError, Rater, ScoreArray, Scored
from extender.policies.breaker import Breaker
from extender.policies.kept import UnpreparedError
from extender.policies.onnx import Described
from extender.policies.worker import DeadlineError

MAX_PRIORITY = 10  # MaxExtenderPriority, k8s.io/kube-scheduler/extender/v1/types.go
RANKED_AT_MOST = 10


class PolicyOutputError(PolicyError):
    """A policy gave scores that cannot be ranked; the message says which."""


class Rung(StrEnum):
    """What an answer came from."""

    POLICY = "policy"
    HEURISTIC = "heuristic"  # the policy failed, or took too long
    NEUTRAL = "neutral"  # everything failed: no opinion, kube-scheduler decides alone
    STALE = "stale"  # no opinion, because the API server has not been heard of for too long
    NONE_FEASIBLE = "none_feasible"  # no opinion, because the pod fits none of the nodes in our books
    REQUEST_REFUSED = "request_refused"  # no opinion on a pod whose GPU request makes no sense
    SHADOW = "shadow"  # no opinion, because the policy is only watched (mode shadow, or not among a canary's pods)
    NOT_READY = "not_ready"  # no opinion before nodes and pods have been listed


class Ranking(NamedTuple):
    """The best nodes, best first; K <= `RANKED_AT_MOST`.

    Attributes:
        rows: (K,) int64.
        devices: (K,) int64, the device that the pod would share there, `ANY_DEVICE` if it shares none.
        scores: (K,) float64, the policy's.
        priorities: (K,) int64, strictly decreasing from `MAX_PRIORITY`.
    """

    rows: IntArray
    devices: IntArray
    scores: ScoreArray
    priorities: IntArray


class FailureKind(StrEnum):
    """Why a policy gave no usable scores."""

    ERROR = "error"  # it raised, or its scores cannot be ranked
    DEADLINE = "deadline"  # it took too long, or no time was left for it
    BREAKER = "breaker"  # it was not asked, because it failed too often


class Failure(NamedTuple):
    """A policy that gave no usable scores; `reason` is for people."""

    rung: Rung
    kind: FailureKind
    reason: str


class Step(NamedTuple):
    """One policy of the ladder.

    Attributes:
        rung: what its answers count under.
        rater: the policy.
        breaker: opens when it fails several times in a row; None: it is always asked.
        share: of the deadline, after which its scores are too late; what is left is for the steps below.
    """

    rung: Rung
    rater: Rater
    breaker: Breaker | None = None
    share: float = 1.0


class Deadline(NamedTuple):
    """When an answer is due.

    Attributes:
        started: when the request was complete, by `clock`.
        seconds: how long the answer may take.
        clock: `time.perf_counter`, or what takes its place in tests.
    """

    started: float
    seconds: float
    clock: Callable[[], float]

    def until(self, share: float) -> float:
        """When so much of the time is over, by `clock`."""
        return self.started + share * self.seconds

    @property
    def passed(self) -> bool:
        """Whether it is too late for any policy."""
        return self.clock() >= self.until(1.0)


class Decision(NamedTuple):
    """An answer and where it came from.

    Attributes:
        ranking: empty for an answer without opinion.
        rung: what gave it.
        candidates: how many candidates were scored.
        failures: the policies that failed on the way, in their order.
        scored: what the ranking was made of, None for an answer without opinion.
        described: what a policy file was told of the nodes in the ranking, if it made that.
    """

    ranking: Ranking
    rung: Rung
    candidates: int
    failures: tuple[Failure, ...]
    scored: Scored | None = None
    described: Described | None = None


NO_RANKING = Ranking(np.empty(0, dtype=np.int64), np.empty(0, dtype=np.int64), np.empty(0), np.empty(0, dtype=np.int64))


def rank(scores: ScoreArray, candidates: Candidates) -> Ranking:
    """Order the nodes by their best candidate and give each of the top ten a priority of its own.

    Nodes with equal scores are ordered by row. Of a node's equal candidates the one listed first wins, which
    `list_candidates` makes the tightest device: the simulator decides so too.

    Args:
        scores: (K,) one per candidate, higher is better.

    Raises:
        PolicyOutputError: not one score per candidate, or one is NaN or infinite.

    Example:
        >>> on_nodes = Candidates(np.array([4, 7, 9, 7, 4]), np.array([2, 0, 0, 1, 0]))
        >>> ranking = rank(np.array([0.2, 0.1, 0.5, 0.9, 0.2]), on_nodes)
        >>> ranking.rows, ranking.devices, ranking.priorities
        (array([7, 9, 4]), array([1, 0, 2]), array([10,  9,  8]))
    """
    count = candidates.rows.shape[0]
    if scores.shape != (count,):
        raise PolicyOutputError(f"scores have the shape {scores.shape}: expected ({count},), one per candidate")
    if not np.isfinite(scores).all():
        bad = np.flatnonzero(~np.isfinite(scores))
        raise PolicyOutputError(
            f"{bad.shape[0]} of {count} scores are not finite; the first is number {bad[0]}: {scores[bad[0]]}"
        )
    # A node has at most one candidate per device, so this many of the best hold the ten best nodes.
    enough = RANKED_AT_MOST * (int(candidates.devices.max(initial=0)) + 1)
    best: IntArray = np.arange(count)
    if count > enough:
        least = np.partition(scores, count - enough)[count - enough]
        best = np.flatnonzero(scores >= least)
    # `best` is in the order of the list, and the sort is stable: that order decides what score and row leave open.
    best = best[np.lexsort((candidates.rows[best], -scores[best]))]
    first = np.unique(candidates.rows[best], return_index=True)[1]
    best = best[np.sort(first)[:RANKED_AT_MOST]]
    priorities = MAX_PRIORITY - np.arange(best.shape[0])
    return Ranking(candidates.rows[best], candidates.devices[best], scores[best], priorities)


def decide(view: NodeView, ladder: Sequence[Step], pod: PodRequest, rows: IntArray, deadline: Deadline) -> Decision:
    """Rank the nodes for the pod by the first policy of the ladder that does not fail.

    Args:
        view: all nodes.
        ladder: policies, best first.
        pod: to be placed.
        rows: (n,) int64, the nodes asked about, without `UNKNOWN_ROW`.
        deadline: when the answer is due.
    """
    failures: list[Failure] = []
    for step in ladder:
        until = deadline.until(step.share)
        name = step.rater.name
        if step.breaker is not None and not step.breaker.admits():
            failures.append(Failure(step.rung, FailureKind.BREAKER, f"{name}: not asked, it failed too often"))
            continue
        if deadline.clock() >= until:
            failures.append(Failure(step.rung, FailureKind.DEADLINE, f"{name}: no time was left for it"))
            continue
        try:
            scored = step.rater.rate(view, pod, rows, until)
            count = int(scored.candidates.rows.shape[0])
            if count == 0:
                return Decision(NO_RANKING, Rung.NONE_FEASIBLE, 0, tuple(failures))
            ranking = rank(scored.scores, scored.candidates)
        except Exception as error:
            # A policy is data from outside, and what ONNX Runtime raises has no base but Exception. The pod gets its
            # answer from the next rung; the failure is named here, counted and logged by `server.scoring`.
            kind = FailureKind.DEADLINE if isinstance(error, DeadlineError) else FailureKind.ERROR
            failures.append(Failure(step.rung, kind, f"{name}: {type(error).__name__}: {error}"))
            if step.breaker is not None and not isinstance(error, UnpreparedError):
                step.breaker.failed()
        else:
            if step.breaker is not None:
                step.breaker.succeeded()
            described = step.rater.described(Candidates(ranking.rows, ranking.devices))
            return Decision(ranking, step.rung, count, tuple(failures), scored, described)
    return Decision(NO_RANKING, Rung.NEUTRAL, 0, tuple(failures))


def lacking_devices(state: ClusterState, pod: PodRequest, rows: IntArray) -> BoolArray:
    """Which of the nodes have no devices for the pod, whatever their sums say.

    kube-scheduler adds up GPU thousandths per node; that no single device has room only we know. Nodes that we do not
    know are not held against the pod.

    Args:
        rows: (n,) int64, with `UNKNOWN_ROW` for unknown nodes.

    Returns:
        (n,) bool.
    """
    if pod.gpu_count == 0:
        return np.zeros(rows.shape[0], dtype=np.bool_)
    with_room = np.sum(state.arrays.device_free[rows] >= pod.gpu_milli, axis=1)
    lacking: BoolArray = (with_room < pod.gpu_count) & (rows != UNKNOWN_ROW)
    return lacking


def describe_lack(state: ClusterState, pod: PodRequest, row: int) -> str:
    """Why `lacking_devices` names the node, for `FailedNodes`."""
    free = state.arrays.device_free[row]
    free = free[free >= 0]
    if free.shape[0] == 0:
        return "the node has no GPU"
    if shares_device(pod):
        return f"no GPU has {pod.gpu_milli} thousandths free: the freest of {free.shape[0]} has {int(free.max())}"
    return f"{pod.gpu_count} whole GPUs wanted: {int(np.sum(free >= pod.gpu_milli))} of {free.shape[0]} are free"
