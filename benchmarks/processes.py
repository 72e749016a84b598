"""What a second process brings: episodes of the simulator, beside what the machine itself gives.

Two cores that share caches, memory and power need not be twice as fast as one. So the same is measured with work that
is not ours: compiled arithmetic that needs no memory, and copying memory that no cache holds. What the simulator loses
beyond these is its own. Trials of one process and of two alternate and the best of each counts, because other work on
the machine only ever slows one down; how far the median is from the best says how much there was.

Speed-up is given twice: by the clock, which only a quiet machine shows, and by CPU seconds, which leave out the time in
which somebody else had the core; they show what sharing caches and memory costs. Episodes are prepared before the clock
starts: what it takes to allocate and first touch their arrays is measured apart.
"""

import time
from collections.abc import Callable
from multiprocessing import get_context
from multiprocessing.connection import Connection
from typing import NamedTuple

import numba
import numpy as np
from numpy.typing import NDArray

from training.launcher import deaf_to_interruption
from training.simulator.scheduling import RANDOM_TIES, SchedulerArguments, play_rule, prepare
from training.simulator.scoring import RULE_NUMBERS, empty_cache
from training.workloads.base import Workload

PROCESSES = 2
TRIALS = 15
TRIAL_SECONDS = 0.2
RULE = "best-fit"
COPIED_FLOATS = 8_000_000  # 64 MB read and 64 MB written
ARITHMETIC_STEPS = 10_000_000

Work = Callable[[], tuple[float, float]]
"""Does something once; gives its seconds by the clock and its CPU seconds."""


@numba.njit
def arithmetic(steps: int) -> int:
    """Pseudo-random numbers, one from the other: as many instructions as one core does, and no memory."""
    state = np.uint64(88172645463325252)
    for _ in range(steps):
        state ^= state << np.uint64(13)
        state ^= state >> np.uint64(7)
        state ^= state << np.uint64(17)
    return int(state >> np.uint64(1))


def timed(work: Callable[[], object]) -> tuple[float, float]:
    """Seconds by the clock and CPU seconds that the work takes."""
    began, cpu_began = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - began, time.process_time() - cpu_began


def play_episode(workload: Workload) -> tuple[float, float]:
    """Both times of playing an episode; preparing it does not count."""
    episode, cache = prepare(workload, SchedulerArguments()), empty_cache(len(workload.shapes), len(workload.price))
    generator = np.random.default_rng(0)
    return timed(lambda: play_rule(episode, RULE_NUMBERS[RULE], cache, workload.typical, RANDOM_TIES, generator))


def kinds_of_work(workload: Workload) -> dict[str, Work]:
    """What is measured, by name."""
    source, target = np.ones(COPIED_FLOATS), np.zeros(COPIED_FLOATS)
    return {
        "episodes": lambda: play_episode(workload),
        "preparing episodes": lambda: timed(lambda: prepare(workload, SchedulerArguments())),
        "arithmetic": lambda: timed(lambda: arithmetic(ARITHMETIC_STEPS)),
        "copying": lambda: timed(lambda: np.copyto(target, source)),
    }


def serve(connection: Connection, workload: Workload) -> None:
    """Do what is asked for over and over, in a process of its own, and answer with the mean times of once."""
    work = kinds_of_work(workload)
    for name in work:
        work[name]()
    connection.send(list(work))
    while (asked := connection.recv()) is not None:
        name, begin = asked
        while time.monotonic() < begin:
            pass
        seconds = []
        while time.monotonic() < begin + TRIAL_SECONDS:
            seconds.append(work[name]())
        connection.send(np.mean(seconds, axis=0).tolist())


class SpeedUp(NamedTuple):
    """What a second process brings for one kind of work.

    Attributes:
        alone: how often a second one process does it, by the clock.
        by_the_clock: how many times as often both together do it.
        by_cpu: the same by CPU seconds.
        median_to_best: how many times as long as the best the median trial of one process took.
    """

    alone: float
    by_the_clock: float
    by_cpu: float
    median_to_best: float


def speed_ups(workload: Workload, report: Callable[[str], None]) -> dict[str, SpeedUp]:
    """What processes at the same time do, for each kind of work.

    Args:
        workload: of the episodes.
        report: told what is measured next.
    """
    context = get_context("spawn")
    connections, processes = [], []
    try:
        for _ in range(PROCESSES):
            ours, theirs = context.Pipe()
            process = context.Process(target=serve, args=(theirs, workload), daemon=True)
            with deaf_to_interruption():
                process.start()
            connections.append(ours)
            processes.append(process)
        kinds, *_ = [connection.recv() for connection in connections]  # all are up and have compiled

        def trial(name: str, asked: list[Connection]) -> NDArray[np.float64]:
            """How often a second all of these do it together, by the clock and by CPU seconds."""
            begin = time.monotonic() + 0.01
            for connection in asked:
                connection.send((name, begin))
            return np.sum([1.0 / np.array(connection.recv()) for connection in asked], axis=0)

        found = {}
        for name in kinds:
            report(f"{name} in {PROCESSES} processes")
            alone, together = [], []
            for index in range(TRIALS):
                alone.append(trial(name, [connections[index % PROCESSES]]))
                together.append(trial(name, connections))
            best = np.max(alone, axis=0)
            gained = np.max(together, axis=0) / best
            found[name] = SpeedUp(best[0], *gained.tolist(), median_to_best=best[0] / np.median(alone, axis=0)[0])
        for connection in connections:
            connection.send(None)
        return found
    finally:
        for process in processes:
            process.join(timeout=5.0)
            process.terminate()
