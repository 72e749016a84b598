"""The compiled event loop does what the slow and obvious one does, instant by instant."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from extender.policies.heuristics import RULES
from extender.profile import weights_of
from tests.training.simulator.reference import Reference, snapshot_of
from tests.training.simulator.schedulers import schedulers
from tests.training.small_workloads import Pod, slots, workload_of, workloads
from training.simulator.episodes import load
from training.simulator.scheduling import SchedulerArguments, order_of, play_rule, prepare
from training.simulator.scoring import RULE_NUMBERS, empty_cache
from training.simulator.state import HORIZON, NODES_TO_FIND
from training.workloads.base import Workload


def assert_agreement(
    workload: Workload, rule: str, arguments: SchedulerArguments, seed: int = 0, find: int | None = None
) -> None:
    """Play the episode with both, the compiled one again and again up to each instant of the other."""
    ties = np.random.default_rng(seed).permutation(len(workload.allocatable))
    order = order_of(workload, arguments.ordering)
    weights = weights_of(arguments.scoring, workload.resources)
    reference = Reference(workload, arguments, rule, order, ties, seed, find)
    instants = reference.play()
    episode = prepare(workload, arguments)
    given_settings = episode.settings.copy()
    if find is not None:
        given_settings[NODES_TO_FIND] = find
    for number, wanted in enumerate(instants):
        is_last = number == len(instants) - 1
        given_settings[HORIZON] = arguments.horizon_seconds if is_last else wanted["now"]
        load(episode, workload, given_settings, order)
        cache = empty_cache(len(workload.shapes), len(workload.allocatable))
        play_rule(episode, RULE_NUMBERS[rule], cache, workload.typical, ties, np.random.default_rng(seed), weights)
        seen = snapshot_of(episode)
        assert seen == wanted
    np.testing.assert_allclose(episode.clock[1:], reference.integrals, rtol=1e-9, atol=1e-6)


@pytest.mark.parametrize("rule", RULES)
@settings(max_examples=25)
@given(workload=workloads(), arguments=schedulers(), seed=st.integers(0, 9))
def test_every_rule_plays_as_the_reference_does(rule, workload, arguments, seed):
    assert_agreement(workload, rule, arguments, seed)


@given(
    workload=workloads(pods_at_most=40, nodes_at_most=2), arguments=schedulers(preemption=True), seed=st.integers(0, 9)
)
def test_preemption_in_a_crowd_plays_as_the_reference_does(workload, arguments, seed):
    assert_agreement(workload, "kube-scheduler-default", arguments, seed)


@given(workload=workloads(nodes_at_most=8), arguments=schedulers(), find=st.integers(1, 7))
def test_a_search_that_stops_early_goes_on_where_it_stopped(workload, arguments, find):
    assert_agreement(workload, "most-allocated", arguments, find=find)


@given(
    workload=workloads(),
    arguments=schedulers(preemption=False, reservation_after_seconds=0.25, reservation_gpus=0),
    rule=st.sampled_from(sorted(RULES)),
)
def test_reservations_play_as_the_reference_does(workload, arguments, rule):
    assert_agreement(workload, rule, arguments)


@given(workload=workloads(), arguments=schedulers(backoff_initial_seconds=1.0, backoff_max_seconds=10.0))
def test_backoff_plays_as_the_reference_does(workload, arguments):
    assert_agreement(workload, "dot-product", arguments)


@settings(max_examples=5)
@given(
    rule=st.sampled_from(sorted(RULES)), arguments=schedulers(percentage_of_nodes_to_score=1), seed=st.integers(0, 9)
)
def test_a_large_cluster_is_searched_in_parts(rule, arguments, seed):
    generator = np.random.default_rng(seed)
    times, sizes = np.sort(generator.integers(0, 40, 60)) / 4, generator.choice([250, 500, 1000], 60)
    arriving = [Pod(time, generator.integers(1, 60) / 4, int(size)) for time, size in zip(times, sizes, strict=True)]
    assert_agreement(workload_of(slots(120), arriving), rule, arguments, seed)
