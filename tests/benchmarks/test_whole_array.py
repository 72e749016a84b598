"""The yardstick decides as the simulator's rule does, or their times could not be compared."""

from dataclasses import replace

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.whole_array import fragmentation, play_fgd
from extender import fragmentation as tables
from tests.clusters import clusters, typical_of
from tests.training.small_workloads import workloads
from training.simulator.scheduling import SchedulerArguments, play_rule, prepare
from training.simulator.scoring import RULE_NUMBERS, empty_cache

TYPICAL = typical_of((1000, 1, 500, 0.4), (1000, 2, 1000, 0.4), (500, 0, 0, 0.2))


@given(clusters())
def test_fragmentation_is_the_extenders(nodes):
    cpu_free = nodes.allocatable[:, 0] - nodes.requested[:, 0]
    wanted = tables.fragmentation(tables.fragmentation_tables(TYPICAL), nodes.model, cpu_free, nodes.device_free.T)
    np.testing.assert_allclose(fragmentation(TYPICAL, nodes.model, cpu_free, nodes.device_free.T), wanted)


@settings(max_examples=40)
@given(workloads(), st.randoms(use_true_random=False))
def test_pods_that_never_leave_are_placed_alike(workload, random):
    workload = replace(
        workload,
        arrival=np.arange(len(workload), dtype=float),
        duration=np.full(len(workload), np.inf),
        priority=np.zeros(len(workload), np.int64),
        pod_limit=np.full(len(workload.pod_limit), 1000),
    )
    ties = np.array(random.sample(range(len(workload.allocatable)), len(workload.allocatable)))
    episode = prepare(workload, SchedulerArguments())
    cache = empty_cache(len(workload.shapes), len(workload.allocatable))
    play_rule(episode, RULE_NUMBERS["fgd"], cache, workload.typical, ties, np.random.default_rng(0))
    np.testing.assert_array_equal(play_fgd(workload, ties), episode.pods.node)
