import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from extender.placement import list_candidates
from extender.policies.heuristics import HEURISTICS, RULES
from extender.policies.onnx import OnnxPolicy
from tests.clusters import GIB, Node, clusters, pods
from tests.policy_files import FEATURES, policy_file
from tests.training.small_workloads import Pod, slots, workload_of, workloads
from training.simulator.episodes import episode_of
from training.simulator.event_loop import FORCED, NOW, PLACED
from training.simulator.scheduling import RULE_NUMBERS, best_candidate, play_policy, play_rule, rule_scores

PLENTY = 1000


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


class Uncompiled:
    """A trained policy which computes its features as the extender does."""

    name = "uncompiled"

    def __init__(self, policy: OnnxPolicy) -> None:
        self._policy = policy

    def scores(self, nodes, pod, candidates):
        return self._policy.scores(nodes, pod, candidates)


def test_every_rule_has_a_number():
    assert RULE_NUMBERS.keys() == RULES.keys()
    assert len(set(RULE_NUMBERS.values())) == len(RULES)


@pytest.mark.parametrize("name", RULES)
@given(nodes=clusters(), pod=pods())
def test_a_rule_scores_alike_compiled_and_not(name, nodes, pod):
    candidates = list_candidates(nodes, pod, np.arange(len(nodes.allocatable)), PLENTY)
    compiled = rule_scores(RULE_NUMBERS[name], nodes, pod, candidates)
    np.testing.assert_array_equal(compiled, HEURISTICS[name].scores(nodes, pod, candidates))


@given(st.lists(st.integers(0, 9).map(float), min_size=1, max_size=20), st.integers(0, 99))
def test_the_chosen_candidate_is_one_of_the_best(scores, seed):
    rows = np.arange(len(scores))
    chosen = best_candidate(np.array(scores), rows, np.random.default_rng(seed))
    assert scores[chosen] == max(scores)


def test_equally_good_nodes_are_chosen_equally_often():
    scores, rows = np.array([5.0, 1.0, 5.0, 5.0]), np.arange(4)
    generator = np.random.default_rng(0)
    chosen = np.bincount([best_candidate(scores, rows, generator) for _ in range(6000)], minlength=4)
    assert chosen[1] == 0
    assert chosen[[0, 2, 3]] == pytest.approx([2000] * 3, rel=0.1)


def test_a_looser_device_of_an_equally_good_node_gives_it_no_second_chance():
    scores, rows = np.zeros(4), np.array([0, 1, 1, 1])  # node 1 has three candidates
    generator = np.random.default_rng(0)
    chosen = np.bincount([best_candidate(scores, rows, generator) for _ in range(6000)], minlength=4)
    assert chosen.tolist()[2:] == [0, 0]
    assert chosen[:2] == pytest.approx([3000] * 2, rel=0.1)


def test_a_looser_device_that_is_better_is_chosen():
    scores, rows = np.array([1.0, 2.0, 3.0]), np.array([0, 1, 0])
    assert best_candidate(scores, rows, np.random.default_rng(0)) == 2


@given(workloads(), st.sampled_from(sorted(RULES)))
def test_the_same_seed_plays_the_same_episode(workload, name):
    played = []
    for _ in range(2):
        episode = episode_of(workload)
        play_rule(episode, RULE_NUMBERS[name], np.random.default_rng(3), np.zeros((len(workload), 2)))
        played.append(episode)
    np.testing.assert_array_equal(played[0].node, played[1].node)
    np.testing.assert_array_equal(played[0].started, played[1].started)


@given(workloads())
def test_every_decision_is_sampled(workload):
    episode, samples = episode_of(workload), np.full((len(workload), 2), np.nan)
    decisions = play_rule(episode, RULE_NUMBERS["random"], np.random.default_rng(0), samples)
    assert decisions == episode.counters[PLACED] - episode.counters[FORCED]
    taken = samples[:decisions]
    assert np.all(np.isnan(samples[decisions:]))
    assert np.all(np.diff(taken, axis=0) >= 0)
    assert np.all(taken[:, 0] <= episode.clock[NOW])


def test_a_spreading_rule_spreads_and_a_packing_one_packs():
    workload = workload_of([Node(4000, 4 * GIB)] * 2, [Pod(time, 100, 1000, GIB) for time in range(2)])
    nodes = {}
    for name in ("least-allocated", "kube-scheduler-default", "most-allocated", "best-fit"):
        episode = episode_of(workload)
        play_rule(episode, RULE_NUMBERS[name], np.random.default_rng(0), np.zeros((2, 2)))
        nodes[name] = len(set(episode.node))
    assert nodes == {"least-allocated": 2, "kube-scheduler-default": 2, "most-allocated": 1, "best-fit": 1}


def test_a_policys_best_candidate_is_taken():
    workload = workload_of(slots(4), [Pod(time, 100, 1000) for time in range(4)])
    episode, samples = episode_of(workload), np.zeros((4, 2))
    assert play_policy(episode, HighestRow(), samples) == 3
    assert episode.node.tolist() == [3, 2, 1, 0]
    assert samples[:3, 0].tolist() == [0, 1, 2]


def test_a_policy_decides_on_the_device_too():
    workload = workload_of([Node(4000, GIB, (1000, 1000, 1000))], [Pod(time, 100, 0, 0, 1, 300) for time in range(3)])
    episode = episode_of(workload)
    play_policy(episode, LastDevice(), np.zeros((3, 2)))
    assert episode.taken.tolist() == [0b001, 0b010, 0b100]


@given(workloads())
def test_a_trained_policy_decides_alike_with_compiled_features(workload):
    policy = OnnxPolicy("weighted", policy_file(np.random.default_rng(1).normal(size=FEATURES)))
    compiled, plain = episode_of(workload), episode_of(workload)
    samples = np.zeros((len(workload), 2))
    assert play_policy(compiled, policy, samples) == play_policy(plain, Uncompiled(policy), samples)
    np.testing.assert_array_equal(compiled.node, plain.node)
    np.testing.assert_array_equal(compiled.taken, plain.taken)
