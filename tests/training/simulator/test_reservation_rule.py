"""The extender's rule for reservations is the simulator's."""

import numpy as np
import pytest

from extender.placement import PodRequest
from extender.reservations import RunningPod, believed_end, delays, free_enough_at
from tests.clusters import GIB, Node
from tests.training.simulator.played import until
from tests.training.small_workloads import Pod, workload_of
from training.simulator.compiled import from_python
from training.simulator.reservations import _free_enough_at, is_withheld
from training.simulator.scheduling import SchedulerArguments
from training.simulator.state import NOBODY, NOW, NOWHERE, Episode

is_kept_off = from_python(is_withheld)
ON = SchedulerArguments(reservation_after_seconds=10.0)
NODES = [Node(9000, GIB, (1000, 1000, 1000, 1000)), Node(4000, GIB, (1000, 1000)), Node(9000, GIB)]


def random_pods(seed: int) -> list[Pod]:
    """More pods than there is room for, of any size and with or without an announced duration."""
    random = np.random.default_rng(seed)
    pods = []
    for number in range(60):
        count = int(random.choice([0, 1, 1, 2, 4]))
        milli = int(random.choice([300, 500, 1000])) if count == 1 else 1000
        duration = float(random.integers(5, 60))
        expected = float(random.choice([0.0, duration, duration / 2]))
        cpu = int(random.choice([100, 900, 2500]))
        pods.append(Pod(1.0 + number, duration, cpu, 0, count, milli if count else 0, expected=expected))
    return pods


def asked_by(episode: Episode, pod: int) -> PodRequest:
    shapes, shape = episode.shapes, episode.pods.shape[pod]
    return PodRequest(
        shapes.request[shape],
        shapes.nonzero[shape],
        int(shapes.gpu_count[shape]),
        int(shapes.gpu_milli[shape]),
        int(episode.pods.priority[pod]),
        float(episode.pods.expected[pod]),
    )


@pytest.mark.parametrize("seed", range(12))
def test_both_believe_a_node_to_be_free_enough_at_the_same_time(seed: int) -> None:
    episode = until(workload_of(NODES, random_pods(seed)), 45.0, ON)
    pods, cluster, now = episode.pods, episode.cluster, episode.clock[NOW]
    compared = 0
    for row in range(len(NODES)):
        running, other = [], cluster.first_pod[row]
        while other != NOBODY:
            request = asked_by(episode, other)
            end = believed_end(pods.began[other], pods.expected[other], now)
            running.append(RunningPod(request, int(pods.taken[other]), end))
            other = pods.next_pod[other]
        for pod in range(60):
            if pods.node[pod] == NOWHERE and cluster.admits[pods.shape[pod], row]:
                wanted = asked_by(episode, pod)
                assert free_enough_at(cluster.nodes, row, wanted, running, now) == _free_enough_at(episode, pod, row)
                compared += 1
    assert compared > 30


@pytest.mark.parametrize("seed", range(12))
def test_both_withhold_the_same_nodes(seed: int) -> None:
    episode = until(workload_of(NODES, random_pods(seed)), 45.0, ON)
    pods, cluster = episode.pods, episode.cluster
    for row in range(len(NODES)):
        for pod in range(60):
            holder = cluster.reserved_for[row]
            if holder not in (NOBODY, pod):
                kept_off = delays(cluster.reserved_until[row], pods.expected[pod], episode.clock[NOW])
                assert kept_off == is_kept_off(episode, pod, row)


def test_there_are_reservations_in_these_episodes() -> None:
    reserved = [until(workload_of(NODES, random_pods(seed)), 45.0, ON).cluster.reserved_for for seed in range(12)]
    assert sum((each != NOBODY).sum() for each in reserved) > 6
