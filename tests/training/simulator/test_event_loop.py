import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given

from extender.features import fragmentation
from extender.placement import ABSENT_DEVICE, CPU, GPU, WHOLE_DEVICE_MILLI, NodeArrays, PodRequest, occupy, release
from tests.clusters import GIB, Node, every_choice, typical_of
from tests.training.small_workloads import Pod, slots, workload_of, workloads
from training.simulator.episodes import episode_of
from training.simulator.event_loop import (
    ARRIVED,
    DECISION,
    FINISHED,
    FORCED,
    FRAGMENTED_SECONDS,
    GPU_SECONDS,
    NOW,
    NOWHERE,
    PARKED,
    PLACED,
    PODS,
    QUEUED,
    RUNNING,
    WAITING_SECONDS,
    Episode,
    advance,
    head_of_queue,
    park,
    place,
)
from training.simulator.scheduling import RULE_NUMBERS, play_rule
from training.workloads.base import Workload

PLENTY = 1000
Choice = tuple[int, int]
Rule = Callable[[int, list[Choice]], Choice]


def any_of(pod: int, choices: list[Choice]) -> Choice:
    """A rule that needs no scores, favours nothing, and does not depend on the order of the choices."""
    return sorted(choices)[(7 * pod + 3) % len(choices)]


def first_of(pod: int, choices: list[Choice]) -> Choice:
    return min(choices)


def play(episode: Episode, rule: Rule = any_of, after_each: Callable[[Episode], None] = lambda episode: None) -> None:
    """Play to the end."""
    while True:
        state, candidates = advance(episode, PLENTY)
        after_each(episode)
        if state == FINISHED:
            return
        place(episode, *rule(head_of_queue(episode), list(zip(*map(np.ndarray.tolist, candidates), strict=True))))
        after_each(episode)


def started(workload: Workload, rule: Rule = first_of) -> list[float]:
    episode = episode_of(workload)
    play(episode, rule)
    return episode.started.tolist()


class SlowLoop:
    """The event loop over, with lists that are searched from end to end.

    Parked pods are all tried again whenever a pod leaves, wherever it leaves.
    """

    def __init__(self, workload: Workload, rule: Rule) -> None:
        self.workload, self.rule = workload, rule
        free = [
            [WHOLE_DEVICE_MILLI] * count + [ABSENT_DEVICE] * (max(workload.devices) - count)
            for count in workload.devices
        ]
        self.nodes = NodeArrays(
            workload.allocatable.copy(),
            np.zeros_like(workload.allocatable),
            np.array(free, np.int64).reshape(len(free), -1),
        )
        self.node = [NOWHERE] * len(workload)
        self.started = [math.nan] * len(workload)
        self.taken = [0] * len(workload)
        self.decisions: list[int] = []

    def request(self, pod: int) -> PodRequest:
        shapes, shape = self.workload.shapes, self.workload.shape[pod]
        return PodRequest(shapes.request[shape], int(shapes.gpu_count[shape]), int(shapes.gpu_milli[shape]), 0, 0.0)

    def schedule(self, queue: list[int], now: float, running: list[tuple[float, int]]) -> list[int]:
        """Empty the queue; returns who fits nowhere."""
        unschedulable = []
        for pod in sorted(queue, key=lambda pod: (-self.workload.priority[pod], pod)):
            tightest, looser = every_choice(self.nodes, self.request(pod), range(len(self.node_rows())))
            choices = tightest + looser
            if not choices:
                unschedulable.append(pod)
                continue
            if len(choices) > 1:
                self.decisions.append(pod)
            row, device = self.rule(pod, choices)
            self.taken[pod] = occupy(self.nodes, self.request(pod), row, device)
            self.node[pod], self.started[pod] = row, now
            running.append((now + float(self.workload.duration[pod]), pod))
        return unschedulable

    def node_rows(self) -> np.ndarray:
        return self.nodes.allocatable

    def run(self) -> None:
        coming = list(range(len(self.workload)))
        waiting: list[int] = []
        running: list[tuple[float, int]] = []
        while coming or (waiting and running):
            leaves, leaver = min(running, default=(math.inf, -1))
            if coming and self.workload.arrival[coming[0]] < leaves:
                pod = coming.pop(0)
                waiting += self.schedule([pod], float(self.workload.arrival[pod]), running)
            else:
                running.remove((leaves, leaver))
                release(self.nodes, self.request(leaver), self.node[leaver], self.taken[leaver])
                waiting = self.schedule(waiting, leaves, running)


