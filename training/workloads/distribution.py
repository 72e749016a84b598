"""How pods are distributed, feature by feature, and how far other pods are from that: drift.

A policy file carries the histograms of the pods that it was trained on (`extender.policies.onnx.PolicyMetadata`), so
that those of a cluster can be compared with them years later, without the trace. The measure is the population
stability index,

    PSI = sum over the bins of (q - p) * ln(q / p)

with the shares p of the reference and q of the pods that are looked at: below 0.1 there is no drift to speak of, from
0.25 on a major one (Siddiqi, "Credit Risk Scorecards", 2006, where these thresholds became customary). It is a matter
of the bins, and of chance where pods are few: without any drift it is about (1/n + 1/m) times a chi-square variable
with one degree of freedom less than there are bins (Yurdakul, "Statistical Properties of Population Stability Index",
2018), which says how much of an index chance alone explains (`Drift.chance`). That is for independent pods; pods that
come in batches are fewer than they look.

Durations are known of pods that have ended, and those are the short ones. Of the others it is known how long they have
run; both together give the distribution, by Kaplan's and Meier's estimate ("Nonparametric Estimation from Incomplete
Observations", 1958), as far as pods were seen to run (`Durations`). What is longer is one bin on both sides.
"""

from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import NamedTuple

import numpy as np
import scipy

from extender.placement import CPU, MEMORY, WHOLE_DEVICE_MILLI
from extender.policies.onnx import FeatureHistogram
from training.workloads.base import BoolArray, FloatArray, IntArray, Workload

MODERATE, MAJOR = 0.1, 0.25
CHANCE = 0.99  # the quantile of what chance alone makes of an index
BINS = 10  # of equal shares, besides the values that are frequent by themselves
RUNNING_AT_LEAST = 10  # pods that ran longer than a bound where others were cut off, for what is below it to be told
ENDED_AT_LEAST = 20  # of fewer durations nothing is said
ATOM = 0.05  # a value that so many pods have is a bin of its own
FEATURES = ("cpu", "memory", "gpus", "gpu_part", "priority", "duration", "interarrival")
"""CPU in milli, memory in bytes, devices, thousandths of each device (pods with GPUs only), priority, seconds, and the
time to the next pod over its mean: a policy serves clusters of any size, and with the size the mean changes."""


class Level(StrEnum):
    """What an index means."""

    NONE = "none"
    MODERATE = "moderate"
    MAJOR = "major"
    TOO_FEW = "too few pods to tell"


class Drift(NamedTuple):
    """How far the pods are from the reference in one feature.

    Attributes:
        index: the population stability index.
        chance: what 99 of 100 samples of so few pods stay below without any drift.
        pods: how many pods were looked at.
    """

    index: float
    chance: float
    pods: int

    @property
    def level(self) -> Level:
        """What that means; where chance alone reaches a major index, nothing."""
        if self.chance >= MAJOR:
            return Level.TOO_FEW
        if self.index < max(MODERATE, self.chance):
            return Level.NONE
        return Level.MAJOR if self.index >= MAJOR else Level.MODERATE


class Durations(NamedTuple):
    """How long pods have run.

    Attributes:
        seconds: (P,) until they ended, or until now.
        ended: (P,) whether they have ended.
    """

    seconds: FloatArray
    ended: BoolArray

    def longer(self, seconds: FloatArray) -> FloatArray:
        """The share of pods that run longer than each of these times; one at the least."""
        return scipy.stats.ecdf(scipy.stats.CensoredData.right_censored(self.seconds, ~self.ended)).sf.evaluate(seconds)

    def whole(self) -> FloatArray:
        """As many durations as there are pods, ascending; what nobody has run yet is the largest number."""
        if not self.ended.any():
            return np.empty(0)
        times = np.unique(self.seconds[self.ended])
        over = 1.0 - self.longer(times)
        place = np.searchsorted(over, (np.arange(len(self.seconds)) + 0.5) / len(self.seconds))
        return np.append(times, np.finfo(np.float64).max)[place]


def features_of(
    request: IntArray, gpu_count: IntArray, gpu_milli: IntArray, priority: IntArray
) -> dict[str, FloatArray]:
    """The features that are in a pod itself.

    Args:
        request: (P, R) base units.
        gpu_count: (P,) devices.
        gpu_milli: (P,) thousandths of each.
        priority: (P,).
    """
    return {
        "cpu": request[:, CPU].astype(float),
        "memory": request[:, MEMORY].astype(float),
        "gpus": gpu_count.astype(float),
        "gpu_part": np.minimum(gpu_milli[gpu_count > 0], WHOLE_DEVICE_MILLI).astype(float),
        "priority": priority.astype(float),
    }


def relative_gaps(arrival: FloatArray) -> FloatArray:
    """Times from each pod to the next, over their mean.

    Example:
        >>> relative_gaps(np.array([10.0, 11.0, 14.0])).tolist()
        [0.5, 1.5]
    """
    gaps = np.diff(np.sort(arrival))
    mean = gaps.mean() if len(gaps) else 0.0
    return gaps / mean if mean > 0 else np.empty(0)


def features_of_workloads(workloads: Sequence[Workload], timed: bool = True) -> dict[str, FloatArray]:
    """All features of these episodes' pods.

    Args:
        workloads: the episodes.
        timed: whether durations and arrivals mean anything.
    """
    parts: list[dict[str, FloatArray]] = []
    for workload in workloads:
        shapes, shape = workload.shapes, workload.shape
        found = features_of(shapes.request[shape], shapes.gpu_count[shape], shapes.gpu_milli[shape], workload.priority)
        if timed:
            found |= {"duration": workload.duration, "interarrival": relative_gaps(workload.arrival)}
        parts.append(found)
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def histograms(features: Mapping[str, FloatArray]) -> dict[str, FeatureHistogram]:
    """A histogram of each feature that any pod has."""
    return {name: histogram(values) for name, values in features.items() if len(values)}


