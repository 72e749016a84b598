import time
from collections.abc import Callable, Sequence

import numpy as np
import pytest
from prometheus_client import CollectorRegistry

from extender.admission import ANYWHERE
from extender.cluster.assume import Assumptions
from extender.cluster.feed import ClusterFeed, Kind, Listed
from extender.cluster.recent import PODS_AT_LEAST, RecentPods
from extender.cluster.state import ClusterState
from extender.decision import Rung, Step
from extender.placement import Candidates, NodeArrays, PodRequest
from extender.policies.base import Policy, PolicyError, ScoreArray
from extender.policies.breaker import Breaker
from extender.policies.heuristics import HEURISTICS
from extender.policies.raters import DirectRater
from extender.server.answers import PodIdentity
from extender.server.rollout import steers
from extender.server.scoring import Scorer, UnknownNodesError
from extender.telemetry.metrics import Metrics
from extender.typical import Records, TypicalPodRecord
from tests.extender.objects import request

POD = PodIdentity("default", "p", "uid-p")
OTHER = PodIdentity("default", "q", "uid-q")


class Broken:
    """A policy that raises, or gives scores that cannot be ranked."""

    name = "broken"

    def __init__(self, raises: bool) -> None:
        self.raises = raises

    def scores(self, nodes: NodeArrays, pod: PodRequest, candidates: Candidates) -> ScoreArray:
        if self.raises:
            raise PolicyError("the graph does not run")
        return np.full(candidates.rows.shape[0], np.nan)


class LastListed:
    """A policy that prefers the candidate listed last: the loosest device."""

    name = "last-listed"

    def scores(self, nodes: NodeArrays, pod: PodRequest, candidates: Candidates) -> ScoreArray:
        return np.arange(candidates.rows.shape[0], dtype=np.float64)


class Bench:
    """A cluster of two nodes with one GPU each, listed completely."""

    def __init__(self, policy: Policy, fallback: Policy = HEURISTICS["least-allocated"], mode: str = "active") -> None:
        self.later: list[Callable[[], None]] | None = None  # what is put off, None while nothing is
        self.now = 0.0
        self.state = ClusterState(("cpu", "memory", "gpu"))
        self.metrics = Metrics(CollectorRegistry())
        self.assumptions = Assumptions(self.state, 30.0, lambda: self.now, lambda outcome: None)
        self.feed = ClusterFeed(self.state, self.assumptions)
        self.recent = RecentPods()
        self.stale = False
        breaker = Breaker(5, 10.0, lambda: self.now)
        ladder = (Step(Rung.POLICY, DirectRater(policy), breaker), Step(Rung.HEURISTIC, DirectRater(fallback)))
        self.scorer = Scorer(
            self.state,
            self.assumptions,
            self.feed,
            ladder,
            "digest",
            self.metrics,
            None,
            10.0,
            lambda: self.stale,
            steers=steers(mode, 50.0),
            recent_pods=self.recent,
            later=self.do_later,
        )
        for name in ("a", "b"):
            self.state.put_node(name, np.array([8000, 64, 1000]), 1)

    def do_later(self, work: Callable[[], None]) -> None:
        if self.later is None:
            work()
        else:
            self.later.append(work)

    def list_all(self) -> "Bench":
        self.feed.apply([Listed(Kind.NODES, frozenset("ab")), Listed(Kind.PODS, frozenset())])
        return self

    def ask(self, pod: PodIdentity, asked: PodRequest, names: tuple[str, ...] = ("a", "b")) -> list[str]:
        return [node.name for node in self.scorer.prioritize(pod, asked, list(names), time.perf_counter()).nodes]

    def filter(self, pod: PodIdentity, asked: PodRequest, name: str) -> bool:
        """Whether the pod is left this node, asked about alone."""
        if self.scorer.lacking_devices(pod, asked, [name]):
            return False
        self.scorer.one_left(pod, asked, name, time.perf_counter())
        return True

    def sample(self, name: str) -> float:
        lines = self.metrics.expose().decode().splitlines()
        return next(float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith(name + " "))


def bench(policy: Policy = HEURISTICS["least-allocated"]) -> Bench:
    return Bench(policy).list_all()


@pytest.mark.parametrize("raises", [True, False])
def test_a_broken_policy_costs_no_pod_its_ranking_and_is_counted(raises: bool) -> None:
    given = bench(Broken(raises))

    assert given.ask(POD, request(1000)) == ["a", "b"]
    assert given.sample('stowage_decisions_total{rung="heuristic"}') == 1
    assert given.sample('stowage_policy_failures_total{kind="error",rung="policy"}') == 1
    assert given.sample('stowage_decisions_total{rung="policy"}') == 0


