import numpy as np
import pytest

from extender.placement import CPU, GPU
from training.workloads.base import Population, typical_pods
from training.workloads.openb import read_population
from training.workloads.synthetic import generate_population

LONGEST_SECONDS = 7200.0  # durations beyond are clipped by default


@pytest.fixture(scope="module")
def synthetic() -> Population:
    return generate_population(np.random.default_rng(0))


@pytest.fixture(scope="module")
def openb(openb_traces) -> Population:
    return read_population(openb_traces)


def classes(population: Population) -> np.ndarray:
    return population.shapes.classes[population.shape]


def mean_work(population: Population) -> np.ndarray:
    """What a pod asks for times how long, per resource."""
    seconds = np.minimum(population.duration, LONGEST_SECONDS)
    return (population.shapes.request[population.shape] * seconds[:, None]).mean(axis=0)


def test_the_same_seed_generates_the_same_population(synthetic):
    same = generate_population(np.random.default_rng(0))
    other = generate_population(np.random.default_rng(1))
    np.testing.assert_array_equal(synthetic.duration, same.duration)
    np.testing.assert_array_equal(synthetic.priority, same.priority)
    assert not np.array_equal(synthetic.duration, other.duration)


def test_every_pod_fits_on_some_node(synthetic):
    allocatable, devices = synthetic.allocatable, synthetic.devices
    assert np.all(synthetic.shapes.fitting_somewhere(allocatable, devices, synthetic.admits))


def test_durations_are_finite_and_positive(synthetic):
    assert np.all(np.isfinite(synthetic.duration))
    assert np.all(synthetic.duration > 0)


def test_the_nodes_are_openbs(synthetic, openb):
    def inventory(population: Population) -> list:
        return sorted(map(tuple, population.allocatable.tolist()))

    assert inventory(synthetic) == inventory(openb)


def test_the_classes_of_pods_are_as_frequent_as_in_openb(synthetic, openb):
    def shares(population: Population) -> np.ndarray:
        return np.bincount(classes(population), minlength=4) / len(population.shape)

    assert shares(synthetic) == pytest.approx(shares(openb), abs=0.02)


def test_pods_ask_for_as_much_as_in_openb(synthetic, openb):
    def mean_request(population: Population) -> np.ndarray:
        return population.shapes.request[population.shape].mean(axis=0)

    assert mean_request(synthetic) == pytest.approx(mean_request(openb), rel=0.05)


def test_every_shape_is_one_of_openbs(synthetic, openb):
    assert {tuple(row) for row in synthetic.shapes.request.tolist()} <= {
        tuple(row) for row in openb.shapes.request.tolist()
    }


@pytest.mark.parametrize("index", range(4), ids=["no-gpu", "part", "one", "several"])
@pytest.mark.parametrize("quantile", [0.25, 0.5, 0.75])
def test_durations_spread_as_in_openb(synthetic, openb, index, quantile):
    generated, observed = (
        np.log(np.quantile(population.duration[classes(population) == index], quantile))
        for population in (synthetic, openb)
    )
    few = index == 3  # 75 pods
    assert generated == pytest.approx(observed, abs=np.log(2.0 if few else 1.25))


def test_the_work_per_pod_is_openbs(synthetic, openb):
    relative = mean_work(synthetic) / mean_work(openb)
    assert relative[[CPU, GPU]] == pytest.approx(1.0, rel=0.12)


def test_best_effort_is_as_frequent_as_in_openb(synthetic, openb):
    for index in range(4):
        generated, observed = (
            np.mean(population.priority[classes(population) == index] == 0) for population in (synthetic, openb)
        )
        assert generated == pytest.approx(observed, abs=0.03)


def test_arrivals_have_openbs_rhythm(synthetic, openb):
    np.testing.assert_array_equal(synthetic.rhythm.hour_weights, openb.rhythm.hour_weights)
    assert synthetic.rhythm.gap_variation == pytest.approx(openb.rhythm.gap_variation, rel=0.02)


def test_typical_pods_want_the_same_share_of_gpus_as_in_openb(synthetic, openb):
    def wanted(population: Population) -> float:
        typical = typical_pods(population.shapes, population.shape)
        return float((typical.share * typical.gpu_count * typical.gpu_milli).sum())

    assert wanted(synthetic) == pytest.approx(wanted(openb), rel=0.05)
