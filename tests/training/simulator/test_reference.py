"""The compiled event loop does what the slow and obvious one does, instant by instant."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from extender.policies.heuristics import RULES
from tests.training.simulator.reference import Reference, snapshot_of
from tests.training.small_workloads import workloads
from training.simulator.episodes import load
from training.simulator.scheduling import SchedulerArguments, order_of, play_rule, prepare
from training.simulator.scoring import RULE_NUMBERS, empty_cache
from training.simulator.state import HORIZON, NODES_TO_FIND
from training.workloads.base import Workload

ORDERINGS = ("priority", "fifo", "shortest-expected-first", "least-work-first", "smallest-first")
FOREVER = SchedulerArguments().horizon_seconds


def assert_agreement(
    workload: Workload, rule: str, arguments: SchedulerArguments, seed: int = 0, find: int | None = None
) -> None:
    """Play the episode with both, the compiled one again and again up to each instant of the other."""
    ties = np.random.default_rng(seed).permutation(len(workload.allocatable))
    order = order_of(workload, arguments.ordering)
    reference = Reference(workload, arguments, rule, order, ties, seed, find)
    instants = reference.play()
    episode = prepare(workload, arguments)
    settings = episode.settings.copy()
    if find is not None:
        settings[NODES_TO_FIND] = find
    for number, wanted in enumerate(instants):
        is_last = number == len(instants) - 1
        settings[HORIZON] = arguments.horizon_seconds if is_last else wanted["now"]
        load(episode, workload, settings, order)
        cache = empty_cache(len(workload.shapes), len(workload.allocatable))
        play_rule(episode, RULE_NUMBERS[rule], cache, workload.typical, ties, np.random.default_rng(seed))
        seen = snapshot_of(episode)
        if not is_last or seen["now"] == wanted["now"]:
            assert seen == wanted
    np.testing.assert_allclose(episode.clock[1:], reference.integrals, rtol=1e-9, atol=1e-6)


@st.composite
def schedulers(draw: st.DrawFn, **fixed: Any) -> SchedulerArguments:
    """Any settings, but for those that are given."""
    drawn = SchedulerArguments(
        ordering=draw(st.sampled_from(ORDERINGS)),
        backoff_initial_seconds=draw(st.sampled_from((0.0, 0.5, 1.0, 3.0))),
        backoff_max_seconds=draw(st.sampled_from((0.0, 1.0, 10.0))),
        pop_from_backoff=draw(st.booleans()),
        preemption=draw(st.booleans()),
        reservation_after_seconds=draw(st.sampled_from((0.0, 0.0, 0.25, 3.0))),
        reservation_gpus=draw(st.sampled_from((0, 1, 2))),
        horizon_seconds=draw(st.sampled_from((FOREVER, FOREVER, 4.0, 12.6))),
    )
    return replace(drawn, **fixed)


@pytest.mark.parametrize("rule", RULES)
@given(workload=workloads(), arguments=schedulers(), seed=st.integers(0, 9))
def test_every_rule_plays_as_the_reference_does(rule, workload, arguments, seed):
    assert_agreement(workload, rule, arguments, seed)