def test_a_policy_that_keeps_failing_does_not_flood_the_log(caplog: pytest.LogCaptureFixture) -> None:
    given = bench(Broken(True))
    for _ in range(20):
        given.ask(POD, request(1000))

    assert [record.message for record in caplog.records] == [
        "no usable scores from broken: PolicyError: the graph does not run"
    ]
    assert given.sample('stowage_policy_failures_total{kind="error",rung="policy"}') == 5
    assert given.sample('stowage_policy_failures_total{kind="breaker",rung="policy"}') == 15
    assert given.sample("stowage_breaker_open") == 1


def test_with_everything_broken_the_answer_is_neutral_and_nothing_is_assumed() -> None:
    given = Bench(Broken(True), Broken(False)).list_all()

    assert given.ask(POD, request(1000)) == []
    assert given.sample('stowage_decisions_total{rung="neutral"}') == 1
    assert len(given.assumptions) == 0


def test_the_next_pod_sees_what_the_last_one_was_promised() -> None:
    given = bench()

    assert given.ask(POD, request(0, 0, 1, 1000)) == ["a", "b"]
    assert given.ask(OTHER, request(0, 0, 1, 1000)) == ["b"]


def test_an_answer_waits_for_nothing_but_what_the_next_one_rests_on() -> None:
    given = bench()
    given.later = []

    assert given.ask(POD, request(0, 0, 1, 1000)) == ["a", "b"]
    assert given.ask(OTHER, request(0, 0, 1, 1000)) == ["b"]
    assert given.sample('stowage_decisions_total{rung="policy"}') == 0

    for work in given.later:
        work()
    assert given.sample('stowage_decisions_total{rung="policy"}') == 2


def test_a_retry_does_not_compete_with_itself() -> None:
    given = bench()
    given.ask(POD, request(8000))
    given.ask(OTHER, request(8000))

    assert given.ask(POD, request(8000)) == ["a"]


def test_a_filter_call_for_a_retry_sees_the_device_it_was_promised_as_free() -> None:
    given = bench()
    given.ask(POD, request(0, 0, 1, 1000), ("a",))

    assert given.scorer.lacking_devices(OTHER, request(0, 0, 1, 1000), ["a"]).keys() == {"a"}
    assert given.scorer.lacking_devices(POD, request(0, 0, 1, 1000), ["a"]) == {}


def test_a_pod_that_is_left_one_node_counts_there_though_nobody_asks_for_a_ranking() -> None:
    given = bench()
    whole = request(0, 0, 1, 1000)

    assert given.filter(POD, whole, "a")
    assert not given.filter(OTHER, whole, "a")
    assert given.filter(POD, whole, "a")


def test_on_the_one_node_left_the_policy_says_which_device_is_shared() -> None:
    given = bench(LastListed())
    given.state.put_node("c", np.array([8000, 64, 2000]), 2)
    given.state.put_pod("runs", "c", request(0, 0, 1, 600))
    given.filter(POD, request(0, 0, 1, 300), "c")

    assert given.state.arrays.device_free[given.state.row_of("c")].tolist() == [400, 700]


@pytest.mark.parametrize("raises", [True, False])
def test_a_broken_policy_leaves_the_tightest_device_of_the_one_node(raises: bool) -> None:
    given = Bench(Broken(raises), Broken(raises)).list_all()
    given.state.put_node("c", np.array([8000, 64, 2000]), 2)
    given.state.put_pod("runs", "c", request(0, 0, 1, 600))
    given.filter(POD, request(0, 0, 1, 300), "c")

    assert given.state.arrays.device_free[given.state.row_of("c")].tolist() == [100, 1000]
    assert given.sample('stowage_policy_failures_total{kind="error",rung="policy"}') == 1


def test_an_overdue_assumption_is_lifted_before_the_next_question() -> None:
    given = bench()
    given.ask(POD, request(8000), ("a",))
    given.now = 31.0

    assert given.ask(OTHER, request(8000), ("a",)) == ["a"]


def test_before_the_lists_are_complete_there_is_no_opinion_even_on_unknown_nodes() -> None:
    given = Bench(HEURISTICS["least-allocated"])

    assert given.ask(POD, request(1000), ("new",)) == []
    assert given.sample('stowage_decisions_total{rung="not_ready"}') == 1


def test_what_is_too_old_to_steer_by_steers_nobody() -> None:
    given = bench()
    given.stale = True

    assert given.ask(POD, request(1000)) == []
    assert given.sample('stowage_decisions_total{rung="stale"}') == 1
    given.stale = False
    assert given.ask(POD, request(1000)) == ["a", "b"]


