"""What a soak has shown: answers and memory at its beginning against those at its end.

The first and the last window are a sixth of the time each: five minutes of thirty.
"""

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from benchmarks.results import Result

WINDOWS = 6
GROWTH_AT_MOST = 0.05
SLOWER_AT_MOST = 1.2


class Sample(NamedTuple):
    """How things were at a time.

    Attributes:
        seconds: since the start.
        mebibytes: resident memory of the extender.
        load: the machine's load average over a minute.
    """

    seconds: float
    mebibytes: float
    load: float


class Soak(NamedTuple):
    """What was seen.

    Attributes:
        seconds: how long it was to take.
        rate: requests a second.
        answers: (requests, 3): seconds since the start, seconds until the answer (NaN without one), nodes ranked.
        late_sends: share of the requests that the client itself sent too late.
        samples: about one a second.
        failures: what the client counts as such, in words.
        disturbances: how often what was done.
        rungs: how often which rung answered.
        swaps: how often what became of policy files.
        differences: between the extender's books and the API server's, after all was over.
    """

    seconds: float
    rate: float
    answers: NDArray[np.float64]
    late_sends: float
    samples: Sequence[Sample]
    failures: Sequence[str]
    disturbances: Mapping[str, int]
    rungs: Mapping[str, float]
    swaps: Mapping[str, float]
    differences: Sequence[str]


def resident_mib(pid: int) -> float:
    """What a process has in memory."""
    status = Path(f"/proc/{pid}/status").read_text()
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS:")) / 1024


def sample(seconds: float, pid: int) -> Sample:
    """How things are."""
    return Sample(seconds, resident_mib(pid), os.getloadavg()[0])


def percentile(soak: Soak, percent: float, first: bool) -> float:
    """A percentile of the milliseconds until an answer, in the first window or the last."""
    began, seconds = soak.answers[:, 0], soak.answers[:, 1]
    window = soak.seconds / WINDOWS
    chosen = began < window if first else began >= soak.seconds - window
    return float(1e3 * np.nanpercentile(seconds[chosen], percent))


def memory(soak: Soak, first: bool) -> float:
    """The median memory in the first window or the last, in MiB."""
    window = soak.seconds / WINDOWS
    return float(
        np.median(
            [
                each.mebibytes
                for each in soak.samples
                if (each.seconds < window if first else each.seconds >= soak.seconds - window)
            ]
        )
    )


def results_of(soak: Soak) -> list[Result]:
    """Everything that is published."""
    minutes = soak.seconds / 60
    window = f"{minutes / WINDOWS:g} minutes"
    case = f"{minutes:g} minutes, {soak.rate:g} requests/s"
    answered = int(np.isfinite(soak.answers[:, 1]).sum())
    loads = [each.load for each in soak.samples]
    results = [
        Result(case, "requests", len(soak.answers), ""),
        Result(case, "failures that the client saw", len(soak.failures), ""),
        Result(case, "answers without opinion", int((soak.answers[:, 2] == 0).sum()), "", float(answered)),
        Result(case, "requests that the client sent late", soak.late_sends, "share"),
        Result(case, "amounts that differ from the API server's afterwards", len(soak.differences), ""),
    ]
    for percent in (50, 99):
        ours = [percentile(soak, percent, first) for first in (False, True)]
        results.append(Result(f"last {window}, against the first", f"p{percent}", ours[0], "ms", ours[1]))
    ours = [memory(soak, first) for first in (False, True)]
    results.append(Result(f"last {window}, against the first", "resident memory, median", ours[0], "MiB", ours[1]))
    highest = max(each.mebibytes for each in soak.samples)
    results.append(Result(f"all {minutes:g} minutes", "resident memory, highest", highest, "MiB"))
    kinds = Counter(failure.split(": ")[1] for failure in soak.failures)
    results += [Result("failures", kind, count, "") for kind, count in kinds.items()]
    results += [Result("what happened", what, count, "") for what, count in soak.disturbances.items()]
    results += [Result("policy files", what, count, "") for what, count in sorted(soak.swaps.items())]
    results += [Result("answers by rung", what, count, "") for what, count in sorted(soak.rungs.items()) if count]
    cores = float(os.cpu_count() or 1)
    results.append(Result("machine", "load average, mean, against its cores", float(np.mean(loads)), "", cores))
    results.append(Result("machine", "load average, highest, against its cores", max(loads), "", cores))
    return results


def shortcomings(soak: Soak) -> list[str]:
    """What the soak was to show and did not; a line each."""
    lines = [f"{len(soak.failures)} failures: {soak.failures[0]}"] if soak.failures else []
    grown = memory(soak, False) / memory(soak, True) - 1
    if grown > GROWTH_AT_MOST:
        lines.append(f"memory grew by {grown:.1%}: expected at most {GROWTH_AT_MOST:.0%}")
    slower = percentile(soak, 99, False) / percentile(soak, 99, True)
    if slower > SLOWER_AT_MOST:
        lines.append(f"p99 is {slower:.2f} times what it was: expected at most {SLOWER_AT_MOST:g}")
    if soak.differences:
        lines.append(f"{len(soak.differences)} amounts differ from the API server's: {soak.differences[0]}")
    return lines
