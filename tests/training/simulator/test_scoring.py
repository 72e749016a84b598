import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from extender.fragmentation import FragmentationTables, fragmentation, fragmentation_tables
from extender.placement import ABSENT_DEVICE, CPU, Candidates, NodeArrays, PodRequest, list_candidates
from extender.policies.heuristics import (
    NORMALISED,
    RULES,
    Heuristic,
    Surroundings,
    normalised,
)
from extender.profile import DEFAULT_WEIGHTS, ScoringWeights, weights_of
from tests.clusters import clusters, pods, typical_pods
from tests.profiles import profiles
from tests.training.simulator.played import until
from tests.training.simulator.schedulers import schedulers
from tests.training.small_workloads import workloads
from training.simulator.compiled import entry
from training.simulator.published import published_pods
from training.simulator.scoring import (
    INFEASIBLE,
    PUBLISHED_FGD,
    RULE_NUMBERS,
    choose_node,
    empty_cache,
    refresh,
    rule_score,
    score_node,
)
from training.simulator.state import NOWHERE

PLENTY = 1000
AT_RANDOM = np.empty(0, np.int64)


@entry
def _rule_score(number, nodes, pod, row, device, around):
    return rule_score(number, nodes, pod, Candidates(row, device), around)


@entry
def _score_node(number, nodes, pod, row, around, published):
    return score_node(number, nodes, pod, row, around, published)


@entry
def _refresh(cache, number, episode, shape, around, published):
    refresh(cache, number, episode, shape, around, published)


@entry
def _choose_node(scores, ties, generator):
    return choose_node(scores, ties, generator)


def surroundings(
    nodes: NodeArrays, tables: FragmentationTables, weights: ScoringWeights = DEFAULT_WEIGHTS
) -> Surroundings:
    """What a rule may look at, with room for a single candidate."""
    cpu_free = nodes.allocatable[:, CPU] - nodes.requested[:, CPU]
    wasted = fragmentation(tables, nodes.model, cpu_free, nodes.device_free.T)
    devices = np.empty(nodes.device_free.shape[1], np.int64)
    return Surroundings(nodes.allocatable.max(axis=0, initial=0), tables, wasted, devices, weights)


def every_candidate(nodes: NodeArrays, pod: PodRequest) -> Candidates:
    return list_candidates(nodes, pod, np.arange(len(nodes.allocatable)), PLENTY)


def test_every_rule_has_a_number_in_the_order_of_the_rules():
    assert list(RULE_NUMBERS) == list(RULES)
    assert list(RULE_NUMBERS.values()) == list(range(len(RULES)))


@pytest.mark.parametrize("name", RULES)
@given(nodes=clusters(models=2), pod=pods(), typical=typical_pods(models=2), profile=profiles())
def test_a_rule_scores_alike_compiled_and_not_to_the_last_bit(name, nodes, pod, typical, profile):
    candidates = every_candidate(nodes, pod)
    weights = weights_of(profile, ("cpu", "memory", "gpu"))
    around = surroundings(nodes, fragmentation_tables(typical), weights)
    scores = np.array(
        [_rule_score(RULE_NUMBERS[name], nodes, pod, *candidate, around) for candidate in zip(*candidates, strict=True)]
    )
    if name in NORMALISED and len(scores):
        scores = normalised(scores)
    np.testing.assert_array_equal(scores, Heuristic(name, typical, weights).scores(nodes, pod, candidates))


@pytest.mark.parametrize("name", RULES)
@given(nodes=clusters(models=2), pod=pods(), typical=typical_pods(models=2))
def test_a_node_scores_as_its_best_candidate_does(name, nodes, pod, typical):
    candidates = every_candidate(nodes, pod)
    around = surroundings(nodes, fragmentation_tables(typical))
    for row in np.unique(candidates.rows):
        devices = candidates.devices[candidates.rows == row].tolist()
        scores = [_rule_score(RULE_NUMBERS[name], nodes, pod, row, device, around) for device in devices]
        score, device = _score_node(RULE_NUMBERS[name], nodes, pod, row, around, published_pods(typical))
        assert score == max(scores)
        assert device == devices[scores.index(max(scores))]  # of equals the tightest, which is listed first
        assert score == int(score)  # scores are kept as integers


