import numpy as np
import pytest

from extender.features import TypicalPods
from training.evaluation.metrics import measure
from training.simulator.episodes import episode_of
from training.simulator.scheduling import RULE_NUMBERS, play_rule
from training.workloads.base import PodShapes, Workload


def one_device_workload(arrival: list[float], duration: list[float]) -> Workload:
    """Two nodes of one device each, pods that take a whole device."""
    pods = len(arrival)
    return Workload(
        resources=("cpu", "memory", "gpu"),
        allocatable=np.array([[8000, 64, 1000], [8000, 64, 1000]]),
        devices=np.array([1, 1]),
        shapes=PodShapes(np.array([[1000, 1, 1000]]), np.array([1]), np.array([1000])),
        shape=np.zeros(pods, np.int64),
        arrival=np.array(arrival),
        duration=np.array(duration),
        priority=np.zeros(pods, np.int64),
        expected=np.zeros(pods),
        typical=TypicalPods(np.array([1000]), np.array([1]), np.array([1000]), np.array([1.0])),
    )


def test_waits_slowdown_and_allocation_match_a_hand_worked_episode() -> None:
    # Devices are busy 0-10 and 0-20; the third pod waits 2 -> 10, the fourth 4 -> 15.
    workload = one_device_workload([0.0, 0.0, 2.0, 4.0], [10.0, 20.0, 5.0, 5.0])
    episode = episode_of(workload)
    samples = np.zeros((4, 2))
    decisions = play_rule(episode, RULE_NUMBERS["best-fit"], np.random.default_rng(0), samples)
    result = measure("best-fit", 1.0, 7, workload, episode, samples[:decisions], warm_up=0.0)
    assert result.waits.tolist() == [0.0, 0.0, 8.0, 11.0]
    assert result.metrics["mean_wait_seconds"] == pytest.approx(19 / 4)
    assert result.metrics["mean_slowdown"] == pytest.approx((1 + 1 + 13 / 5 + 16 / 5) / 4)
    assert result.metrics["unfinished"] == 0
    assert np.isnan(result.metrics["mean_wait_several_devices_seconds"])


def test_warm_up_pods_are_not_counted() -> None:
    workload = one_device_workload([0.0, 0.0, 2.0, 4.0], [10.0, 20.0, 5.0, 5.0])
    episode = episode_of(workload)
    samples = np.zeros((4, 2))
    decisions = play_rule(episode, RULE_NUMBERS["best-fit"], np.random.default_rng(0), samples)
    result = measure("best-fit", 1.0, 7, workload, episode, samples[:decisions], warm_up=0.5)
    assert result.waits.tolist() == [8.0, 11.0]


def test_allocation_is_measured_between_the_first_and_the_last_counted_arrival() -> None:
    workload = one_device_workload([0.0, 10.0, 20.0], [10.0, 10.0, 10.0])
    episode = episode_of(workload)
    samples = np.zeros((3, 2))
    decisions = play_rule(episode, RULE_NUMBERS["best-fit"], np.random.default_rng(0), samples)
    result = measure("best-fit", 1.0, 7, workload, episode, samples[:decisions], warm_up=0.0)
    assert result.metrics["gpu_allocation"] == pytest.approx(0.5)
    assert np.allclose(result.allocation, 0.5)