@given(workloads())
def test_every_pod_starts_when_and_where_a_slow_obvious_loop_starts_it(workload):
    episode = episode_of(workload)
    slow = SlowLoop(workload, any_of)
    slow.run()
    decisions = []

    def remember(pod: int, choices: list[Choice]) -> Choice:
        decisions.append(pod)
        return any_of(pod, choices)

    play(episode, remember)
    assert episode.node.tolist() == slow.node
    assert episode.taken.tolist() == slow.taken
    assert episode.started.tolist() == pytest.approx(slow.started, nan_ok=True)
    assert decisions == slow.decisions


def assert_books_balance(episode: Episode) -> None:
    counters = episode.counters
    running = episode.finish_pod[: counters[RUNNING]]
    requested = np.zeros_like(episode.requested)
    in_use = np.zeros_like(episode.device_free)
    for pod in running:
        row, shape = episode.node[pod], episode.shape[pod]
        requested[row] += episode.shape_request[shape]
        mask = int(episode.taken[pod])
        taken = [device for device in range(in_use.shape[1]) if mask >> device & 1]
        assert len(taken) == episode.shape_gpu_count[shape]
        in_use[row, taken] += episode.shape_gpu_milli[shape]
    present = episode.device_free != ABSENT_DEVICE
    assert episode.requested.tolist() == requested.tolist()
    assert (WHOLE_DEVICE_MILLI - episode.device_free)[present].tolist() == in_use[present].tolist()
    assert not np.any(in_use[~present])
    assert np.all(requested <= episode.allocatable)
    assert present.sum() * WHOLE_DEVICE_MILLI == episode.allocatable[:, GPU].sum()

    waiting = [*episode.queue_pod[: counters[QUEUED]], *episode.parked[: counters[PARKED]]]
    assert sorted(waiting) == np.flatnonzero(np.isnan(episode.started[: counters[ARRIVED]])).tolist()
    assert counters[PLACED] == np.isfinite(episode.started).sum()
    cpu_free = episode.allocatable[:, CPU] - episode.requested[:, CPU]
    typical = typical_of((1000, 1, 500, 0.5), (1000, 2, 1000, 0.5))
    assert episode.fragmented == pytest.approx(fragmentation(cpu_free, episode.device_free, typical))


@given(workloads())
def test_what_is_requested_is_what_the_running_pods_ask_for_at_every_moment(workload):
    play(episode_of(workload), after_each=assert_books_balance)


@given(workloads())
def test_the_integrals_are_the_sums_over_the_pods(workload):
    episode = episode_of(workload)
    play(episode)
    clock = episode.clock
    begun = np.where(np.isnan(episode.started), clock[NOW], episode.started)
    waits = np.maximum(begun - workload.arrival, 0.0)
    gpu = workload.shapes.request[workload.shape, GPU] / WHOLE_DEVICE_MILLI
    ran = np.clip(clock[NOW] - begun, 0.0, workload.duration)
    assert clock[WAITING_SECONDS] == pytest.approx(waits.sum())
    assert clock[GPU_SECONDS] == pytest.approx((gpu * ran).sum())


def test_useless_devices_are_summed_over_time():
    # From 0 to 10 nobody is there; until 30 half of the only device is taken, and what usually comes wants a whole one.
    workload = workload_of(
        [Node(4000, GIB, (1000,))],
        [Pod(10, 20, 1000, 0, 1, 500), Pod(50, 1, 1000)],
        typical_of((1000, 1, 1000, 1.0)),
    )
    episode = episode_of(workload)
    play(episode)
    assert episode.clock[FRAGMENTED_SECONDS] == pytest.approx(0.5 * 20)


def test_the_higher_priority_goes_first_and_then_the_earlier_arrival():
    filling = Pod(0, 10, 1000)
    workload = workload_of(
        slots(1),
        [filling, Pod(1, 5, 1000), Pod(2, 5, 1000, priority=10), Pod(3, 5, 1000), Pod(4, 5, 1000, priority=10)],
    )
    assert started(workload) == [0, 20, 10, 25, 15]


def test_a_pod_that_fits_overtakes_one_that_does_not():
    workload = workload_of([Node(2000, GIB)], [Pod(0, 10, 1500), Pod(1, 5, 2000, priority=10), Pod(2, 5, 500)])
    assert started(workload) == [0, 10, 2]


def test_a_parked_pod_returns_when_a_pod_leaves_a_node_on_which_it_fits():
    small, large = Node(1000, GIB), Node(4000, GIB)
    workload = workload_of([small, large], [Pod(0, 30, 4000), Pod(0, 10, 1000), Pod(1, 5, 4000), Pod(2, 5, 500)])
    episode = episode_of(workload)
    play(episode, first_of)
    assert episode.started.tolist() == [0, 0, 30, 10]
    assert episode.node.tolist() == [1, 0, 1, 0]


