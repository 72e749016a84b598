import numpy as np
import pytest

from benchmarks import processes
from benchmarks.processes import arithmetic, speed_ups, timed
from tests.clusters import GIB, Node
from tests.training.small_workloads import Pod, workload_of


def test_every_kind_of_work_is_measured_alone_and_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "TRIALS", 1)
    workload = workload_of([Node(4000, 4 * GIB)] * 2, [Pod(time, 10, 1000, GIB) for time in range(50)])
    begun: list[str] = []

    found = speed_ups(workload, begun.append)

    assert list(found) == ["episodes", "preparing episodes", "arithmetic", "copying"]
    assert begun == [f"{kind} in 2 processes" for kind in found]
    for speed_up in found.values():
        assert np.all(np.isfinite(speed_up))
        assert min(speed_up) > 0
        assert speed_up.median_to_best == 1  # of a single trial


def test_work_is_timed_by_the_clock_and_by_cpu_seconds() -> None:
    arithmetic(1)  # compiles
    seconds, cpu_seconds = timed(lambda: arithmetic(20_000_000))
    assert 0 < cpu_seconds <= 1.1 * seconds


def test_more_steps_of_arithmetic_give_another_number() -> None:
    assert arithmetic(3) != arithmetic(4)
