"""Another policy that is tried beside the one in service: what it answers itself, or what it would have answered.

`candidate` says which policy that is and for how many pods it answers, `scoring` asks. In *canary* it is the first of
the ladder for its share of the pods, with the policy in service behind it. In *shadow* it answers nobody: a thread asks
it about a copy of the nodes, as they were before the answer, once that is on its way. It is asked no more as soon as it
has failed several times in a row.
"""

import logging
import math
import queue
import threading
import time
import zlib
from collections.abc import Callable
from enum import StrEnum
from typing import NamedTuple

import numpy as np

from extender.decision import Deadline, Decision, Failure, FailureKind, Rung, Step, decide
from extender.features_digest import features_digest
from extender.placement import IntArray, PodRequest
from extender.policies.base import NodeView
from extender.policies.breaker import Breaker
from extender.policies.raters import rater_of
from extender.policies.worker import Worker
from extender.server.answers import Answer, Answered, PodIdentity, named
from extender.server.background import rest_after
from extender.server.policy import ServedPolicy
from extender.telemetry.decision_records import DecisionRecord
from extender.telemetry.metrics import Metrics
from extender.typical import Records

HUNDREDTHS = 10_000  # a share of the pods is exact to a hundredth of a percent
CANARY_SHARE = 0.5  # of a deadline; then the policy in service has its turn
SECONDS_BETWEEN_REPORTS = 10.0  # a policy that fails, fails at every request; each is counted, not each is logged
QUESTIONS_AT_MOST = 16  # that wait; each has a copy of the nodes, 1 MB for 5,000

log = logging.getLogger(__name__)


def among(percent: float, draw: str) -> Callable[[str], bool]:
    """Whether a pod is among so many percent of all, by its uid; another draw draws others."""
    limit, begun = round(percent * HUNDREDTHS / 100), zlib.crc32(draw.encode())
    return lambda uid: zlib.crc32(uid.encode(), begun) % HUNDREDTHS < limit


class Change(StrEnum):
    """What became of a candidate."""

    BEGUN = "begun"  # it came to a stage
    REFUSED = "refused"  # it cannot be tried
    WITHDRAWN = "withdrawn"  # it failed too often
    ENDED = "ended"  # it is not wanted any more


class Fate(StrEnum):
    """What became of a pod, as far as a candidate has to do with it."""

    ANSWERED = "answered"  # in canary, by the candidate
    SAME = "same"  # in shadow: sent to the node that the candidate ranks first
    OTHER = "other"  # … to another one
    INCOMPARABLE = "incomparable"  # … one of the two had no opinion
    SKIPPED = "skipped"  # … the candidate does not keep up


class Limits(NamedTuple):
    """What a candidate is held to.

    Attributes:
        failures: so many in a row end the trial.
        score_seconds: how long it may take in shadow, as a policy in service may.
    """

    failures: int
    score_seconds: float


class Ways(NamedTuple):
    """How what comes of a trial gets out of it.

    Attributes:
        metrics: where pods are counted.
        record: takes what is written down; None if nothing is.
        later: has something done once the answer is on its way.
    """

    metrics: Metrics
    record: Callable[[DecisionRecord], None] | None
    later: Callable[[Callable[[], None]], object]


class Tally:
    """What came of a candidate's pods; kept when it goes from shadow to canary.

    Attributes:
        answered: pods that it ranked the nodes for.
        shadowed: pods that it had an opinion on beside the answer.
        failures: pods that it had no usable scores for.
    """

    def __init__(self) -> None:
        self.answered = self.shadowed = self.failures = 0
        self._same = self._compared = 0

    @property
    def agreement(self) -> float | None:
        """The share of pods that it would have sent where the policy in service did; None before there is one."""
        return self._same / self._compared if self._compared else None

    def compare(self, same: bool) -> None:
        """Both had a node for a pod."""
        self._same += same
        self._compared += 1


class Question(NamedTuple):
    """A pod that has been answered, for a candidate in shadow.

    Attributes:
        names: nodes asked about.
        rows: (len(names),) int64, their rows, `UNKNOWN_ROW` for those that are not known.
        known: (n,) int64, the rows without those.
        view: a copy of all nodes as they were before the answer.
        models: names of the GPU models.
        recent: the typical pods.
        told: where the policy in service sends the pod; None if it had no opinion.
    """

    pod: PodIdentity
    request: PodRequest
    names: list[str]
    rows: IntArray
    known: IntArray
    view: NodeView
    models: tuple[str, ...]
    recent: Records
    told: str | None


