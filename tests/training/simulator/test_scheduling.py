from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from extender.features import placement_features
from extender.fragmentation import fragmentation_tables
from extender.policies.heuristics import RULES, Heuristic
from extender.policies.onnx import OnnxPolicy
from extender.profile import weights_of
from tests.clusters import GIB, Node, every_choice
from tests.policy_files import FEATURES, policy_file
from tests.profiles import shaped, weighing
from tests.training.simulator.schedulers import schedulers
from tests.training.small_workloads import Pod, slots, workload_of, workloads
from training.simulator.scheduling import (
    SchedulerArguments,
    nodes_to_find,
    order_of,
    outcome_of,
    play,
    play_policy,
    play_rule,
    prepare,
)
from training.simulator.scoring import RULE_NUMBERS, empty_cache
from training.simulator.state import FORCED, PLACED
from training.workloads.base import Workload

DEFAULT = SchedulerArguments()


class HighestRow:
    """A policy that is easy to follow."""

    name = "highest-row"

    def scores(self, nodes, pod, candidates):
        return candidates.rows.astype(np.float64)


class LastDevice:
    """A policy that prefers looser devices."""

    name = "last-device"

    def scores(self, nodes, pod, candidates):
        return candidates.devices.astype(np.float64)


class AsServed:
    """A trained policy that is asked with the extender's own features of arrays."""

    name = "as-served"

    def __init__(self, policy: OnnxPolicy, workload: Workload) -> None:
        self._policy = policy
        self._tables = fragmentation_tables(workload.typical)

    def scores(self, nodes, pod, candidates):
        return self._policy.score_features(placement_features(nodes, pod, candidates, self._tables))


class Watched:
    """A policy that remembers what it was asked, beside what it could have been asked."""

    name = "watched"

    def __init__(self) -> None:
        self.asked: list[tuple[list, list]] = []

    def scores(self, nodes, pod, candidates):
        tightest, looser = every_choice(nodes, pod, list(range(len(nodes.allocatable))))
        self.asked.append((list(zip(*map(np.ndarray.tolist, candidates), strict=True)), [tightest, looser]))
        return np.arange(len(candidates.rows), dtype=np.float64)[::-1] % 3


def test_a_rule_that_does_not_exist_is_refused_by_name():
    with pytest.raises(ValueError, match="no rule is named 'best'; there are: random, first-fit"):
        play(workload_of(slots(1), [Pod(0, 1)]), "best", DEFAULT, 0)


@settings(max_examples=40)
@given(workloads(), st.sampled_from(sorted(RULES)), schedulers())
def test_the_same_seed_plays_the_same_episode(workload, name, arguments):
    one, other = (play(workload, name, arguments, 3) for _ in range(2))
    for field in ("started", "finished", "waited", "node", "preempted", "times", "integrals"):
        np.testing.assert_array_equal(getattr(one, field), getattr(other, field))


def test_another_seed_chooses_other_nodes_among_equals():
    workload = workload_of(slots(9), [Pod(0, 1, 1000)])
    assert len({int(play(workload, "random", DEFAULT, seed).node[0]) for seed in range(60)}) == 9


def test_a_spreading_rule_spreads_and_a_packing_one_packs():
    workload = workload_of([Node(4000, 4 * GIB)] * 2, [Pod(time, 100, 1000, GIB) for time in range(2)])
    rules = ("least-allocated", "kube-scheduler-default", "most-allocated", "best-fit", "requested-to-capacity-ratio")
    nodes = {name: len(set(play(workload, name, DEFAULT, 0).node)) for name in rules}
    assert nodes == {
        "least-allocated": 2,
        "kube-scheduler-default": 2,
        "most-allocated": 1,
        "best-fit": 1,
        "requested-to-capacity-ratio": 1,
    }


def test_a_scoring_profile_decides_where_pods_go():
    # A GPU node and one without. Alike in CPU and memory, so that the default leaves it to chance; with GPUs weighed,
    # MostAllocated prefers the node whose GPU is in use, and a shape that falls prefers the one that is not.
    nodes = [Node(4000, 4 * GIB, (1000,) * 2)] * 2
    arriving = [Pod(0, 100, 1000, GIB, 1, 500), Pod(1, 100, 1000, GIB, 1, 500)]
    workload = workload_of(nodes, arriving)
    for rule, scoring, nodes_used in (
        ("most-allocated", weighing(cpu=1, memory=1, gpu=100), 1),
        ("requested-to-capacity-ratio", shaped((0, 10), (100, 0)), 2),
        ("least-allocated", weighing(gpu=1), 2),
    ):
        outcome = play(workload, rule, replace(DEFAULT, scoring=scoring), 0)
        assert len(set(outcome.node.tolist())) == nodes_used, rule


def test_a_profile_that_weighs_a_resource_the_cluster_does_not_have_is_refused():
    arguments = replace(DEFAULT, scoring=weighing(fpga=2))
    with pytest.raises(ValueError, match="resources: no resource is named fpga; there are cpu, memory, gpu"):
        play(workload_of(slots(1), [Pod(0, 1)]), "least-allocated", arguments, 0)


