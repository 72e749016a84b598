from dataclasses import replace

import numpy as np
import pytest

from training.workloads.arrivals import ArrivalProcess
from training.workloads.base import Population
from training.workloads.generated import GeneratorArguments, generate_population
from training.workloads.periods import select
from training.workloads.refit import Refit, refit
from training.workloads.synthetic import generate_population as openb_like

HOUR, DAY = 3600.0, 86400.0


def recorded(population: Population, seconds: float = 20_000.0) -> Population:
    """The pods of a population, as if they had come one after the other."""
    arrival = np.sort(np.random.default_rng(7).random(len(population.shape))) * seconds
    return replace(population, arrival=arrival, rhythm=population.rhythm._replace(gap_variation=1.0))


def apart(fitted: Refit, feature: str) -> float:
    [found] = [each.distance for each in fitted.distances if each.feature == feature]
    return found


@pytest.fixture(scope="module")
def usual() -> Population:
    return recorded(openb_like(np.random.default_rng(0)))


def test_what_is_generated_is_close_to_what_was_recorded(usual: Population) -> None:
    fitted = refit(usual)
    for feature in ("class of pods", "part of a shared GPU", "priority", "GPUs of a node", "CPU of a node, cores"):
        assert apart(fitted, feature) < 0.1, feature
    assert apart(fitted, "duration, s") < 0.15
    assert apart(fitted, "CPU of a pod, cores") < 0.35  # the recorded pods have a few round sizes
    assert fitted.farthest.distance == max(each.distance for each in fitted.distances)


@pytest.mark.parametrize("milli", [[100], [700, 900]])
def test_other_sizes_of_shared_gpus_are_followed(milli: list[int]) -> None:
    shifted = recorded(generate_population(GeneratorArguments(nodes=50, pods=2000, shared_gpu_milli=milli)))
    fitted = refit(shifted)
    assert set(fitted.generator.shared_gpu_milli) == set(milli)
    assert apart(fitted, "part of a shared GPU") < 0.25


def test_other_durations_classes_and_priorities_are_followed(usual: Population) -> None:
    kept = usual.shapes.classes[usual.shape] != 1
    columns = {name: getattr(usual, name)[kept] for name in ("shape", "arrival", "expected")}
    durations = usual.duration[kept] * 5.0
    shifted = replace(usual, **columns, duration=durations, priority=np.full(int(kept.sum()), 7))
    before, after = refit(usual).generator, refit(shifted).generator
    assert after.duration_median_seconds == pytest.approx(float(np.median(durations)))
    assert after.duration_median_seconds > 3.0 * before.duration_median_seconds
    assert (before.shared_gpu_share > 0.3, after.shared_gpu_share) == (True, 0.0)
    assert (after.priorities, after.priority_shares) == ([7], [1.0])


def test_kinds_of_pods_that_run_alike_are_told_from_those_that_do_not(usual: Population) -> None:
    one_for_each = 100.0 + 50.0 * usual.shape
    assert refit(replace(usual, duration=one_for_each)).generator.duration_similarity > 0.95
    shuffled = np.random.default_rng(0).permutation(one_for_each)
    assert refit(replace(usual, duration=shuffled)).generator.duration_similarity < 0.1


def test_the_heavier_tail_gives_the_law() -> None:
    generator = np.random.default_rng(0)
    population = generate_population(GeneratorArguments(nodes=20, pods=3000))
    pareto = recorded(replace(population, duration=100.0 * (1.0 + generator.pareto(1.5, 3000))))
    fitted = refit(pareto).generator
    assert fitted.duration_law == "pareto"
    assert fitted.duration_tail == pytest.approx(1.5, rel=0.15)
    log_normal = recorded(replace(population, duration=generator.lognormal(5.0, 1.2, 3000)))
    fitted = refit(log_normal).generator
    assert (fitted.duration_law, fitted.duration_sigma) == ("lognormal", pytest.approx(1.2, rel=0.1))


def test_days_with_busy_hours_are_diurnal_and_part_of_a_day_says_nothing_of_it(usual: Population) -> None:
    generator = np.random.default_rng(0)
    hours = np.arange(72)
    weights = 1.0 + 0.6 * np.cos(2 * np.pi * (hours + 0.5 - 9.0) / 24.0)
    hour = generator.choice(hours, size=len(usual.shape), p=weights / weights.sum())
    arrival = np.sort(hour * HOUR + generator.random(len(hour)) * HOUR)
    counts = np.bincount((arrival // HOUR).astype(int) % 24, minlength=24).astype(float)
    daily = refit(replace(usual, arrival=arrival, rhythm=usual.rhythm._replace(hour_weights=counts)))
    assert daily.process is ArrivalProcess.DIURNAL
    assert daily.generator.busiest_hour == pytest.approx(9.0, abs=1.0)
    assert daily.generator.day_contrast == pytest.approx(4.0, rel=0.3)
    assert refit(usual).process is ArrivalProcess.POISSON


@pytest.mark.parametrize("hours", [30, 60])
def test_hours_that_were_recorded_more_often_are_not_busier(usual: Population, hours: int) -> None:
    even = recorded(usual, hours * HOUR)
    assert refit(select(even, [(0.0, 17 * HOUR), (23 * HOUR, hours * HOUR)])).process is ArrivalProcess.POISSON


def test_bursts_are_bursts(usual: Population) -> None:
    bursty = refit(replace(usual, rhythm=usual.rhythm._replace(gap_variation=6.0)))
    assert (bursty.process, bursty.generator.gap_variation) == (ArrivalProcess.BURSTY, 6.0)


def test_a_cluster_without_gpus_and_pods_alike_can_be_fitted() -> None:
    plain = generate_population(GeneratorArguments(nodes=5, pods=50, gpu_pod_share=0.0, gpu_node_share=0.0))
    alike = recorded(replace(plain, shape=np.zeros_like(plain.shape), duration=np.full(50, 60.0)))
    fitted = refit(alike)
    assert (fitted.generator.gpu_pod_share, fitted.generator.templates) == (0.0, 1)
    assert apart(fitted, "duration, s") == 0.0
