"""The generator's arguments from a recorded population: so that any number of new workloads are like what came.

Fitted are the shares of the classes of pods, the sizes of shared and of several GPUs, CPU and memory with their spread
and correlation, the law, median and spread of the durations and how alike those of one kind of pods are, the
priorities, the rhythm of the arrivals, and the nodes. The generator knows no more than that: durations that depend on
the class, CPU requests in a few round sizes, nodes whose GPUs go with their cores, come out as if they were
independent. How far apart what was recorded and what is generated are is told feature by feature (`distances`), and of
several generators with the same arguments, which differ in their templates, the one that is closest is taken.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import scipy

from extender.placement import CPU, MEMORY, BoolArray, IntArray
from training.workloads.arrivals import DAY_SECONDS, DAYS_AT_LEAST, ArrivalProcess, FloatArray
from training.workloads.base import Population
from training.workloads.generated import GIB, DurationLaw, GeneratorArguments, generate_population

SEEDS_TRIED = 24
PODS = 4000
TEMPLATES_AT_MOST = 300
VALUES_AT_MOST = 100  # by which the distribution of a size is told
PRIORITIES_AT_MOST = 16
SWING_AT_LEAST = 0.2  # of the arrivals over the day, for a day's rhythm to be worth having
BURSTS_FROM = 1.5  # squared variation of the gaps, from which arrivals count as bursty
SOME = 1e-3
UNNAMED_MODEL = "unknown"
NO_GPU, PART, ONE, SEVERAL = range(4)


@dataclass(frozen=True)
class Distance:
    """How far apart a feature's two distributions are.

    Attributes:
        feature: what is compared.
        recorded: its mean in what was recorded.
        generated: its mean in what is generated.
        distance: 0 for alike, 1 for nothing in common: the largest difference of the distribution functions
            (Kolmogorov and Smirnov), of categories half the sum of the differences of their shares.
    """

    feature: str
    recorded: float
    generated: float
    distance: float


@dataclass(frozen=True)
class Refit:
    """A generator for what was recorded.

    Attributes:
        generator: its arguments.
        process: how pods arrive.
        shortest_seconds: durations are clipped to at least this.
        longest_seconds: and to at most this.
        distances: by feature.
    """

    generator: GeneratorArguments
    process: ArrivalProcess
    shortest_seconds: float
    longest_seconds: float
    distances: list[Distance]

    @property
    def farthest(self) -> Distance:
        """The feature that is carried worst."""
        return max(self.distances, key=lambda each: each.distance)


def refit(population: Population, report: Callable[[int, int], None] = lambda done, total: None) -> Refit:
    """Fit the generator.

    Args:
        population: what was recorded.
        report: told how many generators were tried, of how many.
    """
    arguments = replace(_pods(population), **_nodes(population))
    process, rhythm = _rhythm(population)
    arguments = replace(arguments, **rhythm)
    shortest, longest = float(population.duration.min()), float(population.duration.max())
    tried = []
    for seed in range(SEEDS_TRIED):
        seeded = replace(arguments, seed=seed)
        generated = generate_population(seeded)
        clipped = replace(generated, duration=np.clip(generated.duration, shortest, longest))
        tried.append((seeded, distances(population, clipped)))
        report(seed + 1, SEEDS_TRIED)
    best, apart = min(tried, key=lambda each: sum(distance.distance for distance in each[1]))
    return Refit(best, process, shortest, longest, apart)


def distances(recorded: Population, generated: Population) -> list[Distance]:
    """How far two populations are apart, feature by feature; what only one of them has is at distance 1."""
    ours, theirs = _features(recorded), _features(generated)
    found = []
    for name in ours:
        one, other = ours[name], theirs[name]
        if len(one) == 0 and len(other) == 0:
            continue
        if len(one) == 0 or len(other) == 0:
            distance = 1.0
        elif name in CATEGORIES:
            distance = _total_variation(one, other)
        else:
            distance = float(scipy.stats.ks_2samp(one, other, method="asymp").statistic)
        found.append(Distance(name, _mean(one), _mean(other), distance))
    return found


CATEGORIES = frozenset({"class of pods", "priority"})


def _features(population: Population) -> dict[str, FloatArray]:
    request, shape = population.shapes.request, population.shape
    classes = population.shapes.classes[shape]
    milli = population.shapes.gpu_milli[shape]
    count = population.shapes.gpu_count[shape]
    columns = {
        "class of pods": classes,
        "CPU of a pod, cores": request[shape, CPU] / 1000,
        "memory of a pod, GiB": request[shape, MEMORY] / GIB,
        "part of a shared GPU": milli[classes == PART] / 1000,
        "GPUs of a pod with several": count[classes == SEVERAL],
        "duration, s": population.duration,
        "duration of GPU pods, s": population.duration[classes != NO_GPU],
        "priority": population.priority,
        "CPU of a node, cores": population.allocatable[:, CPU] / 1000,
        "memory of a node, GiB": population.allocatable[:, MEMORY] / GIB,
        "GPUs of a node": population.devices,
    }
    return {name: np.asarray(values, np.float64) for name, values in columns.items()}


def _pods(population: Population) -> GeneratorArguments:
    shapes, shape = population.shapes, population.shape
    classes = shapes.classes[shape]
    with_gpu = classes != NO_GPU
    request = shapes.request[shape]
    cpu = np.log(np.maximum(request[:, CPU], 1) / 1000)
    memory = np.log(np.maximum(request[:, MEMORY], 1))
    logarithm = np.log(np.maximum(population.duration, SOME))
    law, median, sigma, tail = _law(population.duration)
    values, counts = np.unique(population.priority, return_counts=True)
    kept = np.sort(np.argsort(-counts, kind="stable")[:PRIORITIES_AT_MOST])
    return GeneratorArguments(
        pods=max(PODS, len(shape)),
        templates=int(np.clip(len(np.unique(shape)), 1, TEMPLATES_AT_MOST)),
        pools=1,
        cores_median=float(np.clip(np.exp(np.median(cpu)), SOME, 1024)),
        pod_gib_per_core=float(np.clip(np.exp(np.median(memory) - np.median(cpu)) / GIB, SOME, 1024)),
        request_sigma=float(np.clip(cpu.std(), 0, 4)),
        request_correlation=_correlation(cpu, memory),
        gpu_pod_share=float(with_gpu.mean()),
        shared_gpu_share=_share(classes == PART, with_gpu),
        several_gpus_share=_share(classes == SEVERAL, with_gpu),
        shared_gpu_milli=_values(shapes.gpu_milli[shape[classes == PART]]) or GeneratorArguments().shared_gpu_milli,
        several_gpus=_values(shapes.gpu_count[shape[classes == SEVERAL]]),
        model_selector_share=0.0,
        pool_selector_share=0.0,
        duration_law=law.value,
        duration_median_seconds=median,
        duration_sigma=sigma,
        duration_tail=tail,
        duration_similarity=_similarity(logarithm, shape),
        priorities=values[kept].tolist(),
        priority_shares=(counts[kept] / counts[kept].sum()).tolist(),
    )


def _nodes(population: Population) -> dict[str, object]:
    devices = population.devices
    cores = np.maximum(np.rint(population.allocatable[:, CPU] / 1000).astype(np.int64), 1)
    gib = population.allocatable[:, MEMORY] / GIB
    per_core = float(np.clip(np.median(gib / cores), SOME, 1024))
    names = [name for name in population.models if name]
    return {
        "nodes": len(devices),
        "node_cores": _values(cores),
        "gib_per_core": per_core,
        "gpu_node_share": float((devices > 0).mean()),
        "gpus_per_node": _values(devices[devices > 0]) or [1],
        "gpu_models": names or [UNNAMED_MODEL],
    }


def _rhythm(population: Population) -> tuple[ArrivalProcess, dict[str, object]]:
    """How pods arrive: by the hours of the day where there are whole days and they matter, in bursts, or at random."""
    assert population.arrival is not None
    variation = float(np.clip(population.rhythm.gap_variation, SOME, 1000))
    weights = population.rhythm.hour_weights
    span = float(population.arrival.max() - population.arrival.min())
    if span >= DAYS_AT_LEAST * DAY_SECONDS and weights.sum() > 0:
        turn = np.exp(2j * np.pi * (np.arange(24) + 0.5) / 24.0)
        wave = complex(2.0 * (weights / weights.sum() * turn).sum())
        swing = min(abs(wave), 0.99)
        if swing >= SWING_AT_LEAST:
            hour = float(np.angle(wave) / (2 * np.pi) * 24.0 % 24.0)
            contrast = float(np.clip((1 + swing) / (1 - swing), 1, 1000))
            return ArrivalProcess.DIURNAL, {"busiest_hour": hour % 24, "day_contrast": contrast}
    process = ArrivalProcess.BURSTY if variation >= BURSTS_FROM else ArrivalProcess.POISSON
    return process, {"gap_variation": variation}


def _law(duration: FloatArray) -> tuple[DurationLaw, float, float, float]:
    """The law that is closer to the durations, their median, the log-normal's spread and the Pareto's exponent."""
    median = float(np.clip(np.median(duration), SOME, 1e8))
    logarithm = np.log(np.maximum(duration, SOME) / median)
    sigma = float(np.clip(logarithm.std(), 0.0, 5.0))
    above = logarithm[logarithm > 0]
    tail = float(np.clip(1.0 / max(above.mean(), 0.1), 0.1, 10.0)) if len(above) else 10.0
    ordered = np.sort(logarithm)
    empirical = (np.arange(len(ordered)) + 0.5) / len(ordered)
    normal = scipy.special.ndtr(ordered / max(sigma, SOME))
    pareto = 1.0 - np.minimum(0.5 * np.exp(-tail * ordered), 1.0)
    closer = np.abs(normal - empirical).max() <= np.abs(pareto - empirical).max()
    return DurationLaw.LOG_NORMAL if closer else DurationLaw.PARETO, median, sigma, tail


def _similarity(logarithm: FloatArray, shape: IntArray) -> float:
    """Which part of the spread of the durations lies between the kinds of pods."""
    whole = logarithm.var()
    if whole == 0:
        return 0.0
    _, kind, counts = np.unique(shape, return_inverse=True, return_counts=True)
    kind = kind.reshape(-1)
    means = np.bincount(kind, weights=logarithm) / counts
    # Of kinds with few pods the means differ by chance alone: what is within them is divided by their freedom.
    freedom = len(logarithm) - len(counts)
    if freedom <= 0:
        return 0.0
    within = float(((logarithm - means[kind]) ** 2).sum() / freedom)
    return float(np.clip(1.0 - within / whole, 0.0, 1.0))


def _values(values: IntArray) -> list[int]:
    """A few values with the distribution of many, for where each of a list is equally frequent."""
    if len(values) <= VALUES_AT_MOST:
        return np.sort(values).tolist()
    positions = (np.arange(VALUES_AT_MOST) + 0.5) / VALUES_AT_MOST
    return np.quantile(values, positions, method="inverted_cdf").astype(np.int64).tolist()


def _share(part: BoolArray, whole: BoolArray) -> float:
    return float(part.sum() / whole.sum()) if whole.any() else 0.0


def _correlation(one: FloatArray, other: FloatArray) -> float:
    if one.std() == 0 or other.std() == 0:
        return 0.0
    return float(np.clip(np.corrcoef(one, other)[0, 1], 0.0, 1.0))


def _total_variation(one: FloatArray, other: FloatArray) -> float:
    values = np.union1d(one, other)
    shares = [np.array([(each == value).mean() for value in values]) for each in (one, other)]
    return float(np.abs(shares[0] - shares[1]).sum() / 2)


def _mean(values: FloatArray) -> float:
    return float(values.mean()) if len(values) else 0.0
