"""What every way in does for a pod: decide, assume, count, write down.

`http` and `rpc` translate; here the questions are answered. All of it runs on the event loop, one question before the
next one is looked at, so two pods never see the same free space. The event loop waits for nothing but the policy, and
for that no longer than a request's deadline. What need not be done before the answer is sent is done `later`.
"""

import logging
import time
from collections import deque
from collections.abc import Callable, Sequence

import numpy as np

from extender import decision
from extender.cluster.assume import Assumptions
from extender.cluster.feed import ClusterFeed
from extender.cluster.recent import RecentPods
from extender.cluster.state import UNKNOWN_ROW, ClusterState
from extender.decision import NO_RANKING, Deadline, Decision, Failure, FailureKind, Rung, Step
from extender.features_digest import features_digest
from extender.placement import ANY_DEVICE, IntArray, NodeArrays, PodRequest, shares_device
from extender.policies.base import NodeView
from extender.server.answers import Answer, Answered, PodIdentity, named
from extender.server.explain import Explained, Explanations
from extender.server.trial import SECONDS_BETWEEN_REPORTS, Question, Trial
from extender.telemetry.agreement import Agreements, Opinion
from extender.telemetry.decision_log import DecisionLog
from extender.telemetry.logs import about_pod
from extender.telemetry.metrics import Metrics
from extender.telemetry.outcomes import Outcomes
from extender.telemetry.tracing import current_span
from extender.typical import Records

SAMPLED = 32  # pods that another policy is tried on before it takes over

log = logging.getLogger(__name__)


class UnknownNodesError(ValueError):
    """None of the nodes asked about exists in a cluster that we know completely."""


