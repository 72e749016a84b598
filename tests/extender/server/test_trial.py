"""A candidate beside the policy in service, asked by the scorer itself."""

import threading
import time
from collections.abc import Callable

import numpy as np

from extender.cluster.state import UNKNOWN_MODEL
from extender.placement import Candidates, NodeArrays, PodRequest
from extender.policies.base import Policy, PolicyError, ScoreArray
from extender.policies.heuristics import HEURISTICS
from extender.server.answers import PodIdentity
from extender.server.background import SHARE
from extender.server.policy import ServedPolicy
from extender.server.trial import QUESTIONS_AT_MOST, Limits, Tally, Trial, Ways, among
from extender.telemetry.decision_records import DecisionRecord
from tests.extender.cluster.test_watcher import eventually
from tests.extender.objects import request
from tests.extender.server.test_scoring import Bench, Broken, bench

PODS = [PodIdentity("default", f"p{number}", f"uid-{number}") for number in range(40)]
RESOURCES = ("cpu", "memory", "gpu")


class Recorded:
    """A policy that prefers the second node, notes what is requested there, and waits until it is let go."""

    name = "recorded"

    def __init__(self) -> None:
        self.seen: list[list[int]] = []
        self.go = threading.Event()

    def scores(self, nodes: NodeArrays, pod: PodRequest, candidates: Candidates) -> ScoreArray:
        self.go.wait(60.0)
        self.seen.append(nodes.requested[:, 0].tolist())
        return candidates.rows.astype(np.float64)


def trial_of(
    given: Bench,
    policy: Policy,
    percent: float,
    failures: int = 3,
    record: Callable[[DecisionRecord], None] | None = None,
) -> Trial:
    ways = Ways(given.metrics, record, lambda call: call())
    trial = Trial(ServedPolicy("c", "candidate", RESOURCES, policy), percent, Tally(), Limits(failures, 60.0), ways)
    given.scorer.try_beside(trial)
    return trial


def test_a_canary_answers_for_its_share_of_the_pods_and_the_policy_in_service_for_the_others() -> None:
    given = bench()
    trial = trial_of(given, HEURISTICS["most-allocated"], 25.0)
    drawn = among(25.0, "candidate")
    given.ask(PodIdentity("default", "first", next(f"u{n}" for n in range(99) if not drawn(f"u{n}"))), request(9))

    best = {pod.uid: given.ask(pod, request(10))[0] for pod in PODS}

    chosen = [pod.uid for pod in PODS if drawn(pod.uid)]
    assert 0 < len(chosen) < len(PODS)
    assert trial.tally.answered == len(chosen)
    assert {given.scorer.explanations.of(f"default/{pod.name}")["policy"] for pod in PODS} == {"candidate", "digest"}  # type: ignore[index]
    assert all(best[uid] == "a" for uid in chosen)


def test_the_policy_in_service_answers_where_a_canary_fails_and_the_canary_ends() -> None:
    given = bench()
    trial = trial_of(given, Broken(True), 100.0)

    for pod in PODS[:5]:
        assert len(given.ask(pod, request(10))) == 2

    assert trial.withdrawn.startswith("3 failures in a row, the last: broken: PolicyError: the graph does not run")
    assert trial.tally.failures == 3
    assert given.sample('stowage_decisions_total{rung="policy"}') == 5
    assert given.sample('stowage_policy_failures_total{kind="error",rung="policy"}') == 0
    assert given.scorer.explanations.of("default/p0")["policy"] == "digest"  # type: ignore[index]


def test_a_failure_now_and_then_ends_no_trial() -> None:
    given = bench()
    policy = Broken(True)
    trial = trial_of(given, policy, 100.0, failures=2)
    for number, pod in enumerate(PODS[:10]):
        policy.scores = Broken(True).scores if number % 2 else HEURISTICS["least-allocated"].scores  # type: ignore[method-assign]
        given.ask(pod, request(10))

    assert (trial.withdrawn, trial.tally.failures, trial.tally.answered) == ("", 5, 5)


def test_what_cannot_be_bound_to_the_workload_costs_no_pod_its_answer() -> None:
    class Unbindable(Broken):
        def for_workload(self, models: tuple[str, ...], recent: object = ()) -> Policy:
            raise PolicyError(f"these models are unheard of: {models}")

    given = bench()
    trial = trial_of(given, Unbindable(False), 100.0)

    assert len(given.ask(PODS[0], request(10))) == 2
    assert repr((UNKNOWN_MODEL,)) in trial.withdrawn


def test_a_shadow_sees_the_nodes_as_they_were_before_the_answer_and_is_only_written_down() -> None:
    given, policy = bench(), Recorded()
    records: list[DecisionRecord] = []
    trial = trial_of(given, policy, 0.0, record=records.append)

    assert given.ask(PODS[0], request(1000))[0] == "a"
    assert given.ask(PODS[1], request(1000))[0] == "b"
    policy.go.set()
    eventually(lambda: len(records) == 2)

    assert [seen[:2] for seen in policy.seen] == [[0, 0], [1000, 0]]
    assert [(record.chosen, record.policy, record.rung, record.tried) for record in records] == [
        ("b", "candidate", "shadow", True)
    ] * 2
    assert (trial.tally.shadowed, trial.tally.agreement) == (2, 0.5)
    assert given.scorer.explanations.of("default/p0")["policy"] == "digest"  # type: ignore[index]
    trial.stop()


def test_a_shadow_that_does_not_keep_up_is_not_asked_about_every_pod() -> None:
    given, policy = bench(), Recorded()
    trial = trial_of(given, policy, 0.0)
    for pod in PODS:
        assert given.ask(pod, request(10))
    policy.go.set()
    eventually(lambda: given.sample('stowage_candidate_pods_total{result="skipped"}') + trial.tally.shadowed == 40)

    assert QUESTIONS_AT_MOST <= trial.tally.shadowed <= QUESTIONS_AT_MOST + 1
    trial.stop()
    assert given.ask(PODS[0], request(10))


def test_a_shadow_rests_longer_than_it_thinks() -> None:
    given, policy = bench(), Recorded()
    trial = trial_of(given, policy, 0.0)
    took: list[float] = []

    def think(nodes: NodeArrays, pod: PodRequest, candidates: Candidates) -> ScoreArray:
        began = time.perf_counter()
        time.sleep(0.03)
        took.append(time.perf_counter() - began)
        return candidates.rows.astype(np.float64)

    policy.scores = think  # type: ignore[method-assign]
    began = time.perf_counter()
    for pod in PODS[:5]:
        given.ask(pod, request(10))
    eventually(lambda: trial.tally.shadowed == 5)

    assert time.perf_counter() - began >= sum(took[:4]) / SHARE + took[4]
    trial.stop()


def test_trials_that_have_ended_leave_no_threads() -> None:
    given = bench()
    for number in range(5):
        trial = trial_of(given, HEURISTICS["most-allocated"], 0.0)
        given.ask(PODS[number], request(10))
        trial.stop()
        trial.stop()

    eventually(lambda: not any(thread.name in ("shadow", "candidate") for thread in threading.enumerate()))