def test_a_pod_that_leaves_makes_room_for_one_that_arrives_in_the_same_instant():
    episode = episode_of(workload_of(slots(1), [Pod(0, 10, 1000), Pod(10, 1, 1000)]))
    play(episode)
    assert episode.started.tolist() == [0, 10]
    assert episode.clock[WAITING_SECONDS] == 0.0


def test_one_candidate_is_no_decision():
    episode = episode_of(workload_of(slots(2), [Pod(0, 10, 1000), Pod(1, 10, 1000)]))
    state, candidates = advance(episode, PLENTY)
    assert (state, candidates.rows.tolist()) == (DECISION, [0, 1])
    place(episode, 1, -1)
    assert advance(episode, PLENTY)[0] == FINISHED
    assert episode.node.tolist() == [1, 0]
    assert (episode.counters[PLACED], episode.counters[FORCED]) == (2, 1)


def test_two_devices_of_one_node_are_a_decision():
    episode = episode_of(workload_of([Node(8000, GIB, (1000, 1000))], [Pod(0, 9, 1000, 0, 1, 400)] * 2))
    state, candidates = advance(episode, PLENTY)
    assert (state, candidates.rows.tolist(), candidates.devices.tolist()) == (DECISION, [0, 0], [0, 1])


def test_a_pod_that_is_parked_though_it_fits_returns_when_a_pod_leaves():
    episode = episode_of(workload_of(slots(3), [Pod(0, 10, 1000), Pod(1, 10, 1000), Pod(50, 1, 1000)]))
    advance(episode, PLENTY)
    place(episode, 0, -1)
    advance(episode, PLENTY)
    park(episode)
    play(episode)
    assert episode.started.tolist() == [0, 10, 50]


def test_an_episode_ends_though_a_pod_fits_nowhere():
    episode = episode_of(workload_of(slots(1), [Pod(0, 5, 9000), Pod(1, 10, 1000)]))
    play(episode)
    assert np.isnan(episode.started[0])
    assert episode.node.tolist() == [NOWHERE, 0]
    assert (episode.counters[PLACED], episode.counters[PODS]) == (1, 2)


def test_an_episode_ends_with_the_last_start():
    episode = episode_of(workload_of(slots(1), [Pod(0, 5, 1000), Pod(1, 1000, 1000)]))
    play(episode)
    assert episode.clock[NOW] == 5.0


@given(workloads())
def test_a_copy_of_the_arrays_goes_on_alike(workload):
    episode = episode_of(workload)
    advance(episode, PLENTY)
    copied = Episode(*(array.copy() for array in episode))
    for version in (episode, copied):
        while advance(version, PLENTY)[0] == DECISION:
            park(version)
    for array, other in zip(episode, copied, strict=True):
        np.testing.assert_array_equal(array, other)


def erlang_c_mean_wait(servers: int, load: float, service_seconds: float) -> float:
    """Mean wait of M/M/c, by Erlang's formula for the probability of waiting."""
    offered = servers * load
    full = offered**servers / math.factorial(servers) / (1 - load)
    waits = full / (sum(offered**k / math.factorial(k) for k in range(servers)) + full)
    return waits * service_seconds / (servers * (1 - load))


@pytest.mark.parametrize(("servers", "load"), [(1, 0.6), (4, 0.8)])
def test_one_slot_pods_wait_as_erlang_c_says(servers, load):
    pods, service_seconds = 200_000, 100.0
    generator = np.random.default_rng(servers)
    arrival = np.cumsum(generator.exponential(service_seconds / (servers * load), pods))
    one = workload_of(slots(servers), [Pod(0, 1, 1000)])
    workload = Workload(
        resources=one.resources,
        allocatable=one.allocatable,
        devices=one.devices,
        shapes=one.shapes,
        shape=np.zeros(pods, np.int64),
        arrival=arrival,
        duration=generator.exponential(service_seconds, pods),
        priority=np.zeros(pods, np.int64),
        expected=np.zeros(pods),
        typical=one.typical,
    )
    episode = episode_of(workload)
    play_rule(episode, RULE_NUMBERS["random"], generator, np.zeros((pods, 2)))
    mean_wait = episode.clock[WAITING_SECONDS] / pods
    assert mean_wait == pytest.approx(erlang_c_mean_wait(servers, load, service_seconds), rel=0.06)
