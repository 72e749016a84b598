from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from extender.admission import ANYWHERE, Constraint, Requirement
from extender.cluster.recent import RecentPods
from extender.placement import CPU, GPU
from extender.typical import typical_arrays
from tests.extender import objects
from tests.training.populations import population_of
from training.workloads import base
from training.workloads.base import (
    BASE_RESOURCES,
    ArrivalProcess,
    Population,
    Workload,
    draw_workload,
    shape_classes,
    typical_pods,
    with_resources,
)
from training.workloads.estimates import DurationKnowledge
from training.workloads.synthetic import generate_population

OPENB_LIKE = generate_population(np.random.default_rng(0))
MANY = 20_000


def draw(population: Population = OPENB_LIKE, seed: int = 0, **changes: object) -> Workload:
    arguments = {
        "nodes": 16,
        "pods": 300,
        "load": 0.9,
        "process": ArrivalProcess.POISSON,
        "shortest_seconds": 30.0,
        "longest_seconds": 7200.0,
    }
    return draw_workload(population, generator=np.random.default_rng(seed), **arguments | changes)


def squared_variation(times: np.ndarray) -> float:
    gaps = np.diff(times)
    return gaps.var() / gaps.mean() ** 2


WITHOUT_A_RECORD = [process for process in ArrivalProcess if process is not ArrivalProcess.TRACE]


@given(st.integers(0, 999), st.sampled_from([0.3, 0.9, 1.5]), st.sampled_from(WITHOUT_A_RECORD))
def test_arrivals_ascend(seed, load, process):
    arrival = draw(seed=seed, load=load, process=process).arrival
    assert np.all(np.diff(arrival) >= 0)
    assert arrival[0] >= 0


@pytest.mark.parametrize("load", [0.5, 0.9, 1.3])
def test_the_bottleneck_is_offered_exactly_the_asked_for_load(monkeypatch, load):
    # The last pod arrives at the very end here, which tells how long the arrivals take in all.
    monkeypatch.setattr(base, "arrival_pattern", lambda pods, *rest: np.linspace(0, 1, pods))
    for seed in range(20):
        workload = draw(seed=seed, load=load)
        work = (workload.shapes.request[workload.shape] * workload.duration[:, None]).sum(axis=0)
        capacity = workload.allocatable.sum(axis=0) * workload.arrival[-1]
        offered = work[capacity > 0] / capacity[capacity > 0]
        assert offered.max() == pytest.approx(load)


def test_pods_that_fit_on_no_drawn_node_are_never_drawn():
    population = population_of(
        [(4000, 64, 1), (64000, 64, 0)], [(32000, 1, 0, 0), (32000, 1, 1, 1000), (1000, 1, 0, 0)]
    )
    for seed in range(20):
        workload = draw(population, seed, nodes=1, pods=50)
        for request, gpu_count in zip(workload.shapes.request, workload.shapes.gpu_count, strict=True):
            drawn = np.any(np.all(workload.shapes.request[workload.shape] == request, axis=1))
            fits = np.any(np.all(workload.allocatable >= request, axis=1) & (workload.devices >= gpu_count))
            assert fits or not drawn
        assert np.any(workload.shape == 0)  # but what fits is


def test_as_much_gpu_on_too_few_devices_does_not_fit():
    for count, fits in ((1, [False]), (2, [True])):
        population = population_of([(8000, 64, count)], [(1000, 1, 2, 500)])
        shapes, admits = population.shapes, population.admits
        assert shapes.fitting_somewhere(population.allocatable, population.devices, admits).tolist() == fits


def test_pods_that_no_drawn_node_admits_are_never_drawn():
    population = population_of(
        [(8000, 64, 0), (8000, 64, 0)],
        [(1000, 1, 0, 0), (2000, 1, 0, 0)],
        constraints=np.array([0, 1]),
        admitted=np.array([[True, False], [False, True]]),
    )
    for seed in range(20):
        workload = draw(population, seed, nodes=1, pods=20)
        assert np.all(workload.admits[workload.shape].any(axis=1))
        assert len(set(workload.shape)) == 1


def test_a_pod_that_fits_on_no_drawn_node_at_all_is_an_error():
    population = population_of([(4000, 64, 0)], [(8000, 1, 0, 0)])
    with pytest.raises(ValueError, match="none of the pods of by hand fits on any of the 1 drawn nodes; draw more"):
        draw(population, nodes=1)


