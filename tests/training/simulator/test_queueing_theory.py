"""Where queueing theory has a formula, the simulator meets it."""

from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from tests.training.small_workloads import Pod, slots, workload_of
from training.simulator.scheduling import SchedulerArguments, play

SERVICE_SECONDS = 100.0
PODS, WARM_UP = 12_000, 2_000
SEEDS = 20
AT_ONCE = SchedulerArguments(backoff_max_seconds=0.0)


def erlang_c_mean_wait(servers: int, load: float) -> float:
    """Mean wait of M/M/c."""
    offered = servers * load
    blocked = stats.poisson.pmf(servers, offered) / stats.poisson.cdf(servers, offered)  # Erlang B
    waits = blocked / (1 - load * (1 - blocked))
    return waits * SERVICE_SECONDS / (servers * (1 - load))


def mean_wait(servers: int, load: float, seed: int) -> float:
    """Mean wait of identical pods on nodes with one slot each, without those that came first."""
    generator = np.random.default_rng((servers, seed))
    one = workload_of(slots(servers), [Pod(0, 1, 1000)])
    workload = replace(
        one,
        shape=np.zeros(PODS, np.int64),
        arrival=np.cumsum(generator.exponential(SERVICE_SECONDS / (servers * load), PODS)),
        duration=generator.exponential(SERVICE_SECONDS, PODS),
        priority=np.zeros(PODS, np.int64),
        expected=np.zeros(PODS),
    )
    return float(play(workload, "random", AT_ONCE, seed).waited[WARM_UP:].mean())


@pytest.mark.parametrize(("servers", "load"), [(1, 0.5), (1, 0.75), (4, 0.8), (20, 0.85)])
def test_one_slot_pods_wait_as_erlang_c_says(servers, load):
    waits = np.array([mean_wait(servers, load, seed) for seed in range(SEEDS)])
    interval = stats.t.interval(0.95, SEEDS - 1, waits.mean(), stats.sem(waits))
    assert interval[0] < erlang_c_mean_wait(servers, load) < interval[1]
    assert interval[1] - interval[0] < 0.3 * waits.mean()  # an interval that says something


@pytest.mark.parametrize("ordering", ["fifo", "shortest-expected-first"])
def test_the_mean_wait_depends_on_the_order_only_where_durations_are_known(ordering):
    generator = np.random.default_rng(5)
    one = workload_of(slots(4), [Pod(0, 1, 1000)])
    duration = generator.exponential(SERVICE_SECONDS, PODS)
    workload = replace(
        one,
        shape=np.zeros(PODS, np.int64),
        arrival=np.cumsum(generator.exponential(SERVICE_SECONDS / 3.6, PODS)),
        duration=duration,
        priority=np.zeros(PODS, np.int64),
        expected=duration,
    )
    waited = play(workload, "random", replace(AT_ONCE, ordering=ordering), 0).waited.mean()
    first_come = play(workload, "random", AT_ONCE, 0).waited.mean()
    assert (waited < 0.7 * first_come) == (ordering == "shortest-expected-first")
