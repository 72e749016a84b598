import numpy as np
import pytest

from extender.cluster.assume import Assumptions, Outcome
from extender.cluster.state import ClusterState
from extender.placement import ANY_DEVICE
from tests.extender.objects import request


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class Bench:
    """Two nodes with two devices each, and what the assumptions reported."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.state = ClusterState(("cpu", "memory", "gpu"))
        for name in ("a", "b"):
            self.state.put_node(name, np.array([8000, 64, 2000]), 2)
        self.outcomes: list[Outcome] = []
        self.assumptions = Assumptions(self.state, 30.0, self.clock, self.outcomes.append)

    def cpu(self, node: str) -> int:
        return int(self.state.arrays.requested[self.state.row_of(node), 0])

    def devices_free(self, node: str) -> list[int]:
        free: list[int] = self.state.arrays.device_free[self.state.row_of(node)].tolist()
        return free


@pytest.fixture
def bench() -> Bench:
    return Bench()


def test_an_assumed_pod_counts_on_its_node_and_device(bench: Bench) -> None:
    bench.assumptions.assume("u", "a", request(500, 0, 1, 300), device=1)

    assert (bench.cpu("a"), bench.devices_free("a")) == (500, [1000, 700])
    assert len(bench.assumptions) == 1


def test_a_confirmed_pod_keeps_its_device_and_never_expires(bench: Bench) -> None:
    pod = request(500, 0, 1, 300)
    bench.assumptions.assume("u", "a", pod, device=1)
    bench.assumptions.settle("u", "a")
    bench.state.put_pod("u", "a", pod)
    bench.clock.now = 31.0

    assert bench.assumptions.expire() == 0
    assert (bench.cpu("a"), bench.devices_free("a")) == (500, [1000, 700])
    assert bench.outcomes == [Outcome.CONFIRMED]


def test_a_pod_bound_elsewhere_is_moved(bench: Bench) -> None:
    bench.assumptions.assume("u", "a", request(500), ANY_DEVICE)
    bench.assumptions.settle("u", "b")
    bench.state.put_pod("u", "b", request(500))

    assert (bench.cpu("a"), bench.cpu("b")) == (0, 500)
    assert bench.outcomes == [Outcome.MOVED]


def test_an_assumption_expires_after_its_time_and_not_before(bench: Bench) -> None:
    bench.assumptions.assume("early", "a", request(500), ANY_DEVICE)
    bench.clock.now = 10.0
    bench.assumptions.assume("late", "a", request(250), ANY_DEVICE)

    bench.clock.now = 29.9
    assert bench.assumptions.expire() == 0
    bench.clock.now = 30.0
    assert bench.assumptions.expire() == 1
    assert bench.cpu("a") == 250
    assert bench.outcomes == [Outcome.EXPIRED]


def test_assuming_the_same_pod_again_lifts_the_first_assumption(bench: Bench) -> None:
    bench.assumptions.assume("u", "a", request(500), ANY_DEVICE)
    bench.assumptions.assume("u", "b", request(500), ANY_DEVICE)

    assert (bench.cpu("a"), bench.cpu("b")) == (0, 500)
    assert len(bench.assumptions) == 1
    assert bench.outcomes == [Outcome.LIFTED]


def test_a_retry_starts_the_time_anew(bench: Bench) -> None:
    bench.assumptions.assume("u", "a", request(500), ANY_DEVICE)
    bench.assumptions.assume("v", "a", request(500), ANY_DEVICE)
    bench.clock.now = 20.0
    bench.assumptions.assume("u", "a", request(500), ANY_DEVICE)
    bench.clock.now = 30.0

    assert bench.assumptions.expire() == 1
    assert "u" in bench.assumptions


def test_a_pod_that_the_watch_has_placed_is_not_assumed_elsewhere(bench: Bench) -> None:
    bench.state.put_pod("u", "b", request(500))
    bench.assumptions.assume("u", "a", request(500), ANY_DEVICE)

    assert (bench.cpu("a"), bench.cpu("b")) == (0, 500)
    assert len(bench.assumptions) == 0


def test_lifting_or_settling_what_is_not_assumed_does_nothing(bench: Bench) -> None:
    bench.state.put_pod("bound", "a", request(500))

    assert not bench.assumptions.lift("bound")
    bench.assumptions.settle("bound", None)

    assert bench.cpu("a") == 500
    assert bench.outcomes == []
