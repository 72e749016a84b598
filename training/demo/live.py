"""A simulated cluster that stands still at every decision, so that it can be looked at.

`LiveCluster` plays the same episodes as an evaluation, by the same event loop, but stops where a policy has a choice.
What it says of a decision comes from the extender: `decision.rank` orders the nodes, and `server.explain` tells what
each feature has to do with their scores.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from extender.decision import Ranking, Rung, rank
from extender.features import placement_features
from extender.placement import CPU, GPU, MEMORY, Candidates, PodRequest
from extender.policies.base import Policy
from extender.policies.heuristics import Heuristic
from extender.policies.onnx import Described, OnnxPolicy
from extender.server.explain import Explained, describe
from extender.valuation import valuation_columns, workload_profile
from training.replay.manifests import node_name
from training.simulator.scheduling import SchedulerArguments, carry_out, play_to_decision, prepare
from training.simulator.state import ARRIVED, CURRENT, NOW, PARKED, PLACED, WAITING, pod_request_of
from training.workloads.base import FloatArray, IntArray, Workload

SECOND_OPINION = "kube-scheduler-default"
GIB = 1024**3
COURSE_POINTS = 601  # more than a chart has pixels to show


@dataclass(frozen=True)
class Decision:
    """A pod that is about to be placed.

    Attributes:
        pod: its number in the workload.
        request: what it asks for.
        candidates: where it fits.
        ranking: the best nodes, as kube-scheduler would be told them.
        explanation: what GET /explain of an extender would answer, see `server.explain.describe`.
        usual_row: the node that kube-scheduler's own scorings would have taken.
    """

    pod: int
    request: PodRequest
    candidates: Candidates
    ranking: Ranking
    explanation: dict[str, Any]
    usual_row: int


class Moment(NamedTuple):
    """How the cluster was at a decision."""

    seconds: float
    gpu_in_use: float  # share of all
    cpu_in_use: float
    waiting: int  # pods


class Course(NamedTuple):
    """How the cluster was over time; (T,) each, evenly spaced. Without preemption: a pod runs once."""

    seconds: FloatArray
    waiting: FloatArray  # pods
    gpu_in_use: FloatArray  # share of all
    cpu_in_use: FloatArray


class WaitingPod(NamedTuple):
    """A pod in the queue."""

    pod: int
    asks_for: str
    seconds: float  # since it waits


class _Choice(NamedTuple):
    pod: int
    request: PodRequest
    candidates: Candidates
    told: Described | None  # None for a rule
    ranking: Ranking


class LiveCluster:
    """An episode in the hands of somebody who looks at it.

    Attributes:
        workload: what is played.
        policy: who decides.
        history: one moment per decision so far.
    """

    def __init__(self, workload: Workload, policy: str | Policy, seed: int) -> None:
        """Begin an episode and play to its first decision.

        Args:
            workload: the cluster and its pods; as many resources as the policy knows.
            policy: a rule's name, or any policy; a policy file is told the workload's typical pods, as in evaluations.
            seed: of what kube-scheduler leaves to chance.
        """
        self.workload = workload
        self.policy = Heuristic(policy, workload.typical) if isinstance(policy, str) else policy
        self.history: list[Moment] = []
        self._usual = Heuristic(SECOND_OPINION)
        self._episode = prepare(workload, SchedulerArguments())
        self._profile = workload_profile(workload.typical, self._episode.cluster.nodes)
        count, slots = self._episode.cluster.nodes.device_free.shape
        self._room = tuple(np.empty(size, np.int64) for size in (count, count * slots, count * slots))
        self._generator = np.random.default_rng(seed)
        self._choice: _Choice | None = None
        self._look()

    @cached_property
    def decision(self) -> Decision | None:
        """What is being decided; None when the episode is over."""
        choice = self._choice
        if choice is None:
            return None
        nodes = self._episode.cluster.nodes
        usual = rank(self._usual.scores(nodes, choice.request, choice.candidates), choice.candidates)
        explanation = self._explain(choice)
        return Decision(choice.pod, choice.request, choice.candidates, choice.ranking, explanation, int(usual.rows[0]))

    @property
    def seconds(self) -> float:
        """Simulated time since the beginning."""
        return float(self._episode.clock[NOW])

    @property
    def started(self) -> int:
        """How many pods have been started so far."""
        return int(self._episode.counters[PLACED])

    @property
    def arrived(self) -> int:
        """How many pods have come so far."""
        return int(self._episode.counters[ARRIVED])

    @property
    def mean_wait_seconds(self) -> float:
        """Of the pods that have come so far; those that wait count with their wait so far."""
        return float(self._episode.clock[1 + WAITING]) / max(self.arrived, 1)

    @property
    def stranded_gpu(self) -> float:
        """Share of all GPUs that is free, and that typical pods cannot use."""
        devices = float(self.workload.devices.sum())
        return float(self._episode.cluster.rates[0]) / 1000.0 / devices if devices else 0.0

    def advance(self, decisions: int) -> None:
        """Carry out so many decisions, or as many as are left."""
        for _ in range(decisions):
            if self._choice is None:
                return
            best = self._choice.ranking
            carry_out(self._episode, best.rows[0], best.devices[0])
            self._look()

    def fill(self, decisions: int) -> None:
        """Play on until the cluster is about as full as it will be, and there is still something to decide.

        Args:
            decisions: to carry out; fewer where half of the pods have come before.
        """
        while decisions > 0 and 2 * self.arrived < len(self.workload):
            self.advance(1)
            decisions -= 1

    def course(self) -> Course:
        """How many pods waited and what was in use over the time so far, also where there was nothing to decide."""
        now, pods = self.seconds, self._episode.pods
        request = self._episode.shapes.request[pods.shape]
        whole = np.maximum(self.workload.allocatable.sum(axis=0), 1)
        times = np.linspace(0.0, now, COURSE_POINTS)

        def until(ends: FloatArray, amounts: FloatArray) -> FloatArray:
            """Sum of the amounts whose time has come, at each time; NaN never comes."""
            order = np.argsort(ends)
            summed = np.concatenate([[0.0], np.cumsum(amounts[order])])
            return summed[np.searchsorted(ends[order], times, side="right")]

        one = np.ones(len(pods.arrival))
        gpu, cpu = (
            until(pods.started, request[:, at] / whole[at]) - until(pods.finishes, request[:, at] / whole[at])
            for at in (GPU, CPU)
        )
        return Course(times, until(pods.arrival, one) - until(pods.started, one), gpu, cpu)

    def used_shares(self) -> FloatArray:
        """Share of each resource that is in use on each node; (N, R), 0 where a node has none of it."""
        nodes = self._episode.cluster.nodes
        return np.asarray(nodes.requested / np.maximum(nodes.allocatable, 1), np.float64)

    def device_free_milli(self) -> IntArray:
        """(N, D) thousandths of each device that are free; `ABSENT_DEVICE` where there is none."""
        return self._episode.cluster.nodes.device_free

    def pods_on_nodes(self) -> IntArray:
        """(N,) how many pods run on each node."""
        return self._episode.cluster.pod_count

    def queue(self) -> list[WaitingPod]:
        """Who waits, the longest wait first."""
        episode = self._episode
        heaps = [heap.items[: heap.size[0]] for heap in (episode.active, episode.backoff)]
        pods = np.concatenate([*heaps, episode.parked[: episode.counters[PARKED]]])
        waits = self.seconds - episode.pods.pending_since[pods]
        order = np.argsort(-waits, kind="stable")
        return [
            WaitingPod(int(pod), asked(pod_request_of(episode, int(pod))), float(wait))
            for pod, wait in zip(pods[order], waits[order], strict=True)
        ]

    def _look(self) -> None:
        episode = self._episode
        feasible, rows, devices = self._room
        listed = play_to_decision(episode, feasible, rows, devices, self._generator)
        self._remember()
        self.__dict__.pop("decision", None)
        self._choice = self._choose(Candidates(rows[:listed].copy(), devices[:listed].copy())) if listed else None

    def _choose(self, candidates: Candidates) -> "_Choice":
        pod = int(self._episode.counters[CURRENT])
        request = pod_request_of(self._episode, pod)
        told = self._told(request, candidates)
        if told is None:
            scores = self.policy.scores(self._episode.cluster.nodes, request, candidates)
        else:
            scores = told.policy.score_features(told.inputs)
        return _Choice(pod, request, candidates, told, rank(scores, candidates))

    def _told(self, request: PodRequest, candidates: Candidates) -> Described | None:
        """What a policy file is told of the candidates; None for a rule."""
        if not isinstance(self.policy, OnnxPolicy):
            return None
        nodes, tables = self._episode.cluster.nodes, self._episode.tables
        if self.policy.weighs:
            return Described(self.policy, valuation_columns(nodes, request, candidates, tables, self._profile))
        return Described(self.policy, placement_features(nodes, request, candidates, tables))

    def _explain(self, choice: "_Choice") -> dict[str, Any]:
        pod, _, candidates, told, ranking = choice
        chosen = [
            int(np.flatnonzero((candidates.rows == row) & (candidates.devices == device))[0])
            for row, device in zip(ranking.rows, ranking.devices, strict=True)
        ]
        names = [node_name(int(row)) for row in ranking.rows]
        return describe(
            Explained(
                time=self.seconds,
                pod=f"default/pod-{pod:06d}",
                uid=f"uid-pod-{pod:06d}",
                rung=Rung.POLICY,
                told=True,
                policy=self.policy.name,
                candidates=len(candidates.rows),
                nodes=list(zip(names, ranking.scores.tolist(), ranking.priorities.tolist(), strict=True)),
                failures=[],
                described=None if told is None else Described(told.policy, told.inputs[chosen]),
            )
        )

    def _remember(self) -> None:
        cluster, counters = self._episode.cluster, self._episode.counters
        in_use = cluster.in_use / np.maximum(self.workload.allocatable.sum(axis=0), 1)
        waiting = self._episode.active.size[0] + self._episode.backoff.size[0] + counters[PARKED]
        self.history.append(Moment(self.seconds, float(in_use[GPU]), float(in_use[CPU]), int(waiting)))


def asked(request: PodRequest) -> str:
    """What a pod asks for, for people.

    Example:
        >>> from extender.placement import pod_request
        >>> asked(pod_request(np.array([4000, 8 * 1024**3, 500]), gpu_count=1, gpu_milli=500))
        '4 CPU, 8 GiB, 0.5 GPU'
    """
    parts = [f"{request.request[CPU] / 1000:g} CPU", f"{request.request[MEMORY] / GIB:.3g} GiB"]
    if request.gpu_count:
        parts.append(f"{request.gpu_count * request.gpu_milli / 1000:g} GPU")
    return ", ".join(parts)