@given(nodes=clusters(models=2), pod=pods(), typical=typical_pods(models=2))
def test_the_published_fgd_differs_by_rounding_only(nodes, pod, typical):
    around = surroundings(nodes, fragmentation_tables(typical))
    for row in np.unique(every_candidate(nodes, pod).rows):
        published, _ = _score_node(PUBLISHED_FGD, nodes, pod, row, around, published_pods(typical))
        score, _ = _score_node(RULE_NUMBERS["fgd"], nodes, pod, row, around, published_pods(typical))
        assert published == score or (score, published) == (50, 49)


@settings(max_examples=100)
@given(workloads(), schedulers(), st.sampled_from([*RULES]), st.integers(0, 100))
def test_scores_that_were_kept_are_those_of_scoring_everything_anew(workload, arguments, rule, quarters):
    count = len(workload.shapes)
    kept, anew = (empty_cache(count, len(workload.allocatable)) for _ in range(2))
    episode = until(workload, quarters / 4, arguments, rule, cache=kept)
    cluster = episode.cluster
    devices = np.empty(cluster.nodes.device_free.shape[1], np.int64)
    weights = weights_of(arguments.scoring, workload.resources)
    around = Surroundings(cluster.largest, episode.tables, cluster.fragmentation, devices, weights)
    for shape in range(count):
        for cache in (kept, anew):
            _refresh(cache, RULE_NUMBERS[rule], episode, shape, around, published_pods(workload.typical))
        np.testing.assert_array_equal(kept.score[shape], anew.score[shape])
        feasible = anew.score[shape] != INFEASIBLE
        np.testing.assert_array_equal(kept.device[shape, feasible], anew.device[shape, feasible])
        room = workload.admits[shape] & (cluster.pod_count < cluster.pod_limit)
        assert not np.any(feasible & ~room)
        assert np.all(episode.cluster.nodes.device_free >= ABSENT_DEVICE)


@given(st.lists(st.integers(0, 4), min_size=1, max_size=20), st.integers(0, 99))
def test_the_chosen_node_is_one_of_the_best(scores, seed):
    chosen = _choose_node(np.array(scores, np.int32), AT_RANDOM, np.random.default_rng(seed))
    assert scores[chosen] == max(scores)


@given(st.lists(st.integers(0, 4), min_size=1, max_size=20), st.integers(0, 99))
def test_given_an_order_the_first_of_the_best_is_chosen(scores, seed):
    ties = np.random.default_rng(seed).permutation(len(scores))
    chosen = _choose_node(np.array(scores, np.int32), ties, np.random.default_rng(seed))
    assert chosen == min(range(len(scores)), key=lambda row: (-scores[row], ties[row]))


@pytest.mark.parametrize("ties", [AT_RANDOM, np.arange(2)], ids=["random", "ordered"])
def test_there_is_no_choice_where_nothing_is_feasible(ties):
    assert _choose_node(np.full(2, INFEASIBLE, np.int32), ties, np.random.default_rng(0)) == NOWHERE


def test_equally_good_nodes_are_chosen_equally_often():
    scores, generator = np.array([5, 1, 5, 5], np.int32), np.random.default_rng(0)
    chosen = np.bincount([_choose_node(scores, AT_RANDOM, generator) for _ in range(6000)], minlength=4)
    assert chosen[1] == 0
    assert chosen[[0, 2, 3]] == pytest.approx([2000] * 3, rel=0.1)


def test_nothing_is_drawn_where_there_is_one_best_node():
    generator, untouched = np.random.default_rng(0), np.random.default_rng(0)
    _choose_node(np.array([1, 5, 3], np.int32), AT_RANDOM, generator)
    assert generator.random() == untouched.random()