@pytest.mark.parametrize("name", RULES)
@settings(max_examples=25)
@given(workload=workloads(), arguments=schedulers(preemption=False))
def test_a_rule_behind_the_interface_of_policies_plays_the_same(name, workload, arguments):
    # Of equals both take the first: candidates are in the order of the nodes, so those that are first in it win.
    episode = prepare(workload, arguments, sampled=True)
    cache = empty_cache(len(workload.shapes), len(workload.allocatable))
    ties = np.arange(len(workload.allocatable))
    weights = weights_of(arguments.scoring, workload.resources)
    play_rule(episode, RULE_NUMBERS[name], cache, workload.typical, ties, np.random.default_rng(0), weights)
    compiled, asked = outcome_of(episode), play(workload, Heuristic(name, workload.typical, weights), arguments, 0)
    for field in ("started", "finished", "waited", "node", "times"):
        np.testing.assert_array_equal(getattr(compiled, field), getattr(asked, field))
    np.testing.assert_allclose(compiled.integrals, asked.integrals)


@given(workloads())
def test_a_policy_is_asked_about_every_choice(workload):
    # Where every node takes and admits every pod, the extender's listing is all there is.
    workload = replace(
        workload, admits=np.ones_like(workload.admits), pod_limit=np.full(len(workload.allocatable), 110)
    )
    policy = Watched()
    play(workload, policy, DEFAULT, 0)
    for seen, (tightest, looser) in policy.asked:
        assert seen[: len(tightest)] == tightest
        assert sorted(seen[len(tightest) :]) == sorted(looser)
        assert len(seen) > 1  # one is no question


def test_a_policy_is_not_asked_where_there_is_one_candidate():
    policy, nodes = Watched(), [Node(1000, GIB), Node(500, GIB)]
    outcome = play(workload_of(nodes, [Pod(0, 9, 1000), Pod(0, 9, 500)]), policy, DEFAULT, 0)
    assert policy.asked == []
    assert outcome.node.tolist() == [0, 1]


def test_a_policys_best_candidate_is_taken():
    outcome = play(workload_of(slots(4), [Pod(time, 100, 1000) for time in range(4)]), HighestRow(), DEFAULT, 0)
    assert outcome.node.tolist() == [3, 2, 1, 0]


def test_a_policy_decides_on_the_device_too():
    # Three pods of 0.4 each on a device of its own; then no device has room for 0.7.
    node, sharing = Node(4000, GIB, (1000, 1000, 1000)), [Pod(time, 100, 0, 0, 1, 400) for time in range(3)]
    workload = workload_of([node], [*sharing, Pod(3, 1, 0, 0, 1, 700)])
    assert play(workload, LastDevice(), DEFAULT, 0).started[3] == 100
    assert play(workload, HighestRow(), DEFAULT, 0).started[3] == 3


@settings(max_examples=30)
@given(workloads(), schedulers())
def test_a_trained_policy_decides_as_with_the_extenders_features(workload, arguments):
    policy = OnnxPolicy("weighted", policy_file(np.random.default_rng(1).normal(size=FEATURES)))
    asked = AsServed(policy, workload)
    one, other = (play(workload, candidate, arguments, 0) for candidate in (policy, asked))
    for field in ("started", "finished", "waited", "node", "preempted"):
        np.testing.assert_array_equal(getattr(one, field), getattr(other, field))


def test_the_forced_decisions_are_counted_apart():
    workload = workload_of(slots(2), [Pod(0, 10, 1000), Pod(1, 10, 1000)])
    episode = prepare(workload, DEFAULT, sampled=True)
    play_policy(episode, HighestRow(), workload.typical, np.random.default_rng(0))
    assert (episode.counters[PLACED], episode.counters[FORCED]) == (2, 1)


@pytest.mark.parametrize(
    ("nodes", "percentage", "wanted"),
    [
        pytest.param(99, 1, 99, id="all of a small cluster"),
        pytest.param(100, 0, 100, id="at least a hundred"),
        pytest.param(500, 0, 230, id="46 % of 500"),
        pytest.param(5000, 0, 500, id="10 % of 5000"),
        pytest.param(16_000, 0, 800, id="at least 5 %"),
        pytest.param(5000, 30, 1500, id="as many as said"),
        pytest.param(5000, 100, 5000, id="all if said so"),
    ],
)
def test_the_search_ends_when_enough_nodes_are_found(nodes, percentage, wanted):
    assert nodes_to_find(nodes, percentage) == wanted


@pytest.mark.parametrize(
    "wrong",
    [
        {"ordering": "lifo"},
        {"percentage_of_nodes_to_score": 101},
        {"backoff_initial_seconds": -1.0},
        {"reservation_after_seconds": -1.0},
        {"horizon_seconds": 0.0},
        {"scoring": {"resources": [{"name": "cpu", "weight": 0}]}},
        {"scoring": {"fit_weight": 0}},
    ],
)
def test_settings_that_mean_nothing_are_refused(wrong):
    with pytest.raises(ValidationError):
        TypeAdapter(SchedulerArguments).validate_python(wrong)


def test_work_is_the_share_of_the_scarcest_resource_times_the_expected_seconds():
    nodes = [Node(4000, 2 * GIB), Node(4000, 2 * GIB)]
    workload = workload_of(nodes, [Pod(0, 9, 4000, GIB, expected=10), Pod(0, 9, 1000, 2 * GIB, expected=8), Pod(0, 9)])
    assert order_of(workload, "smallest-first").tolist() == [0.5, 0.5, 0]
    assert order_of(workload, "least-work-first").tolist() == [5, 4, np.inf]


def test_a_pod_that_has_not_come_by_the_horizon_has_not_waited():
    workload = workload_of(slots(1), [Pod(0, 10, 1000), Pod(1, 10, 1000), Pod(8, 10, 1000)])
    outcome = play(workload, "random", replace(DEFAULT, horizon_seconds=6.0), 0)
    assert outcome.waited.tolist() == [0, 5, 0]
    assert outcome.node.tolist() == [0, -1, -1]
