from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.training.populations import population_of
from training.randomisation import EnvArguments, workload_source
from training.simulator.episodes import allocate, load, sizes_of
from training.simulator.scheduling import SchedulerArguments, order_of, settings_of
from training.simulator.views import view
from training.workloads.base import NothingFitsError, typical_pods
from training.workloads.generated import GeneratorArguments, generate_population
from training.workloads.recipe import RemixArguments
from training.workloads.selection import WorkloadArguments

POPULATION = generate_population(GeneratorArguments(nodes=50, pods=3000, templates=40))
WORKLOAD = WorkloadArguments()
FIXED = EnvArguments(nodes=12, pods=30)
RANDOM = replace(FIXED, nodes_lowest=3, remixes=6)


def drawn(arguments: EnvArguments, count: int = 60, seed: int = 0) -> list:
    source = workload_source(arguments, POPULATION, WORKLOAD, seed)
    generator = np.random.default_rng(1)
    return [source(generator) for _ in range(count)]


def test_by_default_every_episode_has_all_nodes_and_pods_of_the_population_itself():
    for workload in drawn(FIXED):
        assert len(workload.allocatable) == 12
        assert workload.shapes is POPULATION.shapes


def test_numbers_of_nodes_are_spread_evenly_by_their_logarithm():
    counts = np.array([len(workload.allocatable) for workload in drawn(replace(FIXED, nodes_lowest=3), 400)])
    assert set(counts) == set(range(3, 13))
    assert np.mean(counts < 6) == pytest.approx(np.log(5.5 / 3) / np.log(12 / 3), abs=0.08)


def test_more_nodes_at_least_than_at_most_are_as_many_as_at_most():
    assert {len(workload.allocatable) for workload in drawn(replace(FIXED, nodes_lowest=40))} == {12}


def test_a_run_draws_from_so_many_remixes():
    shapes = {id(workload.shapes) for workload in drawn(RANDOM)}
    assert len(shapes) == 6


def test_remixes_depend_on_the_seed_alone():
    def lengths(seed: int) -> list[int]:
        return [len(workload.shapes) for workload in drawn(RANDOM, seed=seed)]

    assert lengths(5) == lengths(5)
    assert lengths(5) != lengths(6)


@given(st.integers(0, 999))
@settings(max_examples=15, deadline=None)
def test_whatever_is_drawn_fits_into_the_arrays(seed):
    arguments = replace(RANDOM, remix=RemixArguments(as_is_chance=0.1))
    source = workload_source(arguments, POPULATION, WORKLOAD, seed)
    episode = view(allocate(1, source.sizes), 0)
    generator = np.random.default_rng(seed)
    for _ in range(10):
        workload = source(generator)
        assert all(needed <= there for needed, there in zip(sizes_of(workload), source.sizes, strict=True))
        load(episode, workload, settings_of(SchedulerArguments(), 12), order_of(workload, "priority"))


def test_typical_pods_are_estimated_anew_for_every_episode_from_its_own_population():
    first, second, *_ = drawn(FIXED)
    everything = typical_pods(POPULATION.shapes, POPULATION.shape)
    assert first.typical.share.tolist() != second.typical.share.tolist()
    assert first.typical.share[0] == pytest.approx(everything.share[0], abs=0.1)
    for workload in drawn(RANDOM, 20):
        known = set(zip(workload.shapes.request[:, 0].tolist(), workload.shapes.gpu_milli.tolist(), strict=True))
        assert set(zip(workload.typical.cpu.tolist(), workload.typical.gpu_milli.tolist(), strict=True)) <= known


def test_nodes_on_which_nothing_fits_are_drawn_again():
    rarely_fits = population_of([(1000, 64, 0)] * 9 + [(4000, 64, 0)], [(2000, 1, 0, 0)])
    source = workload_source(replace(FIXED, nodes=1), rarely_fits, WORKLOAD)
    assert {int(source(np.random.default_rng(seed)).allocatable[0, 0]) for seed in range(20)} == {4000}


def test_nodes_on_which_nothing_ever_fits_are_an_error():
    never_fits = population_of([(1000, 64, 0)], [(2000, 1, 0, 0)])
    with pytest.raises(NothingFitsError, match="none of the pods of by hand fits on any of the 12 drawn nodes"):
        workload_source(FIXED, never_fits, WORKLOAD)(np.random.default_rng(0))
