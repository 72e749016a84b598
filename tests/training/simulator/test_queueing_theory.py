"""Where queueing theory has a formula, the simulator meets it."""

import heapq
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from tests.training.small_workloads import Pod, slots, workload_of
from training.simulator.scheduling import SchedulerArguments, play
from training.workloads.base import Workload

SERVICE_SECONDS = 100.0
PODS, WARM_UP = 12_000, 2_000
SEEDS = 30
AT_ONCE = SchedulerArguments(backoff_max_seconds=0.0)
CASES = [(1, 0.5), (1, 0.75), (4, 0.8), (20, 0.85)]


def one_slot_pods(servers: int, load: float, seed: int) -> Workload:
    """Identical pods on nodes with one slot each; gaps between arrivals and durations are exponential."""
    generator = np.random.default_rng((servers, seed))
    one = workload_of(slots(servers), [Pod(0, 1, 1000)])
    duration = generator.exponential(SERVICE_SECONDS, PODS)
    return replace(
        one,
        shape=np.zeros(PODS, np.int64),
        arrival=np.cumsum(generator.exponential(SERVICE_SECONDS / (servers * load), PODS)),
        duration=duration,
        priority=np.zeros(PODS, np.int64),
        expected=duration,
    )


def erlang_c_mean_wait(servers: int, load: float) -> float:
    """Mean wait of M/M/c."""
    offered = servers * load
    blocked = stats.poisson.pmf(servers, offered) / stats.poisson.cdf(servers, offered)  # Erlang B
    waits = blocked / (1 - load * (1 - blocked))
    return waits * SERVICE_SECONDS / (servers * (1 - load))


@pytest.mark.parametrize(("servers", "load"), CASES)
def test_one_slot_pods_wait_as_erlang_c_says(servers, load):
    waits = np.array(
        [
            play(one_slot_pods(servers, load, seed), "random", AT_ONCE, seed).waited[WARM_UP:].mean()
            for seed in range(SEEDS)
        ]
    )
    interval = stats.t.interval(0.95, SEEDS - 1, waits.mean(), stats.sem(waits))
    assert interval[0] < erlang_c_mean_wait(servers, load) < interval[1]
    assert interval[1] - interval[0] < 0.25 * waits.mean()  # an interval that says something


@pytest.mark.parametrize(("servers", "load"), CASES)
def test_each_pod_waits_as_long_as_the_first_server_to_be_free_says(servers, load):
    """The recursion of Kiefer and Wolfowitz, of which Erlang C is the mean."""
    workload = one_slot_pods(servers, load, seed=0)
    free_at, wanted = [0.0] * servers, []
    for arrival, duration in zip(workload.arrival.tolist(), workload.duration.tolist(), strict=True):
        started = max(arrival, heapq.heappop(free_at))
        heapq.heappush(free_at, started + duration)
        wanted.append(started - arrival)
    np.testing.assert_array_equal(play(workload, "random", AT_ONCE, 0).waited, wanted)


@pytest.mark.parametrize(("ordering", "shorter"), [("priority", False), ("shortest-expected-first", True)])
def test_the_mean_wait_is_shorter_only_where_the_order_knows_durations(ordering, shorter):
    workload = one_slot_pods(4, 0.9, seed=0)
    in_order = play(workload, "random", replace(AT_ONCE, ordering=ordering), 0).waited.mean()
    first_come = play(workload, "random", replace(AT_ONCE, ordering="fifo"), 0).waited.mean()
    assert (in_order < 0.7 * first_come) == shorter