class Trial:
    """A candidate at one stage.

    Attributes:
        served: the candidate.
        percent: of the pods that it answers for; 0: it is in shadow.
        tally: what came of its pods.
        withdrawn: why it is asked no more; empty while it is.
    """

    def __init__(self, served: ServedPolicy, percent: float, tally: Tally, limits: Limits, ways: Ways) -> None:
        self.served = served
        self.percent = percent
        self.tally = tally
        self.withdrawn = ""
        self._limits = limits
        self._ways = ways
        self._answers = among(percent, "candidate")
        self._worker = Worker("candidate")
        self._breaker = Breaker(limits.failures, math.inf, time.monotonic)
        self._step = Step(Rung.POLICY, rater_of(served.policy, self._worker), self._breaker)
        self._bound: tuple[tuple[str, ...], Records, Step] = ((), (), self._step)
        self._questions: queue.SimpleQueue[Question | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._quiet_until = float("-inf")
        # Counted from 0, so that the first one is a change that alerts see.
        for fate in Fate:
            ways.metrics.candidate_pods.labels(fate)
        for kind in FailureKind:
            ways.metrics.candidate_failures.labels(kind)

    @property
    def digest(self) -> str:
        """The candidate's."""
        return self.served.digest

    @property
    def hung(self) -> int:
        """Computations that were given up and have not ended."""
        return self._worker.hung

    def step_for(self, uid: str, models: tuple[str, ...], recent: Records) -> Step | None:
        """The first step of the pod's ladder, for these GPU models and typical pods; None if it does not answer."""
        if self.withdrawn or not self._answers(uid):
            return None
        try:
            return self._for_workload(models, recent)._replace(share=CANARY_SHARE)
        except Exception as error:  # the pod is left to the policy in service
            self._give_up(error)
            return None

    def answered(self, made: Decision) -> bool:
        """A ladder that begins with `step_for` has decided; returns whether the candidate did."""
        if made.failures:
            self._failed(made.failures[0])
            return False
        if made.rung is Rung.POLICY:
            self.tally.answered += 1
            self._count(Fate.ANSWERED)
        return True

    @property
    def looks_on(self) -> bool:
        """Whether it wants to be asked beside the policy in service: in shadow, as long as it keeps up."""
        if self.percent > 0 or self.withdrawn:
            return False
        if self._questions.qsize() < QUESTIONS_AT_MOST:
            return True
        self._count(Fate.SKIPPED)
        return False

    def look_on(self, question: Question) -> None:
        """Have an opinion on a pod, once it has its answer."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="shadow", daemon=True)
            self._thread.start()
        self._ways.later(lambda: self._questions.put(question))

    def stop(self) -> None:
        """Ask it nothing more; what waits is let go."""
        self.withdrawn = self.withdrawn or "the trial has ended"
        if self._thread is None:
            self._worker.stop()
        else:
            self._questions.put(None)
            self._thread = None

    def _run(self) -> None:
        while (question := self._questions.get()) is not None:
            if self.withdrawn:
                continue
            began = time.perf_counter()
            try:
                self._think_of(question)
            except Exception as error:
                self._give_up(error)
            rest_after(began)
        self._worker.stop()

    def _think_of(self, question: Question) -> None:
        started = time.perf_counter()
        step = self._for_workload(question.models, question.recent)
        deadline = Deadline(started, self._limits.score_seconds, time.perf_counter)
        made = decide(question.view, (step,), question.request, question.known, deadline)
        if made.failures:
            self._failed(made.failures[0])
            return
        if self.withdrawn:
            return  # it was stopped meanwhile
        nodes = named(made.ranking, lambda row: question.names[int(np.flatnonzero(question.rows == row)[0])])
        self.tally.shadowed += 1
        if nodes and question.told is not None:
            same = nodes[0].name == question.told
            self.tally.compare(same)
            self._count(Fate.SAME if same else Fate.OTHER)
        else:
            self._count(Fate.INCOMPARABLE)
        if self._ways.record is not None:
            seen = features_digest(question.view.nodes, question.request, made.ranking.rows)
            answer = Answer(nodes, Rung.SHADOW, self.digest)
            latency = time.perf_counter() - started
            answered = Answered(question.pod, question.request, made, answer, seen, latency)
            self._ways.record(answered.record(tried=True))

    def _for_workload(self, models: tuple[str, ...], recent: Records) -> Step:
        if models is not self._bound[0] or recent is not self._bound[1]:
            step = self._step._replace(rater=self._step.rater.for_workload(models, recent))
            self._bound = models, recent, step
        return self._bound[2]

    def _failed(self, failure: Failure) -> None:
        self.tally.failures += 1
        self._ways.metrics.candidate_failures.labels(failure.kind).inc()
        now = time.monotonic()
        if now >= self._quiet_until:
            self._quiet_until = now + SECONDS_BETWEEN_REPORTS
            log.warning("candidate %s: no usable scores from %s", self.served.name, failure.reason)
        if self._breaker.open:
            self._withdraw(f"{self._limits.failures} failures in a row, the last: {failure.reason}")

    def _give_up(self, error: Exception) -> None:
        """A mistake of ours, or a file that nobody expected, ends the trial and nothing else."""
        log.exception("candidate %s: an error in the extender", self.served.name)
        self._withdraw(f"an error in the extender: {type(error).__name__}: {error}")

    def _withdraw(self, reason: str) -> None:
        if not self.withdrawn:
            self.withdrawn = reason
            self._ways.metrics.candidate_changes.labels(Change.WITHDRAWN).inc()
            log.error("candidate %s (%s) is withdrawn: %s", self.served.name, self.digest, reason)

    def _count(self, result: Fate) -> None:
        self._ways.metrics.candidate_pods.labels(result).inc()
