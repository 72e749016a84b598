"""When pods arrive: by a process whose rhythm a population tells, or as a trace has recorded it.

A recorded trace is one run of events; to draw another one for every seed, whole days of it are put together in random
order, with repetition (a block bootstrap). A day is the block because it keeps both what the hours of the day do and
what hangs together within a day: a user's jobs come in series, and shuffling single pods would turn them into Poisson
arrivals. Nothing is kept from one day to the next but the midnight. `base.draw_workload` then stretches or shrinks
the time axis so that the cluster sees the asked-for load; a day of the workload is therefore as long as the load
makes it (openb's 230 pods a day are 2 % of the load of 32 nodes once durations are clipped to two hours), and where it
becomes shorter than the pods run, the hours no longer show in what is running.
"""

from collections.abc import Sequence
from enum import StrEnum
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from extender.placement import IntArray

FloatArray = NDArray[np.float64]

HOUR_SECONDS = 3600.0
DAY_SECONDS = 86400.0
BUSY_SHARE = 0.25  # of the arrivals of an ordinary day; a day with fewer, before the first with more, is no record
DAYS_AT_LEAST = 2  # fewer complete days cannot be put together in another order, and tell no rhythm of the day
PARTS_OF_SHORT_RECORD = 8
ORDINARY_GAPS = 0.99  # the few longest gaps are interruptions of the record, such as a trace's sparse first weeks

COVERED_AT_LEAST = 900.0  # seconds of an hour of the day, for its rate to be told from what came in them


class ArrivalProcess(StrEnum):
    """How pods arrive.

    Memoryless, in bursts (gamma gaps), memoryless with the day's rhythm, or as recorded, in resampled days.
    """

    POISSON = "poisson"
    BURSTY = "bursty"
    DIURNAL = "diurnal"
    TRACE = "trace"


class Rhythm(NamedTuple):
    """How the arrivals of a population are spread.

    Attributes:
        hour_weights: (24,) float64, relative rate by hour of the day.
        gap_variation: squared coefficient of variation of the gaps between arrivals.
    """

    hour_weights: FloatArray
    gap_variation: float


class Record(NamedTuple):
    """The usable part of a recorded trace, cut into blocks of equal length.

    Attributes:
        start: (B,) float64 seconds, where each block begins.
        seconds: how long a block is.
    """

    start: FloatArray
    seconds: float


def rhythm_of(arrival: FloatArray) -> Rhythm:
    """The rhythm of recorded arrivals.

    Args:
        arrival: (P,) float64 seconds since a midnight, in any order.
    """
    return Rhythm(_by_hour(arrival), _variation(np.diff(np.sort(arrival))))


def rhythm_within(arrival: FloatArray, spans: Sequence[tuple[float, float]]) -> Rhythm:
    """The rhythm of arrivals of which only those within some spans of time are known.

    The hours are rates: what came in an hour of the day over how long that hour was covered. Those that were hardly
    covered are taken to be between the nearest that were.

    Args:
        arrival: (P,) float64 seconds since a midnight, in any order.
        spans: begin and end of each, seconds; they do not overlap, and all pods that came then are in `arrival`.
    """
    ordered = np.sort(arrival)
    parts = [ordered[np.searchsorted(ordered, begin) : np.searchsorted(ordered, end)] for begin, end in spans]
    covered = np.zeros(24)
    for begin, end in spans:
        hours = np.arange(np.floor(begin / HOUR_SECONDS), np.ceil(end / HOUR_SECONDS))
        seconds = np.minimum(end, (hours + 1) * HOUR_SECONDS) - np.maximum(begin, hours * HOUR_SECONDS)
        covered += np.bincount(hours.astype(np.int64) % 24, weights=seconds, minlength=24)
    variation = _variation(np.concatenate([np.diff(part) for part in parts]))
    if not covered.any():  # the span of pods that came at once is no length of time: one hour is as good as another
        return Rhythm(np.ones(24), variation)
    [known] = np.nonzero(covered >= min(COVERED_AT_LEAST, covered.max()))
    rate = _by_hour(np.concatenate(parts))[known] * HOUR_SECONDS / covered[known]
    return Rhythm(np.interp(np.arange(24.0), known, rate, period=24.0), variation)