def histogram(values: FloatArray) -> FeatureHistogram:
    """Bins by these values, and the share of each.

    Values that many pods have are bins of their own; the rest is cut into bins of about a tenth of all pods each.

    Args:
        values: (P,), at least one.

    Example:
        >>> found = histogram(np.array([0.0] * 30 + [1.0] * 10))
        >>> [share for share in found.shares if share]
        [0.75, 0.25]
    """
    distinct, counts = np.unique(values, return_counts=True)
    atoms = distinct[counts >= ATOM * len(values)]
    rest = values[~np.isin(values, atoms)]
    parts = max(1, round(BINS * len(rest) / len(values)))
    inner = np.quantile(rest, np.arange(1, parts) / parts) if len(rest) else np.empty(0)
    edges = np.unique(np.concatenate([np.nextafter(atoms, -np.inf), atoms, inner]))
    return FeatureHistogram(tuple(edges.tolist()), tuple((_counts(edges, values) / len(values)).tolist()), len(values))


def drift(reference: FeatureHistogram, values: FloatArray) -> Drift:
    """How far these values are from the reference; a bin that is empty on one side counts as half a pod there.

    Args:
        reference: what was trained on.
        values: (P,), at least one.

    Example:
        >>> known = histogram(np.arange(1000.0))
        >>> round(drift(known, np.arange(1000.0)).index, 3), drift(known, np.arange(1000.0) + 200.0).level.value
        (0.0, 'major')
    """
    counts = _counts(np.array(reference.edges), values)
    return _drift(counts / len(values), np.array(reference.shares), len(values), reference.pods)


def _drift(here: FloatArray, there: FloatArray, pods: float, reference_pods: int) -> Drift:
    """The index of the shares of the bins, and what chance makes of so many pods."""
    used = (here > 0) | (there > 0)
    one = np.maximum(here[used], 0.5 / pods)
    other = np.maximum(there[used], 0.5 / reference_pods)
    index = float(np.sum((one - other) * np.log(one / other)))
    free = max(int(used.sum()) - 1, 1)
    return Drift(index, float(scipy.stats.chi2.ppf(CHANCE, free) * (1 / pods + 1 / reference_pods)), round(pods))


def duration_drift(reference: FeatureHistogram, durations: Durations) -> Drift:
    """How far durations are from the reference of which some are not over yet.

    Bounds of bins that too few pods were seen to reach are left out, so that the last bin is all that is longer. Pods
    that were cut off count for less than one: for as many as would tell the shares of the bins as exactly (Greenwood's
    variance, "The Errors of Sampling of the Survivorship Tables", 1926).

    Args:
        reference: what was trained on.
        durations: of one pod at the least.
    """
    seconds, ended = durations
    edges = np.array(reference.edges)
    beyond = (seconds > edges[:, None]).sum(axis=1)
    cut_off = (~ended & (seconds <= edges[:, None])).any(axis=1)
    told = edges[(beyond >= RUNNING_AT_LEAST) | ~cut_off]
    pods = _worth(durations, told)
    if not len(told) or ended.sum() < ENDED_AT_LEAST:
        pods = 1.0
    shares = np.array(reference.shares)
    there = np.append(shares[: len(told)], shares[len(told) :].sum())
    here = -np.diff(np.concatenate([[1.0], durations.longer(told) if len(told) else [], [0.0]]))
    return _drift(here, there, pods, reference.pods)._replace(pods=len(seconds))


def _worth(durations: Durations, bounds: FloatArray) -> float:
    """How many pods that have ended would tell the share below each of these bounds as exactly; at least 1."""
    seconds, ended = durations
    times, number = np.unique(seconds[ended], return_counts=True)
    at_risk = len(seconds) - np.searchsorted(np.sort(seconds), times)
    left = at_risk - number
    terms = np.divide(number, at_risk * left, out=np.zeros(len(times)), where=left > 0)
    summed = np.append(0.0, np.cumsum(terms))[np.searchsorted(times, bounds, side="right")]
    longer = durations.longer(bounds) if len(bounds) else np.empty(0)
    known = (longer > 0) & (longer < 1)
    worth = (1.0 - longer[known]) / (longer[known] * summed[known])
    return float(np.clip(worth.min(initial=len(seconds)), 1.0, len(seconds)))


def drifts(
    reference: Mapping[str, FeatureHistogram],
    features: Mapping[str, FloatArray],
    durations: Durations | None = None,
) -> dict[str, Drift]:
    """The drift of every feature that both sides have, in the order of `FEATURES`.

    Args:
        reference: what was trained on.
        features: of the pods that are looked at.
        durations: the same pods', where some have not ended.
    """
    found = {name: drift(reference[name], features[name]) for name in reference if len(features.get(name, ()))}
    if durations is not None and "duration" in reference and len(durations.seconds):
        found["duration"] = duration_drift(reference["duration"], durations)
    return {name: found[name] for name in FEATURES if name in found}


def _counts(edges: FloatArray, values: FloatArray) -> FloatArray:
    """How many values are in each bin; a bin ends with its upper edge."""
    return np.bincount(np.searchsorted(edges, values, side="left"), minlength=len(edges) + 1).astype(float)