def test_nodes_are_drawn_without_replacement_as_long_as_there_are_enough():
    nodes = [(1000 * (number + 1), 64, 0) for number in range(10)]
    population = population_of(nodes, [(1000, 1, 0, 0)])
    assert sorted(draw(population, nodes=10).allocatable[:, CPU]) == [node[0] for node in nodes]
    assert len(draw(population, nodes=25).allocatable) == 25


def test_shape_duration_and_priority_of_a_pod_stay_together():
    population = population_of(
        [(8000, 64, 0)],
        [(1000, 1, 0, 0), (2000, 1, 0, 0)],
        durations=[50.0, 500.0],
        priorities=np.array([0, 1000]),
    )
    workload = draw(population, nodes=1)
    drawn = set(zip(workload.shape.tolist(), workload.duration.tolist(), workload.priority.tolist(), strict=True))
    assert drawn == {(0, 50.0, 0), (1, 500.0, 1000)}


def test_durations_are_clipped():
    population = population_of([(8000, 64, 0)], [(1000, 1, 0, 0)] * 3, durations=[1.0, 100.0, 1e7])
    workload = draw(population, nodes=1, shortest_seconds=30.0, longest_seconds=600.0)
    assert set(workload.duration) == {30.0, 100.0, 600.0}


def test_the_same_seed_draws_the_same_workload_and_another_seed_another():
    first, same, other = draw(seed=1), draw(seed=1), draw(seed=2)
    for name in ("allocatable", "shape", "arrival", "duration", "priority"):
        np.testing.assert_array_equal(getattr(first, name), getattr(same, name))
    assert not np.array_equal(first.arrival, other.arrival)


def test_poisson_arrivals_vary_like_a_memoryless_process():
    assert squared_variation(draw(pods=MANY).arrival) == pytest.approx(1.0, rel=0.08)


def test_bursty_arrivals_vary_as_the_population_says():
    arrival = draw(pods=MANY, process=ArrivalProcess.BURSTY).arrival
    assert OPENB_LIKE.rhythm.gap_variation > 1.5
    assert squared_variation(arrival) == pytest.approx(OPENB_LIKE.rhythm.gap_variation, rel=0.1)


def test_typical_pods_are_the_most_frequent_ones_that_cover_95_percent():
    pods = [(1000, 1, 0, 0)] * 60 + [(2000, 1, 1, 500)] * 30 + [(3000, 1, 1, 1000)] * 6 + [(4000, 1, 0, 0)] * 4
    population = population_of([(8000, 64, 8)], pods)
    typical = typical_pods(population.shapes, population.shape)
    assert sorted(typical.cpu) == [1000, 2000, 3000]
    assert typical.share.sum() == pytest.approx(1.0)
    shares = dict(zip(typical.cpu.tolist(), typical.share.tolist(), strict=True))
    assert shares == pytest.approx({1000: 60 / 96, 2000: 30 / 96, 3000: 6 / 96})


def test_pods_that_differ_in_memory_only_are_one_typical_pod():
    population = population_of([(8000, 64, 0)], [(1000, 1, 0, 0), (1000, 2, 0, 0)])
    assert typical_pods(population.shapes, population.shape).share.tolist() == [1.0]


def test_pods_for_different_gpu_models_are_different_typical_pods():
    population = population_of(
        [(8000, 64, 1), (8000, 64, 1)],
        [(1000, 1, 1, 1000)] * 3,
        models=["T4", "A10"],
        constraints=np.array([0, 1, 1]),
        admitted=np.array([[True, True], [True, False]]),
    )
    typical = typical_pods(population.shapes, population.shape)
    by_share = dict(zip(typical.share.tolist(), typical.admits.tolist(), strict=True))
    assert population.models == ("", "A10", "T4")
    assert by_share == {2 / 3: [False, False, True], 1 / 3: [True, True, True]}


def test_typical_pods_are_estimated_from_as_many_recent_pods():
    population = population_of([(8000, 64, 0)], [(1000, 1, 0, 0)] * 3 + [(2000, 1, 0, 0)])
    shares = [draw(population, seed, nodes=1, recent=8).typical.share for seed in range(300)]
    of_smaller = np.array([share[0] if len(share) > 1 else 1.0 for share in shares])
    assert np.all(of_smaller * 8 % 1 == 0)
    assert len(set(of_smaller)) > 2
    assert draw(population, 0, nodes=1).typical.share.tolist() == [0.75, 0.25]