def _by_hour(arrival: FloatArray) -> FloatArray:
    """How many came in each hour of the day; (24,)."""
    hours = (arrival // HOUR_SECONDS).astype(np.int64) % 24
    return np.bincount(hours, minlength=24).astype(np.float64)


def _variation(gaps: FloatArray) -> float:
    """The squared coefficient of variation of ordinary gaps."""
    busy = np.sort(gaps)[: int(ORDINARY_GAPS * len(gaps))]
    variation = float(busy.var() / busy.mean() ** 2) if busy.any() else 1.0
    return variation or 1.0


def arrival_pattern(
    pods: int, seconds: float, process: ArrivalProcess, rhythm: Rhythm, generator: np.random.Generator
) -> FloatArray:
    """Where in an interval of `seconds` the pods arrive, as ascending shares of it; (pods,) float64 in 0..1."""
    if process is ArrivalProcess.BURSTY:
        steps = generator.gamma(1.0 / rhythm.gap_variation, size=pods + 1)
    else:
        steps = generator.exponential(size=pods + 1)
    shares = np.cumsum(steps)[:-1] / steps.sum()
    if process is not ArrivalProcess.DIURNAL:
        return shares
    # Warp uniform time by the inverse of the day's cumulative rate, from midnight on.
    hours = np.arange(0.0, seconds + HOUR_SECONDS, HOUR_SECONDS)
    rate = rhythm.hour_weights[(hours[:-1] % DAY_SECONDS / HOUR_SECONDS).astype(int)]
    cumulative = np.concatenate([[0.0], np.cumsum(rate)])
    end = np.interp(seconds, hours, cumulative)
    if end <= 0:  # nothing of what was recorded came in these hours, as where all came at once
        return shares
    return np.interp(shares * end, cumulative, hours) / seconds


def usable_record(arrival: FloatArray) -> Record:
    """The days of a trace that were recorded as a whole.

    A trace that lists what ran when it was taken begins with pods that had been there for long: openb has 28 in its
    first 115 days and some 230 a day after that. Those are the long-lived survivors of days whose other pods are not
    in the list, so these days are left out: everything before the first and after the last day with at least a
    quarter of an ordinary day's arrivals, and these two days themselves, because recording began and ended in their
    course (in openb, days 116 to 148 remain). Quiet days in between are what they are, such as weekends.

    Where fewer than two days remain, the record says nothing about days, and its parts are eighths of the whole.

    Args:
        arrival: (P,) float64 seconds since a midnight, in any order; at least one.
    """
    day = (arrival // DAY_SECONDS).astype(np.int64)
    days, of_pod, counts = np.unique(day, return_inverse=True, return_counts=True)
    ordinary = np.median(counts[of_pod])  # of the day of the median pod: however many sparse days there are
    busy = days[counts >= BUSY_SHARE * ordinary]
    complete = np.arange(busy[0] + 1, busy[-1])
    if len(complete) >= DAYS_AT_LEAST:
        return Record(complete * DAY_SECONDS, DAY_SECONDS)
    first, last = float(arrival.min()), float(arrival.max())
    seconds = max((last - first) / PARTS_OF_SHORT_RECORD, 1.0)
    return Record(first + seconds * np.arange(PARTS_OF_SHORT_RECORD), seconds)


def resample(
    arrival: FloatArray, eligible: IntArray, pods: int, generator: np.random.Generator
) -> tuple[IntArray, FloatArray]:
    """Draw recorded pods together with their order and spacing, block by block, until there are enough.

    Args:
        arrival: (P,) float64 seconds since a midnight, in any order.
        eligible: indices of the pods that may be drawn.
        pods: how many to draw.
        generator: the only source of randomness.

    Returns:
        (pods,) int64 indices, and (pods,) float64 in 0..1, when they arrive as ascending shares of the time until the
        next one would.

    Raises:
        ValueError: none of the eligible pods arrived in the usable part of the record.
    """
    record = usable_record(arrival)
    block = np.clip((arrival[eligible] - record.start[0]) // record.seconds, -1, len(record.start)).astype(np.int64)
    if record.seconds != DAY_SECONDS:
        block = np.minimum(block, len(record.start) - 1)  # the last arrival is the end of the last part
    order = np.lexsort((arrival[eligible], block))
    members, block = eligible[order], block[order]
    begin = np.searchsorted(block, np.arange(len(record.start)), side="left")
    end = np.searchsorted(block, np.arange(len(record.start)), side="right")
    if not np.any(end > begin):
        raise ValueError("no pod that fits on the drawn nodes arrived on a completely recorded day; draw more nodes")

    drawn: list[IntArray] = []
    times: list[FloatArray] = []
    count, elapsed = 0, 0.0
    while count <= pods:  # one more than asked for, which tells where the time of the last one ends
        choice = int(generator.integers(len(record.start)))
        chosen = members[begin[choice] : end[choice]]
        drawn.append(chosen)
        times.append(elapsed + arrival[chosen] - record.start[choice])
        count += len(chosen)
        elapsed += record.seconds
    # The end of one part and the beginning of the next may be the same moment, but for rounding.
    time = np.maximum.accumulate(np.concatenate(times))
    return np.concatenate(drawn)[:pods], time[:pods] / max(time[pods], np.finfo(np.float64).tiny)
