"""Compiles what an evaluation needs, in a process of its own, while something else goes on.

Compiling the event loop takes most of a minute where no compiled code of these very sources is on disk yet (see
`compiled`). A run trains first, which leaves the second core the time for it; the evaluation then finds the code there.
"""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import numpy as np

from extender.features import feature_count
from extender.fragmentation import fragmentation_tables
from training.processes import stop
from training.simulator.learned import blank_network, play_network
from training.simulator.scheduling import SchedulerArguments, play, prepare
from training.workloads.base import Workload
from training.workloads.selection import WorkloadArguments, draw, load_population

COMPILES_AT_MOST_SECONDS = 600.0


@contextmanager
def compiling_ahead() -> Iterator[None]:
    """Compile beside the body of the `with`; at its end the code is there, or whoever needs it compiles it himself."""
    process = subprocess.Popen([sys.executable, "-m", "training.simulator.ahead"], stdout=subprocess.DEVNULL)
    try:
        yield
        with suppress(subprocess.TimeoutExpired):
            process.wait(COMPILES_AT_MOST_SECONDS)
    finally:
        stop(process)


def _small_workload() -> Workload:
    arguments = WorkloadArguments(source="synthetic")
    population = load_population(arguments, 3)
    return draw(population, arguments, nodes=8, pods=20, load=0.5, generator=np.random.default_rng(0))


def main() -> None:
    """Play a few pods with a rule and with a network, which compiles both."""
    os.nice(10)
    workload = _small_workload()
    play(workload, "random", SchedulerArguments(), 0)
    network = blank_network(feature_count(len(workload.resources)))
    episode = prepare(workload, SchedulerArguments(), sampled=True)
    play_network(episode, network, fragmentation_tables(workload.typical), np.random.default_rng(0))


if __name__ == "__main__":
    main()