def test_recent_pods_of_a_recorded_trace_are_of_its_days():
    pods = [(1000, 1, 0, 0)] * 10 + [(2000, 1, 0, 0)] * 10
    arrivals = [86400.0 * day + 100.0 * number for day in range(4) for number in range(5)]
    population = population_of([(8000, 64, 0)], pods, arrivals=arrivals)
    drawn = draw(population, nodes=1, recent=5, process=ArrivalProcess.TRACE)  # one day's
    assert drawn.typical.share.tolist() == [1.0]


def test_typical_pods_are_capped():
    population = population_of([(8000, 64, 0)], [(1000 + number, 1, 0, 0) for number in range(100)])
    typical = typical_pods(population.shapes, population.shape, at_most=48)
    assert len(typical.share) == 48
    assert typical.share.sum() == pytest.approx(1.0)


@pytest.mark.parametrize("count", [3, 4, 8, 16])
def test_a_population_is_widened_to_any_number_of_resources_up_to_16(count):
    wide = with_resources(OPENB_LIKE, count, np.random.default_rng(0))
    assert len(wide.resources) == len(set(wide.resources)) == count
    assert wide.resources[:3] == BASE_RESOURCES
    assert wide.allocatable.shape == (len(OPENB_LIKE.devices), count)
    assert wide.shapes.request.shape == (len(OPENB_LIKE.shapes), count)
    np.testing.assert_array_equal(wide.allocatable[:, :3], OPENB_LIKE.allocatable)
    np.testing.assert_array_equal(wide.shapes.request[:, :3], OPENB_LIKE.shapes.request)
    workload = draw(wide, nodes=32)
    assert workload.resources == wide.resources
    assert np.all(workload.shapes.request[:, 3:] >= 1)


def test_further_resources_are_asked_for_along_with_cpu():
    wide = with_resources(OPENB_LIKE, 6, np.random.default_rng(0))
    for resource in range(3, 6):
        assert np.corrcoef(np.log(wide.shapes.request[:, [CPU, resource]].T))[0, 1] > 0.5


def test_a_wide_population_is_narrowed_to_the_first_three():
    wide = with_resources(OPENB_LIKE, 6, np.random.default_rng(0))
    narrow = with_resources(wide, 3, np.random.default_rng(0))
    assert narrow.resources == BASE_RESOURCES
    np.testing.assert_array_equal(narrow.shapes.request, OPENB_LIKE.shapes.request)


@pytest.mark.parametrize("count", [1, 17])
def test_other_numbers_of_resources_are_refused(count):
    with pytest.raises(ValueError, match=f"2 to 16 resources .* not {count}"):
        with_resources(OPENB_LIKE, count, np.random.default_rng(0))


def test_two_resources_are_a_cluster_without_gpus_and_pods_that_ask_for_none():
    narrow = with_resources(OPENB_LIKE, 2, np.random.default_rng(0))
    assert narrow.resources == BASE_RESOURCES
    assert not narrow.allocatable[:, GPU].any()
    assert not narrow.devices.any()
    assert not narrow.shapes.gpu_count[narrow.shape].any()
    assert len(narrow.shape) == len(narrow.duration) == len(narrow.priority) == len(narrow.expected) > 0


def test_two_resources_are_too_few_where_every_pod_asks_for_a_gpu():
    population = population_of([(8000, 64, 1)], [(1000, 1, 1, 1000)])
    with pytest.raises(ValueError, match="every pod of by hand asks for a GPU"):
        with_resources(population, 2, np.random.default_rng(0))


def test_classes_are_without_part_of_one_and_several_devices():
    assert shape_classes(np.array([0, 1, 1, 4]), np.array([0, 999, 1000, 1000])).tolist() == [0, 1, 2, 3]


def test_arrivals_as_in_the_trace_need_a_trace():
    with pytest.raises(ValueError, match="has no arrival times: process=trace needs a recorded trace"):
        draw(process=ArrivalProcess.TRACE)