class Scorer:
    """Answers for one policy and one cluster.

    Attributes:
        policy_digest: SHA-256 of the policy file, or the name of a heuristic.
        explanations: of the last answers.
    """

    def __init__(
        self,
        state: ClusterState,
        assumptions: Assumptions,
        feed: ClusterFeed,
        ladder: Sequence[Step],
        policy_digest: str,
        metrics: Metrics,
        decision_log: DecisionLog | None,
        deadline_seconds: float,
        is_stale: Callable[[], bool],
        outcomes: Outcomes | None = None,
        steers: Callable[[str], bool] = lambda uid: True,
        recent_pods: RecentPods | None = None,
        later: Callable[[Callable[[], None]], object] = lambda work: work(),
    ) -> None:
        """Begin to answer.

        Args:
            state: the cluster.
            assumptions: of that state.
            feed: of that state.
            ladder: policies, best first.
            policy_digest: of the first of them.
            metrics: where answers are counted.
            decision_log: where they are written down, if anywhere.
            deadline_seconds: from a complete request to its answer.
            is_stale: whether what is known of the cluster is too old to steer by.
            outcomes: what follows the pods that were decided on, if anything.
            steers: whether kube-scheduler is told the answer for the pod with this uid, or it is only recorded.
            recent_pods: from which typical pods are estimated; None: policies keep to those that they bring.
            later: does something once the answer has been sent, before anything is heard of what comes of it.
        """
        self._later = later
        self._outcomes = outcomes
        self.policy_digest = policy_digest
        self.explanations = Explanations()
        self._state = state
        self._assumptions = assumptions
        self._feed = feed
        self._ladder = tuple(ladder)
        self._models: tuple[str, ...] = ()  # those that the policies in `_bound` know
        self._recent: Records = ()  # the same of typical pods
        self._recent_pods = recent_pods
        self._bound = self._ladder
        self._trial: Trial | None = None
        self._metrics = metrics
        self._decision_log = decision_log
        self._deadline_seconds = deadline_seconds
        self._is_stale = is_stale
        self._quiet_until = float("-inf")
        # All rungs are counted from 0, so that the first fallback is a change that alerts see.
        self._decisions = {rung: metrics.decisions.labels(rung) for rung in Rung}
        for step in self._ladder:
            for kind in FailureKind:
                metrics.policy_failures.labels(step.rung, kind)
        metrics.breaker_open.set_function(
            lambda: sum(step.breaker.open for step in self._ladder if step.breaker is not None)
        )
        self._steers = steers
        self._agreements = Agreements(state.row_of, metrics.agree)
        self._asked: deque[tuple[PodRequest, IntArray]] = deque(maxlen=SAMPLED)

    @property
    def resources(self) -> tuple[str, ...]:
        """Names of the resources that the policy sees."""
        return self._state.resources

    @property
    def models(self) -> tuple[str, ...]:
        """Names of the GPU models, by their numbers."""
        return self._state.models

    @property
    def recent(self) -> Records:
        """The typical pods that the policies in service know; none where they keep to their own."""
        return self._recent

    def serve(self, ladder: Sequence[Step], policy_digest: str) -> None:
        """Answer by these policies from the next request on."""
        self._ladder = tuple(ladder)
        self._models, self._bound = (), self._ladder
        self.policy_digest = policy_digest

    def try_beside(self, trial: Trial | None) -> None:
        """Try another policy beside these from the next request on, or none any more."""
        self._trial = trial

    def sample(self) -> tuple[NodeArrays, list[tuple[PodRequest, IntArray]]]:
        """A copy of the nodes as they are, and the pods that were asked about lately with the rows of their nodes."""
        nodes = self._view_to_keep().nodes
        return nodes, [(pod, rows[rows < len(nodes.model)]) for pod, rows in self._asked]

    def pod_on(self, uid: str, node: str) -> None:
        """The watch says that the pod is on the node."""
        self._agreements.pod_on(uid, node)

    def prioritize(self, pod: PodIdentity, request: PodRequest, names: list[str], started: float) -> Answer:
        """Rank the nodes and assume the pod on the best one.

        Args:
            started: `time.perf_counter()` when the request was complete.

        Raises:
            UnknownNodesError: none of the nodes exists.
        """
        about_pod(pod.namespace, pod.name)
        self._make_way(pod.uid)
        if not self._feed.ready:
            return self._answer(pod, request, Decision(NO_RANKING, Rung.NOT_READY, 0, ()), self.policy_digest, started)
        if self._is_stale():
            return self._answer(pod, request, Decision(NO_RANKING, Rung.STALE, 0, ()), self.policy_digest, started)
        deadline = Deadline(started, self._deadline_seconds, time.perf_counter)
        # Nothing is looked up for an answer that is late already: it would make those that wait behind it later still.
        rows = self._state.rows_of([] if deadline.passed else names)
        known = rows[rows != UNKNOWN_ROW]
        unknown = rows.shape[0] - known.shape[0]
        if unknown:
            self._metrics.unknown_nodes.inc(unknown)
            if known.shape[0] == 0:
                raise UnknownNodesError(
                    f"none of the {len(names)} nodes asked about is known, the first is {names[0]!r}: expected nodes "
                    f"of the cluster that is watched, which has {len(self._state)}"
                )
        made, trial = self._decide(pod.uid, request, known, deadline)
        policy = trial.digest if trial is not None and trial.answered(made) else self.policy_digest
        # What a candidate failed at is counted by its trial.
        if failures := made.failures if trial is None else made.failures[1:]:
            self._report_failures(failures, started)
        seen = features_digest(self._state.arrays, request, made.ranking.rows) if self._decision_log is not None else ""
        if known.shape[0]:
            self._asked.append((request, known))
        if known.shape[0] and self._trial is not None and self._trial.looks_on:
            told = self._state.name_of(int(made.ranking.rows[0])) if made.rung is Rung.POLICY else None
            view = self._view_to_keep()
            self._trial.look_on(Question(pod, request, names, rows, known, view, self._models, self._recent, told))
        steered = self._steers(pod.uid)
        if steered and made.ranking.rows.shape[0]:
            best = made.ranking.rows[:1]
            self._assumptions.assume(pod.uid, self._state.name_of(int(best[0])), request, int(made.ranking.devices[0]))
            if made.rung is Rung.POLICY:
                self._later(lambda: self._refresh(request, best))
        return self._answer(pod, request, made, policy, started, seen, steered)

    def _view_to_keep(self) -> NodeView:
        nodes = NodeArrays._make(array.copy() for array in self._state.nodes)
        return NodeView(nodes, self._state.generation.copy())

    def _trace(self, made: Decision, answer: Answer) -> None:
        span = current_span()
        if span is None:
            return
        span.set_attributes(
            {
                "stowage.candidates": made.candidates,
                "stowage.rung": answer.rung,
                "stowage.policy.digest": answer.policy,
            }
        )
        if answer.nodes:
            span.set_attributes({"stowage.node": answer.nodes[0].name})
        for failure in made.failures:
            span.add_event("no usable scores", {"kind": failure.kind, "reason": failure.reason})

    def _decide(
        self, uid: str | None, request: PodRequest, rows: IntArray, deadline: Deadline
    ) -> tuple[Decision, Trial | None]:
        """The decision, and the trial whose candidate was asked first, if one was; for no uid none is."""
        try:
            ladder = self._ladder_for_workload()
            step = None
            if uid is not None and self._trial is not None:
                step = self._trial.step_for(uid, self._models, self._recent)
            view = NodeView(self._state.nodes, self._state.generation)
            if step is None:
                return decision.decide(view, ladder, request, rows, deadline), None
            return decision.decide(view, (step, *ladder), request, rows, deadline), self._trial
        except Exception:  # a mistake of ours must not keep a pod from being scheduled
            log.exception("no opinion on a pod, because of an error in the extender")
            return Decision(NO_RANKING, Rung.NEUTRAL, 0, ()), None

    def refuse(self, pod: PodIdentity, reason: str) -> Answer:
        """Give no opinion on a pod that no policy can place; `filter` tells kube-scheduler why."""
        about_pod(pod.namespace, pod.name)
        log.info("no opinion: %s", reason)
        self._decisions[Rung.REQUEST_REFUSED].inc()
        answer = Answer([], Rung.REQUEST_REFUSED, self.policy_digest)
        self._trace(Decision(NO_RANKING, Rung.REQUEST_REFUSED, 0, ()), answer)
        return answer

    def lacking_devices(self, pod: PodIdentity, request: PodRequest, names: list[str]) -> dict[str, str]:
        """Reason by name, of the nodes on which no device has room for the pod."""
        self._make_way(pod.uid)
        if request.gpu_count == 0 or not self._feed.ready:
            return {}
        rows = self._state.rows_of(names)
        lacking = decision.lacking_devices(self._state, request, rows).nonzero()[0].tolist()
        self._metrics.filtered_nodes.inc(len(lacking))
        return {names[at]: decision.describe_lack(self._state, request, int(rows[at])) for at in lacking}

    def one_left(self, pod: PodIdentity, request: PodRequest, node: str, started: float) -> None:
        """Count the pod on the only node that `filter` left: kube-scheduler puts it there without asking for a ranking.

        Otherwise the pods behind it would be let onto the same devices until the watch tells where it went.

        Args:
            started: `time.perf_counter()` when the request was complete.
        """
        row = self._state.row_of(node)
        if self._feed.ready and row != UNKNOWN_ROW:
            device = self._device_on(row, request, started) if shares_device(request) else ANY_DEVICE
            self._assumptions.assume(pod.uid, node, request, device)

    def _device_on(self, row: int, request: PodRequest, started: float) -> int:
        """The device that the policy shares on the node, as the simulator has it."""
        deadline = Deadline(started, self._deadline_seconds, time.perf_counter)
        made, _ = self._decide(None, request, np.array([row]), deadline)
        if made.failures:
            self._report_failures(made.failures, started)
        return int(made.ranking.devices[0]) if made.ranking.rows.shape[0] else ANY_DEVICE

    def _ladder_for_workload(self) -> Sequence[Step]:
        """The policies, for the GPU models and typical pods that have been seen by now.

        Another model, or another workload, is rare; it costs a millisecond, and nodes have to be described anew.
        """
        models = self._state.models
        recent = self._recent_pods.typical() if self._recent_pods is not None else ()
        if models is not self._models or recent is not self._recent:
            if recent is not self._recent:
                log.info("typical pods estimated anew: %d shapes", len(recent))
                self._metrics.typical_estimates.inc()
            self._models, self._recent = models, recent
            self._bound = tuple(step._replace(rater=step.rater.for_workload(models, recent)) for step in self._ladder)
        return self._bound

    def _refresh(self, request: PodRequest, rows: IntArray) -> None:
        """The next pod is often of the same shape: what has changed for it by this one is found out before it comes."""
        self._bound[0].rater.refresh(NodeView(self._state.nodes, self._state.generation), request, rows)

    def _make_way(self, uid: str) -> None:
        """The same pod asks again: what we assumed about it did not come true, and it must not compete with itself."""
        self._assumptions.expire()
        self._assumptions.lift(uid)

    def _report_failures(self, failures: Sequence[Failure], now: float) -> None:
        for failure in failures:
            self._metrics.policy_failures.labels(failure.rung, failure.kind).inc()
        new = [failure.reason for failure in failures if failure.kind is not FailureKind.BREAKER]
        if new and now >= self._quiet_until:
            self._quiet_until = now + SECONDS_BETWEEN_REPORTS
            log.error("no usable scores from %s", "; ".join(new))

    def _answer(
        self,
        pod: PodIdentity,
        request: PodRequest,
        made: Decision,
        policy: str,
        started: float,
        features: str = "",
        steered: bool = True,
    ) -> Answer:
        nodes = named(made.ranking, self._state.name_of)
        answer = Answer(nodes, made.rung if steered or not nodes else Rung.SHADOW, policy)
        self._trace(made, answer)
        latency = time.perf_counter() - started
        answered = Answered(pod, request, made, answer, features, latency)
        self._later(lambda: self._remember(answered, steered))
        return answer if answer.rung is not Rung.SHADOW else answer._replace(nodes=[])

    def _remember(self, answered: Answered, steered: bool) -> None:
        pod, made, answer = answered.pod, answered.made, answered.answer
        if made.scored is not None and made.rung is Rung.POLICY:
            rows, scores = made.scored.candidates.rows, made.scored.scores
            self._agreements.remember(pod.uid, Opinion([node.name for node in answer.nodes], rows, scores, steered))
        self.explanations.remember(
            Explained(
                time.time(),
                f"{pod.namespace}/{pod.name}",
                pod.uid,
                answer.rung,
                steered,
                answer.policy,
                made.candidates,
                answer.nodes,
                [failure.reason for failure in made.failures],
                made.described,
            )
        )
        self._decisions[answer.rung].inc()
        self._metrics.candidates.observe(made.candidates)
        if self._decision_log is not None:
            if self._outcomes is not None:
                self._outcomes.decided(pod.uid)
            self._decision_log.append(answered.record())