def test_in_shadow_nothing_is_said_or_assumed_and_agreement_is_counted() -> None:
    given = Bench(HEURISTICS["least-allocated"], mode="shadow").list_all()
    given.state.put_pod("running", "b", request(4000))

    assert given.ask(POD, request(1000)) == []
    assert given.ask(OTHER, request(1000)) == []
    assert len(given.assumptions) == 0
    assert given.sample('stowage_decisions_total{rung="shadow"}') == 2
    given.scorer.pod_on(POD.uid, "a")
    given.scorer.pod_on(OTHER.uid, "b")
    given.scorer.pod_on("never asked about", "b")
    assert given.sample('stowage_agreement_total{result="same",steered="false"}') == 1
    assert given.sample('stowage_agreement_total{result="listed",steered="false"}') == 1
    assert given.sample('stowage_regret_sum{steered="false"}') == 1.0


def test_a_canary_steers_its_share_of_the_pods_and_each_pod_always_alike() -> None:
    given = Bench(HEURISTICS["least-allocated"], mode="canary").list_all()
    pods = [PodIdentity("default", f"p{number}", f"uid-{number}") for number in range(200)]
    told = [bool(given.ask(pod, request(1))) for pod in pods]

    assert 70 < sum(told) < 130
    assert [bool(given.ask(pod, request(1))) for pod in pods] == told
    assert given.sample('stowage_decisions_total{rung="shadow"}') == 2 * (200 - sum(told))


def test_a_question_about_unknown_nodes_only_is_an_error_that_names_one() -> None:
    given = bench()
    with pytest.raises(UnknownNodesError, match="none of the 2 nodes asked about is known, the first is 'new'"):
        given.ask(POD, request(1000), ("new", "newer"))

    assert given.sample("stowage_unknown_nodes_total") == 2


def test_a_question_about_no_nodes_has_an_empty_answer() -> None:
    assert bench().ask(POD, request(1000), ()) == []


class Preferring:
    """A policy that scores a node by its GPU model's name, which it has to be told."""

    name = "preferring"

    def __init__(self, models: Sequence[str] = ()) -> None:
        self.models = models

    def for_workload(self, models: Sequence[str], recent: Records = ()) -> "Preferring":
        return Preferring(models)

    def scores(self, nodes: NodeArrays, pod: PodRequest, candidates: Candidates) -> ScoreArray:
        return np.array([{"": 0.0, "T4": 1.0, "A100": 2.0}[self.models[at]] for at in nodes.model[candidates.rows]])


def test_a_policy_is_told_of_the_gpu_models_as_they_appear() -> None:
    given = bench(Preferring())
    assert given.ask(POD, request(1000)) == ["a", "b"]
    given.state.put_node("b", np.array([8000, 64, 1000]), 1, "T4")
    assert given.ask(POD, request(1000)) == ["b", "a"]
    given.state.put_node("a", np.array([8000, 64, 1000]), 1, "A100")
    assert given.ask(POD, request(1000)) == ["a", "b"]


class Remembering:
    """A policy that remembers which typical pods it was told of."""

    name = "remembering"

    def __init__(self, told: list[Records]) -> None:
        self.told = told

    def for_workload(self, models: Sequence[str], recent: Records = ()) -> "Remembering":
        self.told.append(recent)
        return self

    def scores(self, nodes: NodeArrays, pod: PodRequest, candidates: Candidates) -> ScoreArray:
        return np.zeros(len(candidates.rows))


def test_a_policy_is_told_of_the_typical_pods_once_there_are_enough() -> None:
    told: list[Records] = []
    given = bench(Remembering(told))
    given.ask(POD, request(1000))
    for number in range(PODS_AT_LEAST):
        given.recent.pod_seen(f"uid-{number}", 0.0, request(500), ANYWHERE)
    given.ask(POD, request(1000))
    given.ask(OTHER, request(1000))
    assert told == [(), (TypicalPodRecord(500, 0, 0, 1.0),)]
    assert given.sample("stowage_typical_pods_estimates_total") == 1


def test_for_an_answer_that_is_late_no_node_is_looked_up() -> None:
    given = bench()
    answer = given.scorer.prioritize(POD, request(10), ["nobody"], time.perf_counter() - 11.0)

    assert (answer.nodes, answer.rung) == ([], Rung.NEUTRAL)
    assert given.sample("stowage_unknown_nodes_total") == 0
    assert given.sample('stowage_policy_failures_total{kind="deadline",rung="policy"}') == 1
    assert given.scorer.sample()[1] == []