RECORDED = population_of(
    [(8000, 64, 0)],
    [(1000 * (1 + number % 4), 1, 0, 0) for number in range(400)],
    durations=[50.0 + number for number in range(400)],
    arrivals=[3600.0 * number for number in range(400)],
)


def test_pods_of_a_trace_keep_their_shape_and_duration():
    workload = draw(RECORDED, nodes=1, process=ArrivalProcess.TRACE)
    number = (workload.duration - 50.0).astype(int)
    assert workload.shape.tolist() == RECORDED.shape[number].tolist()


def test_the_arrivals_of_a_trace_are_spaced_for_the_asked_for_load():
    workload = draw(RECORDED, nodes=1, pods=240, load=0.5, process=ArrivalProcess.TRACE)
    work = workload.shapes.request[workload.shape, CPU] @ workload.duration
    assert work / 8000 / (workload.arrival[-1] + workload.arrival[1]) == pytest.approx(0.5)


def test_with_the_same_seed_the_same_days_are_drawn():
    first, same, other = (draw(RECORDED, seed, nodes=1, process=ArrivalProcess.TRACE) for seed in (1, 1, 2))
    assert first.duration.tolist() == same.duration.tolist()
    assert first.duration.tolist() != other.duration.tolist()


@pytest.mark.parametrize("process", [ArrivalProcess.POISSON, ArrivalProcess.DIURNAL])
def test_what_is_known_of_durations_changes_nothing_else(process):
    plain, *others = (draw(process=process, knowledge=knowledge) for knowledge in DurationKnowledge)
    for other in others:
        for name in ("shape", "arrival", "duration", "priority"):
            np.testing.assert_array_equal(getattr(plain, name), getattr(other, name))


def test_durations_are_unknown_unless_they_are_to_be_known():
    assert not draw().expected.any()
    exact = draw(knowledge=DurationKnowledge.EXACT)
    np.testing.assert_array_equal(exact.expected, exact.duration)


def test_recorded_announcements_stay_with_their_pods():
    population = replace(RECORDED, expected=RECORDED.duration * 2)
    workload = draw(population, nodes=1, knowledge=DurationKnowledge.RECORDED)
    np.testing.assert_array_equal(workload.expected, 2 * workload.duration)


def test_estimates_are_right_in_order_of_magnitude_and_one_in_ten_is_wildly_wrong():
    population = population_of([(8000, 64, 0)], [(1000, 1, 0, 0)] * 9, durations=[100.0] * 9)
    workload = draw(population, nodes=1, pods=MANY, knowledge=DurationKnowledge.ESTIMATED)
    factor = np.abs(np.log10(workload.expected / workload.duration))
    assert np.mean(factor > 0.8) == pytest.approx(0.1, abs=0.01)
    assert np.median(factor) < 0.25


def test_the_extender_estimates_the_same_typical_pods_from_the_pods_that_it_sees():
    random = np.random.default_rng(3)
    kinds = [
        (1000, 1, 0, 0),
        (2000, 1, 1, 500),
        (4000, 1, 1, 1000),
        (500, 1, 1, 250),
        (9000, 1, 4, 1000),
    ]
    kind = random.choice(len(kinds), 600, p=[0.3, 0.25, 0.2, 0.15, 0.1])
    constraint = np.where((random.random(600) < 0.3) & (kind > 0), 1, 0)
    population = population_of(
        [(8000, 64, 1), (8000, 64, 1)],
        [kinds[at] for at in kind],
        models=["T4", "A10"],
        constraints=constraint,
        admitted=np.array([[True, True], [True, False]]),
    )
    recent = RecentPods()
    for model in ("T4", "A10"):
        recent.node_seen({"model": model}, model)
    wants_t4 = Constraint(required=(Requirement("model", "In", ("T4",)),))
    for number, (at, which) in enumerate(zip(kind.tolist(), constraint.tolist(), strict=True)):
        cpu, _, count, milli = kinds[at]
        asked = objects.request(cpu, gpu_count=count, gpu_milli=milli)
        recent.pod_seen(f"uid-{number}", number, asked, wants_t4 if which else ANYWHERE)
    estimated, wanted = (
        {tuple(np.hstack(row).tolist()) for row in zip(*typical[:4], typical.admits[:, 1:], strict=True)}
        for typical in (
            typical_arrays(recent.typical(), population.models),
            typical_pods(population.shapes, population.shape),
        )
    )
    assert estimated == wanted
