import threading
import time

import pytest

from extender.policies.worker import HUNG_AT_MOST, DeadlineError, Worker


def soon() -> float:
    return time.perf_counter() + 0.02


def later() -> float:
    return time.perf_counter() + 30.0


def nothing() -> None:
    pass


def test_what_the_work_raises_is_raised_to_the_caller() -> None:
    worker = Worker("w")
    with pytest.raises(ZeroDivisionError):
        worker.call(lambda: 1 // 0, later(), nothing)

    assert worker.call(lambda: 5, later(), nothing) == 5
    worker.stop()


def test_work_that_hangs_is_given_up_told_to_end_and_the_next_call_is_answered() -> None:
    worker = Worker("w")
    end = threading.Event()
    with pytest.raises(DeadlineError, match="no answer within"):
        worker.call(end.wait, soon(), nothing)

    assert worker.hung == 1
    assert worker.call(lambda: 5, later(), nothing) == 5
    end.set()
    wait_for_hung(worker, 0)
    worker.stop()


def test_a_call_that_is_told_to_end_frees_its_place() -> None:
    worker = Worker("w")
    end = threading.Event()
    with pytest.raises(DeadlineError):
        worker.call(end.wait, soon(), end.set)

    wait_for_hung(worker, 0)


def test_when_too_many_calls_hang_no_further_one_is_begun_until_one_ends() -> None:
    worker = Worker("w")
    end = threading.Event()
    for _ in range(HUNG_AT_MOST):
        with pytest.raises(DeadlineError):
            worker.call(end.wait, soon(), nothing)
    with pytest.raises(DeadlineError, match="no further one is begun"):
        worker.call(lambda: 5, later(), nothing)

    end.set()
    wait_for_hung(worker, 0)
    assert worker.call(lambda: 5, later(), nothing) == 5
    worker.stop()


def test_work_that_ends_about_when_waiting_does_is_never_mixed_up_with_the_next() -> None:
    worker = Worker("w")
    for number in range(300):
        try:
            got = worker.call(lambda: time.sleep(0.0005) or number, time.perf_counter() + 0.0006, nothing)  # noqa: B023
        except DeadlineError:
            wait_for_hung(worker, 0)
        else:
            assert got == number
    worker.stop()


def wait_for_hung(worker: Worker, count: int) -> None:
    deadline = time.monotonic() + 120.0
    while worker.hung != count:
        assert time.monotonic() < deadline
        time.sleep(0.001)
